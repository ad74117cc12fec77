"""Who may do what to which resource: every role assignment in words, with its reason."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from infra.review.azure_answers import SOMEONE
from infra.review.create_only import short_type
from infra.review.declare import STACK_TYPE, Declared
from infra.review.reach import Index, dig, rows

# Source: https://learn.microsoft.com/azure/role-based-access-control/built-in-roles
ROLES = {
    "ba92f5b4-2d11-453d-a403-e96b0029c9fe": "Storage Blob Data Contributor",
    "2a2b9908-6ea1-4ae2-8e65-a410df84e7d1": "Storage Blob Data Reader",
    "b7e6dc6d-f1e8-4753-8033-0f276bb0955b": "Storage Blob Data Owner",
    "7f951dda-4ed3-4680-a7ca-43fe172d538d": "AcrPull",
    "8311e382-0749-4cb8-b61a-304f252e45ec": "AcrPush",
    "9980e02c-c2be-4d73-94e8-173b1dc7cf3c": "Virtual Machine Contributor",
    "4d97b98b-1d4f-4787-a291-c67834d212e7": "Network Contributor",
    "f1a07417-d97a-45cb-824c-7a7467783830": "Managed Identity Operator",
    "4633458b-17de-408a-b874-0445c86b69e6": "Key Vault Secrets User",
    "b86a8fe4-44ce-4948-aee5-eccb2c155cd7": "Key Vault Secrets Officer",
    "00482a5a-887f-4fb3-b363-3b7fe8e74483": "Key Vault Administrator",
    "3913510d-42f4-4e42-8a64-420c390055eb": "Monitoring Metrics Publisher",
    "acdd72a7-3385-48ef-bd42-f606fba81ae7": "Reader",
    "b24988ac-6180-42a0-ab88-20f7382dd24c": "Contributor",
    "8e3af657-a8ff-443c-a75c-2fe8c4bcb635": "Owner",
    "18d7d88d-d35e-4fb5-a5c3-7773c20a72d9": "User Access Administrator",
}


class Grant(msgspec.Struct, frozen=True, kw_only=True):
    """
    One role that one identity has on one thing.

    identity: a managed identity's or a person's name; machine: what runs with it; scope: name of the resource;
    scope_type: its type in plain words; actions: those of a custom role; why: the program's own reason.
    """

    identity: str
    kind: str
    role: str
    scope: str
    scope_type: str
    why: str
    actions: tuple[str, ...] = ()
    urn: str


def grants(resources: Sequence[Declared]) -> list[Grant]:
    """All role assignments, by identity, then scope, then role."""
    index = Index(resources)
    reasons = _reasons(resources)
    people = {str(resource.outputs.get("principalId")): resource for resource in index.of(_IDENTITY)}
    found = []
    for assignment in index.of("authorization:RoleAssignment"):
        given = assignment.inputs
        identity, kind = _who(str(given.get("principalId") or ""), given, people, resources)
        role, actions = _role(str(given.get("roleDefinitionId") or ""), index)
        scope, scope_type = _scope(str(given.get("scope") or ""), index)
        why = str(given.get("description") or "") or reasons.get((identity, role, scope), "")
        found.append(
            Grant(
                identity=identity,
                kind=kind,
                role=role,
                actions=actions,
                scope=scope,
                scope_type=scope_type,
                why=why or "no reason is given",
                urn=assignment.urn,
            )
        )
    return sorted(found, key=lambda grant: (grant.kind, grant.identity, grant.scope_type, grant.scope, grant.role))


_IDENTITY = "managedidentity:UserAssignedIdentity"


def _reasons(resources: Sequence[Declared]) -> dict[tuple[str, str, str], str]:
    """The program's `access` output, by identity, role and scope."""
    outputs = next((resource.outputs for resource in resources if resource.type == STACK_TYPE), {})
    return {
        (str(row.get("identity")), str(row.get("role")), str(row.get("scope"))): str(row.get("why") or "")
        for row in rows(outputs.get("access"))
    }


def _who(
    principal: str, given: Mapping[str, Any], people: Mapping[str, Declared], resources: Sequence[Declared]
) -> tuple[str, str]:
    if principal in people:
        return people[principal].name, "identity"
    if principal == SOMEONE:
        return "whoever runs `pulumi up`", "person"
    for resource in resources:
        if dig(resource.outputs, "identity", "principalId") == principal:
            return resource.name, "identity"
    kind = str(given.get("principalType") or "principal")
    return f"{kind} {principal}", "person" if kind in ("User", "Group") else "service"


def _role(definition: str, index: Index) -> tuple[str, tuple[str, ...]]:
    guid = definition.rpartition("/")[2]
    own = next((role for role in index.of("authorization:RoleDefinition") if role.outputs.get("name") == guid), None)
    if own is not None:
        actions = [
            str(action)
            for permission in rows(own.inputs.get("permissions"))
            for key in ("actions", "dataActions")
            for action in permission.get(key) or []
        ]
        # The workspace's name and a guid in brackets only make the name unique in the tenant.
        return str(own.inputs.get("roleName") or own.name).partition(" (")[0], tuple(actions)
    return ROLES.get(guid.lower(), f"role {guid}"), ()


def _scope(scope: str, index: Index) -> tuple[str, str]:
    found = index.at(scope)
    if found is not None and found.id.lower() == scope.lower():
        return found.name, _words(short_type(found.type))
    if found is not None:
        return (
            f"{found.name}/{scope[len(found.id) :].rpartition('/')[2]}",
            f"part of {_words(short_type(found.type))}",
        )
    if scope.count("/") == 2:
        return "the whole subscription", "subscription"
    return scope, "scope"


def _words(token: str) -> str:
    """A type in plain words."""
    return {
        "storage:StorageAccount": "storage account",
        "storage:BlobContainer": "container",
        "containerregistry:Registry": "registry",
        "keyvault:Vault": "vault",
        "keyvault:Secret": "secret",
        "resources:ResourceGroup": "resource group",
        "compute:VirtualMachineScaleSet": "scale set",
        "compute:VirtualMachine": "virtual machine",
        "managedidentity:UserAssignedIdentity": "identity",
        "network:Subnet": "subnet",
        "network:NetworkSecurityGroup": "security group",
        "network:VirtualNetwork": "network",
    }.get(token, token)
