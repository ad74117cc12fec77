"""What Azure refuses, and how it says so. Codes and wording: Azure's own, from its documentation and from issues."""

import re
from collections.abc import Iterator
from typing import Any

from infra.review.create_only import effect_of

from .cloud import Cloud, Record
from .compare import at, differences, given, texts
from .kinds import TENANT, Kind, arm_type, kind_of

BUILT_IN_ROLES = {
    "ba92f5b4-2d11-453d-a403-e96b0029c9fe",  # Storage Blob Data Contributor
    "b7e6dc6d-f1e8-4753-8033-0f276bb0955b",  # Storage Blob Data Owner
    "2a2b9908-6ea1-4ae2-8e65-a410df84e7d1",  # Storage Blob Data Reader
    "7f951dda-4ed3-4680-a7ca-43fe172d538d",  # AcrPull
    "8311e382-0749-4cb8-b61a-304f252e45ec",  # AcrPush
    "9980e02c-c2be-4d73-94e8-173b1dc7cf3c",  # Virtual Machine Contributor
    "4d97b98b-1d4f-4787-a291-c67834d212e7",  # Network Contributor
    "4633458b-17de-408a-b874-0445c86b69e6",  # Key Vault Secrets User
    "b86a8fe4-44ce-4948-aee5-eccb2c155cd7",  # Key Vault Secrets Officer
    "3913510d-42f4-4e42-8a64-420c390055eb",  # Monitoring Metrics Publisher
    "f1a07417-d97a-45cb-824c-7a7467783830",  # Managed Identity Operator
    "acdd72a7-3385-48ef-bd42-f606fba81ae7",  # Reader
}
IN_USE = {
    "network:Subnet": "InUseSubnetCannotBeDeleted",
    "network:NetworkSecurityGroup": "InUseNetworkSecurityGroupCannotBeDeleted",
    "network:NatGateway": "InUseNatGatewayCannotBeDeleted",
    "network:PublicIPAddress": "PublicIPAddressCannotBeDeleted",
    "network:NetworkInterface": "NicInUse",
    "network:VirtualNetwork": "InUseVirtualNetworkCannotBeDeleted",
}
LOCK = "Microsoft.Authorization/locks"


