"""Where resources go and what they are called: pure functions and one record that every component is given."""

from __future__ import annotations

import ipaddress
import uuid
from dataclasses import dataclass

import pulumi

NAMESPACE = uuid.uuid5(uuid.NAMESPACE_DNS, "tensoryard")
"""Of every guid below; another one would replace every role assignment."""

MUNGE_SECRET = "munge-key"  # noqa: S105 - its name; the value is made on the head
"""Name of the Key Vault secret with which Slurm's daemons know each other."""

CONTAINERS = ("data", "runs", "models")
ADMIN = "tyard"
"""Account on the nodes that the SSH key opens."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """What every resource of a workspace has in common. group, group_id: the resource group's name and ARM id."""

    group: pulumi.Output[str]
    group_id: pulumi.Output[str]
    location: str
    tags: dict[str, str]


def tags(workspace: str, stack: str, own: dict[str, str], *, protected: bool) -> dict[str, str]:
    """
    The tags of everything that takes tags; the stack's own come first and cannot replace the program's.

    protected: whether losing data is made hard; the policy holds a resource that says so to its word.
    """
    program = {"workspace": workspace, "stack": stack, "managed-by": "pulumi"}
    return {**own, **program, **({"data": "protected"} if protected else {})}


def guid(*parts: str) -> str:
    """
    The same guid for the same parts.

    A role assignment's name is made of scope, role and principal: Azure refuses to give an assignment another
    principal (`RoleAssignmentUpdateNotPermitted`), so an identity made anew needs an assignment of a new name.
    """
    return str(uuid.uuid5(NAMESPACE, "\n".join(parts).lower()))


def ip_rules(sources: tuple[str, ...]) -> list[str]:
    """
    Networks as the firewalls of storage, registry and vault take them.

    Storage refuses ranges of one or two addresses: those become single addresses without a prefix length.
    Source: https://learn.microsoft.com/azure/storage/common/storage-network-security
    """
    rules: list[str] = []
    for source in sources:
        network = ipaddress.ip_network(source)
        small = network.num_addresses <= 2
        rules.extend(str(address) for address in network) if small else rules.append(str(network))
    return rules
