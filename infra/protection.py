"""What makes data hard to lose: Pulumi's `protect`, and locks that hold in the portal and the CLI too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pulumi
from pulumi_azure_native import authorization

LOCK_NAME = "tensoryard-keep"


def lock(
    holders: Mapping[str, pulumi.Output[str]], after: Sequence[pulumi.Resource], parent: pulumi.Resource
) -> None:
    """
    Put a CanNotDelete lock on each holder of data.

    holders: logical names and ARM ids; after: everything that stands at or below them. A lock also refuses the
    deletion of what is below it, role assignments and diagnostic settings included, so it comes last, and a
    `pulumi destroy` that is meant takes it away first.
    """
    for name, scope in holders.items():
        authorization.ManagementLockByScope(
            f"{name}-lock",
            scope=scope,
            lock_name=LOCK_NAME,
            level="CanNotDelete",
            notes="Holds data. To delete it: docs/infrastructure.md, Tear down",
            opts=pulumi.ResourceOptions(parent=parent, depends_on=list(after)),
        )
