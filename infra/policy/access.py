"""Rules about role assignments and custom roles."""

import re
from collections.abc import Iterator, Mapping

from infra.policy.rules import Problem, Resources, Rule, rows, texts

ASSIGNMENT = "authorization:RoleAssignment"
DEFINITION = "authorization:RoleDefinition"
IDENTITY = "managedidentity:UserAssignedIdentity"

# Ids of Azure's built-in roles: the same in every tenant.
# Source: https://learn.microsoft.com/azure/role-based-access-control/built-in-roles
WIDE_ROLES = {
    "8e3af657-a8ff-443c-a75c-2fe8c4bcb635": "Owner",
    "b24988ac-6180-42a0-ab88-20f7382dd24c": "Contributor",
    "18d7d88d-d35e-4fb5-a5c3-7773c20a72d9": "User Access Administrator",
    "f58310d9-a9f6-439a-9e8d-f62e7b41a168": "Role Based Access Control Administrator",
}
DATA_ROLES = {
    "b7e6dc6d-f1e8-4753-8033-0f276bb0955b": "Storage Blob Data Owner",
    "ba92f5b4-2d11-453d-a403-e96b0029c9fe": "Storage Blob Data Contributor",
    "2a2b9908-6ea1-4ae2-8e65-a410df84e7d1": "Storage Blob Data Reader",
    "7f951dda-4ed3-4680-a7ca-43fe172d538d": "AcrPull",
    "8311e382-0749-4cb8-b61a-304f252e45ec": "AcrPush",
    "00482a5a-887f-4fb3-b363-3b7fe8e74483": "Key Vault Administrator",
    "b86a8fe4-44ce-4948-aee5-eccb2c155cd7": "Key Vault Secrets Officer",
    "4633458b-17de-408a-b874-0445c86b69e6": "Key Vault Secrets User",
}

_RESOURCE_GROUP_SCOPE = re.compile(r"/subscriptions/[^/]+/resourcegroups/[^/]+/?", re.IGNORECASE)
_WIDER_SCOPE = re.compile(r"/?|/subscriptions/[^/]+/?|/providers/microsoft\.management/.*", re.IGNORECASE)


def _role(definition_id: object) -> str:
    """The guid at the end of a role definition's id, lower case."""
    return str(definition_id or "").rpartition("/")[2].lower()


def _wide_role(resources: Resources) -> Iterator[Problem]:
    for assignment in resources.of(ASSIGNMENT):
        name = WIDE_ROLES.get(_role(assignment.inputs.get("roleDefinitionId")))
        if name:
            yield assignment, f"it gives `{name}`"


def _wildcard(resources: Resources) -> Iterator[Problem]:
    for definition in resources.of(DEFINITION):
        granted = [
            action
            for permission in rows(definition.inputs.get("permissions"))
            for action in texts(permission.get("actions"), permission.get("dataActions"))
        ]
        wild = [action for action in granted if "*" in action]
        if wild:
            yield definition, f"it grants {', '.join(f'`{action}`' for action in wild)}"


def _wide_scope(resources: Resources) -> Iterator[Problem]:
    for assignment in resources.of(ASSIGNMENT):
        scope = str(assignment.inputs.get("scope") or "")
        role = assignment.inputs.get("roleDefinitionId")
        if _WIDER_SCOPE.fullmatch(scope):
            yield assignment, f"its scope is `{scope or '/'}`, wider than the workspace's resource group"
        elif _RESOURCE_GROUP_SCOPE.fullmatch(scope) or _is_group(resources, assignment.property_dependencies, scope):
            data_role = DATA_ROLES.get(_role(role)) or _custom_data_role(
                resources, assignment.property_dependencies, role
            )
            if data_role:
                yield assignment, f"`{data_role}` is given on the whole resource group, not on what it is for"


def _is_group(resources: Resources, dependencies: object, scope: str) -> bool:
    """Whether an id that is not known yet (before the first `up`) will be the resource group's."""
    if scope.startswith("/") or not isinstance(dependencies, Mapping):
        return False
    behind = set(dependencies.get("scope", ()))
    return bool(behind) and behind <= {group.urn for group in resources.of("resources:ResourceGroup")}


def _custom_data_role(resources: Resources, dependencies: object, role: object) -> str | None:
    """The name of the program's own role behind an assignment, where it grants data actions."""
    behind = dependencies.get("roleDefinitionId", ()) if isinstance(dependencies, Mapping) else ()
    for definition in resources.of(DEFINITION):
        own_id = definition.id.lower()
        if definition.urn in behind or (own_id and str(role or "").lower() == own_id):
            permissions = rows(definition.inputs.get("permissions"))
            if any(texts(permission.get("dataActions")) for permission in permissions):
                return str(definition.inputs.get("roleName") or definition.name)
    return None


def _principal_type(resources: Resources) -> Iterator[Problem]:
    identities = {identity.urn for identity in resources.of(IDENTITY)}
    principals = {identity.outputs.get("principalId") for identity in resources.of(IDENTITY)} - {None}
    for assignment in resources.of(ASSIGNMENT):
        given = assignment.inputs.get("principalType")
        of_identity = assignment.inputs.get("principalId") in principals or not identities.isdisjoint(
            assignment.property_dependencies.get("principalId", ())
        )
        if given is None:
            yield assignment, "`principalType` is not set"
        elif of_identity and given != "ServicePrincipal":
            yield assignment, f"`principalType` of a managed identity is {given!r}"


RULES = (
    Rule(
        id="role-too-wide",
        severity="high",
        title="A role that may do almost everything is given",
        why="Whoever takes over that identity owns the resource group and may invite others.",
        fix="Give the narrow role for what is needed, or a custom role with just those actions.",
        look=_wide_role,
    ),
    Rule(
        id="role-wildcard",
        severity="high",
        title="A custom role grants actions by wildcard",
        why="It grows by itself with every action that Azure adds.",
        fix="List the actions one by one.",
        look=_wildcard,
    ),
    Rule(
        id="role-scope-wide",
        severity="high",
        title="A role is given on more than it is for",
        why="It covers everything that is there later, not only what the program has in mind today.",
        fix="Give data roles on the container, registry or vault, and no role above the resource group.",
        look=_wide_scope,
    ),
    Rule(
        id="role-principal-type",
        severity="medium",
        title="A role assignment does not say what its principal is",
        why="Without `ServicePrincipal` Azure looks the identity up, and fails while a new one is not known yet.",
        fix="Set `principalType`, for a managed identity to `ServicePrincipal`: the SDK fills in `User`.",
        look=_principal_type,
    ),
)
