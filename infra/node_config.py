"""
What head and nodes are told at boot.

Custom data is the cloud-config rendered from templates/node: the same for every workspace of a release, because Azure
lets nobody change it on a machine that exists. User data is the workspace's own part, as JSON: Azure lets it be
replaced, and machines read it from the metadata service. Neither holds a secret: both can be read by whoever gets on
to the machine.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from infra.names import MUNGE_SECRET

if TYPE_CHECKING:
    import jinja2

TEMPLATES = Path(__file__).resolve().parent.parent / "templates" / "node"
MOST_BYTES = 65536
"""Most that Azure takes as custom data or as user data, before base64."""

Kind = Literal["head", "worker"]


@dataclass(frozen=True, kw_only=True)
class Context:
    """What the templates may name. daemon: Slurm's on this machine; key_option: an option of tyard-munge-key."""

    packages: tuple[str, ...]
    daemon: str
    key_option: str
    secret: str


CONTEXTS = {
    "head": Context(
        packages=("munge", "chrony", "slurmctld", "slurm-client"),
        daemon="slurmctld",
        key_option="--make",
        secret=MUNGE_SECRET,
    ),
    "worker": Context(
        packages=("munge", "chrony", "slurmd"), daemon="slurmd", key_option="--wait", secret=MUNGE_SECRET
    ),
}


@cache
def templates() -> jinja2.Environment:
    """The templates of templates/node, strict about what they name."""
    import jinja2

    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        undefined=jinja2.StrictUndefined,
        autoescape=False,  # noqa: S701 - it renders YAML and units, not HTML
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def render(kind: Kind, template: str) -> str:
    """One template as it is for the head or for a node; template: its name in templates/node."""
    return templates().get_template(template).render(asdict(CONTEXTS[kind]))


def cloud_config(kind: Kind) -> str:
    """The cloud-config that a machine boots with."""
    return render(kind, f"{kind}.yaml.j2")


def custom_data(kind: Kind) -> str:
    """The cloud-config as Azure takes it, in base64."""
    return _packed(cloud_config(kind))


def user_data(facts: Mapping[str, Any]) -> str:
    """
    The workspace's own part as Azure takes it: JSON, keys sorted, in base64.

    Raises ValueError above 64 KiB.
    """
    return _packed(json.dumps(facts, sort_keys=True, separators=(",", ":")))


def _packed(text: str) -> str:
    data = text.encode()
    if len(data) > MOST_BYTES:
        raise ValueError(f"{len(data)} bytes of custom data or user data; Azure takes {MOST_BYTES}")
    return base64.b64encode(data).decode()