class Refused(Exception):  # noqa: N818
    """Azure's error to a request."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f'Code="{code}" Message="{message}"')
        self.code = code


def of_put(cloud: Cloud, token: str, id_: str, inputs: dict[str, Any], before: Record | None) -> None:
    """Raises Refused where Azure would not create the resource, or bring the one there was to these inputs."""
    kind = kind_of(token)
    assert kind is not None
    for refusal in (_place, _references, _name_taken, _fixed, _grants, _attached):
        refusal(cloud, token, kind, id_, inputs, before)


def of_delete(cloud: Cloud, record: Record) -> None:
    """Raises Refused where Azure would not delete the resource."""
    id_, short = record["id"], record["type"].removeprefix("azure-native:")
    _locked(cloud, id_)
    users = [other["id"] for other in _users(cloud, id_)] if short in IN_USE else []
    if users:
        raise Refused(IN_USE[short], f"{id_} is in use by {users[0]} and cannot be deleted.")
    if short == "authorization:RoleDefinition" and any(
        _grant(each["properties"], each["id"])[1] == id_.rpartition("/")[2].lower()
        for each in cloud.all("authorization:RoleAssignment")
    ):
        raise Refused("RoleDefinitionHasAssignments", f"There are existing role assignments referencing role {id_}.")


def _place(cloud: Cloud, token: str, kind: Kind, id_: str, inputs: dict[str, Any], before: Record | None) -> None:
    """The resource group, the parent and the scope have to be there."""
    group = id_.partition("/providers/")[0]
    if group != id_ and "/resourceGroups/" in group and not cloud.get(group):
        raise Refused("ResourceGroupNotFound", f"Resource group '{group.rpartition('/')[2]}' could not be found.")
    above = id_.rpartition("/providers/")[0]
    if "/providers/" in above and not cloud.exists(above):
        raise Refused("ResourceNotFound", f"The Resource '{above}' was not found.")
    parent = id_.rsplit("/", 2)[0]
    if parent.rpartition("/providers/")[2].count("/") > 1 and not cloud.exists(parent):
        raise Refused("ParentResourceNotFound", f"The parent resource '{parent}' of '{id_}' could not be found.")


def _references(
    cloud: Cloud, token: str, kind: Kind, id_: str, inputs: dict[str, Any], before: Record | None
) -> None:
    """Whatever the inputs name by its id has to exist."""
    for text in texts(inputs):
        if not re.match(r"/subscriptions/[^/]+/resourceGroups/", text, re.I) or text.lower().startswith(id_.lower()):
            continue
        if not cloud.exists(text):
            raise Refused("InvalidResourceReference", f"Resource {text} referenced by {id_} was not found.")


def _name_taken(
    cloud: Cloud, token: str, kind: Kind, id_: str, inputs: dict[str, Any], before: Record | None
) -> None:
    """Names of storage accounts, registries and vaults are taken once for all of Azure, of deleted vaults too."""
    name = id_.rpartition("/")[2]
    if not kind.everywhere or before:
        return
    short = token.removeprefix("azure-native:")
    if any(each["properties"]["name"].lower() == name.lower() for each in cloud.all(short)):
        code = {"storage:StorageAccount": "StorageAccountAlreadyTaken", "keyvault:Vault": "VaultAlreadyExists"}
        raise Refused(code.get(short, "AlreadyInUse"), f"The name {name} is already taken.")
    if short == "keyvault:Vault" and cloud.was_deleted("vaults", name):
        raise Refused("ConflictError", f"A vault with the same name already exists in deleted state: {name}.")


def _fixed(cloud: Cloud, token: str, kind: Kind, id_: str, inputs: dict[str, Any], before: Record | None) -> None:
    """Some properties are set at creation and never again. What is left out of a request stays as it is."""
    was = given(before["properties"]) if before else inputs
    for path, how in differences(was, inputs, whole_lists=True).items():
        effect = effect_of(token, path, at(was, path), at(inputs, path)) if how != "DELETE" else None
        if effect and effect[0] == "refused":
            raise Refused("PropertyChangeNotAllowed", f"Changing property '{path}' is not allowed.")


def _grants(cloud: Cloud, token: str, kind: Kind, id_: str, inputs: dict[str, Any], before: Record | None) -> None:
    """Role assignments: who and what never change, a grant exists once, the principal is what it is said to be."""
    if token == "azure-native:authorization:RoleDefinition":
        for other in cloud.all("authorization:RoleDefinition"):
            if other["id"].lower() != id_.lower() and other["properties"].get("roleName") == inputs.get("roleName"):
                raise Refused(
                    "RoleDefinitionWithSameNameExists", f"A custom role '{inputs['roleName']}' already exists."
                )
        return
    if token != "azure-native:authorization:RoleAssignment":
        return
    grant = _grant(inputs, id_)
    if before and _grant(before["properties"], id_) != grant:
        raise Refused(
            "RoleAssignmentUpdateNotPermitted",
            "Tenant ID, application ID, principal ID, and scope are not allowed to be updated.",
        )
    for other in cloud.all("authorization:RoleAssignment"):
        if other["id"].lower() != id_.lower() and _grant(other["properties"], other["id"]) == grant:
            raise Refused("RoleAssignmentExists", f"The role assignment already exists: {other['id']}")
    role = grant[1]
    custom = {each["id"].rpartition("/")[2].lower() for each in cloud.all("authorization:RoleDefinition")}
    if role not in BUILT_IN_ROLES | custom:
        raise Refused("RoleDefinitionDoesNotExist", f"The role definition with ID '{role}' does not exist.")
    machines = {principal for record in cloud.all() for principal in _principals(record)}
    principal, type_ = inputs["principalId"], inputs.get("principalType", "User")
    if (type_ == "ServicePrincipal") != (principal in machines):
        if principal in machines:
            raise Refused(
                "UnmatchedPrincipalType",
                f"The PrincipalId '{principal}' has type 'ServicePrincipal', which is different from specified "
                f"PrinciaplType '{type_}'.",
            )
        raise Refused("PrincipalNotFound", f"Principal {principal} does not exist in the directory {TENANT}.")


def _attached(cloud: Cloud, token: str, kind: Kind, id_: str, inputs: dict[str, Any], before: Record | None) -> None:
    """A network interface serves one machine, a public address one interface."""
    parts = {"compute:VirtualMachine": "/networkinterfaces/", "network:NetworkInterface": "/publicipaddresses/"}
    part = parts.get(token.removeprefix("azure-native:"))
    for text in texts(inputs) if part else ():
        others = [other["id"] for other in _users(cloud, text) if other["id"].lower() != id_.lower()]
        if str(part) in text.lower() and others:
            code = "NicInUse" if part == "/networkinterfaces/" else "PublicIPAddressInUse"
            raise Refused(code, f"Resource {text} is used by existing resource {others[0]}.")


def _locked(cloud: Cloud, id_: str) -> None:
    """A lock keeps its resource and all that is in or on it, but not itself."""
    for lock in cloud.all():
        if arm_type(lock["id"]) != LOCK or arm_type(id_) == LOCK:
            continue
        scope = lock["id"].rpartition("/providers/")[0]
        if f"{id_}/".lower().startswith(f"{scope}/".lower()) or f"{scope}/".lower().startswith(f"{id_}/".lower()):
            raise Refused(
                "ScopeLocked",
                f"The scope '{id_}' cannot perform delete operation because following scope(s) are locked: "
                f"'{scope}'. Please remove the lock and try again.",
            )


def _principals(record: Record) -> Iterator[str]:
    properties = record["properties"]
    if record["type"].endswith(":UserAssignedIdentity"):
        yield properties["principalId"]
    own = (properties.get("identity") or {}).get("principalId")
    if own:
        yield own


def _grant(properties: dict[str, Any], id_: str) -> tuple[str, str, str]:
    """Who may do what where: principal, role, scope."""
    scope = id_.lower().rpartition("/providers/microsoft.authorization/")[0]
    return properties["principalId"], properties["roleDefinitionId"].rpartition("/")[2].lower(), scope


def _users(cloud: Cloud, id_: str) -> list[Record]:
    """
    Networks' and machines' parts whose properties name this one or a part of it.

    What is in or on it does not count, and neither do firewall rules of storage: those outlive their subnet.
    """
    inside = id_.lower() + "/"
    wanted = id_.lower()
    return [
        record
        for record in cloud.all()
        if record["type"].split(":")[1] in ("network", "compute")
        and record["id"].lower() != wanted
        and not record["id"].lower().startswith(inside)
        and any(text.lower() == wanted or text.lower().startswith(inside) for text in texts(record["properties"]))
    ]
