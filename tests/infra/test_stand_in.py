"""The stand-in for azure-native and Azure refuses what those would: else passing against it would say nothing."""

from pathlib import Path
from typing import Any

import pytest

from infra.review.create_only import effect_of
from services.azure_native import azure, sdk_types
from services.azure_native.cloud import Cloud
from services.azure_native.compare import differences
from services.azure_native.kinds import KINDS, SOMEONE, SUBSCRIPTION
from services.azure_native.refusals import Refused

GROUP = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/group"
ROLES = f"/subscriptions/{SUBSCRIPTION}/providers/Microsoft.Authorization/roleDefinitions"
READER = f"{ROLES}/acdd72a7-3385-48ef-bd42-f606fba81ae7"
STORAGE = {"resourceGroupName": "group", "kind": "StorageV2", "sku": {"name": "Standard_LRS"}}


@pytest.fixture
def cloud(tmp_path: Path) -> Cloud:
    """An Azure with one empty resource group."""
    cloud = Cloud(tmp_path)
    azure.put(cloud, "azure-native:resources:ResourceGroup", GROUP, {"location": "westeurope"})
    return cloud


def put(cloud: Cloud, type_: str, path: str, **inputs: Any) -> dict[str, Any]:
    """Puts a resource of the group; path: from its provider on."""
    record = azure.put(cloud, f"azure-native:{type_}", f"{GROUP}/providers/{path}", inputs)
    return {"id": record["id"], **record["properties"]}


def identity(cloud: Cloud, name: str) -> dict[str, Any]:
    path = f"Microsoft.ManagedIdentity/userAssignedIdentities/{name}"
    return put(cloud, "managedidentity:UserAssignedIdentity", path, location="westeurope")


def grant(cloud: Cloud, name: str, principal: str, kind: str = "ServicePrincipal") -> None:
    azure.put(
        cloud,
        "azure-native:authorization:RoleAssignment",
        f"{GROUP}/providers/Microsoft.Authorization/roleAssignments/{name}",
        {"scope": GROUP, "principalId": principal, "principalType": kind, "roleDefinitionId": READER},
    )


def machine(interface: str, delete: str = "Detach") -> dict[str, Any]:
    return {"networkProfile": {"networkInterfaces": [{"id": interface, "deleteOption": delete}]}}


@pytest.mark.parametrize(
    ("change", "path", "fault"),
    [
        ({"kind": None}, "kind", "is required and missing"),
        ({"kind": "StorageV3"}, "kind", "is 'StorageV3'; Kind has Storage, StorageV2,"),
        ({"sku": {"name": "Standard_XRS"}}, "sku.name", "is 'Standard_XRS'; SkuName has"),
        ({"sku": "Standard_LRS"}, "sku", "is 'Standard_LRS'; SkuArgs is expected"),
        ({"sku": {}}, "sku.name", "is required and missing"),
        ({"allowSharedKey": True}, "allowSharedKey", "is not a property of StorageAccountArgs"),
        ({"isHnsEnabled": "no"}, "isHnsEnabled", "is 'no'; bool is expected"),
        (
            {"networkRuleSet": {"defaultAction": "Deny", "ipRules": [{}]}},
            "networkRuleSet.ipRules[0].iPAddressOrRange",
            "is required and missing",
        ),
        ({"tags": {"a": 1}}, "tags.a", "is 1; str is expected"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)  # fmt: skip
def test_inputs_are_held_to_the_sdks_types(change: dict[str, Any], path: str, fault: str) -> None:
    inputs = {key: value for key, value in (STORAGE | change).items() if value is not None}
    faults = sdk_types.faults("azure-native:storage:StorageAccount", inputs)
    assert [found for found, _ in faults] == [path]
    assert faults[0][1].startswith(fault)


def test_right_inputs_have_no_faults() -> None:
    assert sdk_types.faults("azure-native:storage:StorageAccount", STORAGE) == []


@pytest.mark.parametrize("token", KINDS)
def test_ids_are_made_of_inputs_that_the_sdk_has(token: str) -> None:
    assert set(KINDS[token].fields) <= sdk_types.inputs_of(f"azure-native:{token}")


@pytest.mark.parametrize(
    ("token", "naming"),
    [
        ("resources:ResourceGroup", "random"),
        ("storage:StorageAccount", "random"),
        ("network:Subnet", "copy"),
        ("storage:BlobContainer", "copy"),
        ("authorization:RoleAssignment", "uuid"),
        ("authorization:ManagementLockByScope", "random"),
    ],
)
def test_names_are_made_up_as_azure_native_does(token: str, naming: str) -> None:
    assert KINDS[token].naming == naming


def test_what_is_not_there_cannot_be_named(cloud: Cloud) -> None:
    with pytest.raises(Refused, match="ResourceGroupNotFound"):
        azure.put(cloud, "azure-native:storage:StorageAccount", f"{GROUP}2/providers/Microsoft.Storage/x/a", STORAGE)
    with pytest.raises(Refused, match="ParentResourceNotFound"):
        put(
            cloud,
            "network:Subnet",
            "Microsoft.Network/virtualNetworks/net/subnets/nodes",
            addressPrefix="10.0.0.0/24",
        )
    nowhere = f"{GROUP}/providers/Microsoft.Network/natGateways/nat"
    put(cloud, "network:VirtualNetwork", "Microsoft.Network/virtualNetworks/net")
    with pytest.raises(Refused, match="InvalidResourceReference"):
        put(
            cloud, "network:Subnet", "Microsoft.Network/virtualNetworks/net/subnets/nodes", natGateway={"id": nowhere}
        )


def test_names_are_taken_in_every_group_and_a_deleted_vault_keeps_its_own(cloud: Cloud) -> None:
    put(cloud, "storage:StorageAccount", "Microsoft.Storage/storageAccounts/data", **STORAGE)
    other = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/other"
    azure.put(cloud, "azure-native:resources:ResourceGroup", other, {"location": "westeurope"})
    account = f"{other}/providers/Microsoft.Storage/storageAccounts/DATA"
    with pytest.raises(Refused, match="StorageAccountAlreadyTaken"):
        azure.put(cloud, "azure-native:storage:StorageAccount", account, STORAGE)

    vault = put(cloud, "keyvault:Vault", "Microsoft.KeyVault/vaults/safe", properties={})
    azure.delete(cloud, vault["id"])
    with pytest.raises(Refused, match="deleted state"):
        put(cloud, "keyvault:Vault", "Microsoft.KeyVault/vaults/safe", properties={})


def test_what_is_set_at_creation_stays(cloud: Cloud) -> None:
    path, profile = "Microsoft.Compute/virtualMachines/head", {"customData": "b25l", "computerName": "head"}
    put(cloud, "compute:VirtualMachine", path, osProfile=profile)
    put(cloud, "compute:VirtualMachine", path, osProfile=profile, tags={"a": "b"})
    with pytest.raises(Refused, match=r"PropertyChangeNotAllowed.*osProfile.customData"):
        put(cloud, "compute:VirtualMachine", path, osProfile=profile | {"customData": "dHdv"})


def test_role_assignments_never_change_and_exist_once(cloud: Cloud) -> None:
    head, node = identity(cloud, "head")["principalId"], identity(cloud, "node")["principalId"]
    one, two = "11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222"
    grant(cloud, one, head)
    grant(cloud, one, head)
    with pytest.raises(Refused, match="RoleAssignmentUpdateNotPermitted"):
        grant(cloud, one, node)
    with pytest.raises(Refused, match="RoleAssignmentExists"):
        grant(cloud, two, head)
    with pytest.raises(Refused, match="UnmatchedPrincipalType"):
        grant(cloud, two, node, "User")
    with pytest.raises(Refused, match="PrincipalNotFound"):
        grant(cloud, two, "33333333-3333-4333-8333-333333333333")
    grant(cloud, two, SOMEONE, "User")


def test_what_is_in_use_cannot_go_and_serves_one(cloud: Cloud) -> None:
    put(cloud, "network:VirtualNetwork", "Microsoft.Network/virtualNetworks/net")
    subnet = put(
        cloud, "network:Subnet", "Microsoft.Network/virtualNetworks/net/subnets/heads", addressPrefix="10.0.0.0/24"
    )
    configurations = [{"name": "head", "subnet": {"id": subnet["id"]}}]
    interface = put(
        cloud, "network:NetworkInterface", "Microsoft.Network/networkInterfaces/head", ipConfigurations=configurations
    )
    assert interface["ipConfigurations"][0]["privateIPAddress"] == "10.0.0.4"
    with pytest.raises(Refused, match="InUseSubnetCannotBeDeleted"):
        azure.delete(cloud, subnet["id"])

    first = put(cloud, "compute:VirtualMachine", "Microsoft.Compute/virtualMachines/one", **machine(interface["id"]))
    with pytest.raises(Refused, match="NicInUse"):
        put(cloud, "compute:VirtualMachine", "Microsoft.Compute/virtualMachines/two", **machine(interface["id"]))
    with pytest.raises(Refused, match="NicInUse"):
        azure.delete(cloud, interface["id"])
    for each in (first, interface, subnet):
        azure.delete(cloud, each["id"])
    assert [record["type"].rpartition(":")[2] for record in cloud.all()] == ["ResourceGroup", "VirtualNetwork"]


def test_machine_takes_an_interface_along_that_it_was_told_to(cloud: Cloud) -> None:
    interface = put(cloud, "network:NetworkInterface", "Microsoft.Network/networkInterfaces/head")
    path = "Microsoft.Compute/virtualMachines/head"
    azure.delete(cloud, put(cloud, "compute:VirtualMachine", path, **machine(interface["id"], "Delete"))["id"])
    assert cloud.get(interface["id"]) is None


def test_lock_keeps_what_is_below_and_above_it(cloud: Cloud) -> None:
    account = put(cloud, "storage:StorageAccount", "Microsoft.Storage/storageAccounts/data", **STORAGE)
    container = put(
        cloud,
        "storage:BlobContainer",
        "Microsoft.Storage/storageAccounts/data/blobServices/default/containers/runs",
    )
    lock = f"{account['id']}/providers/Microsoft.Authorization/locks/keep"
    azure.put(
        cloud,
        "azure-native:authorization:ManagementLockByScope",
        lock,
        {"scope": account["id"], "level": "CanNotDelete"},
    )
    for kept in (account["id"], container["id"], GROUP):
        with pytest.raises(Refused, match="ScopeLocked"):
            azure.delete(cloud, kept)
    azure.delete(cloud, lock)
    azure.delete(cloud, GROUP)
    assert list(cloud.all()) == []


def test_identities_come_back_as_a_map_with_their_principals(cloud: Cloud) -> None:
    head = identity(cloud, "head")
    answer = put(
        cloud,
        "compute:VirtualMachine",
        "Microsoft.Compute/virtualMachines/head",
        identity={"type": "UserAssigned", "userAssignedIdentities": [head["id"]]},
    )
    expected = {head["id"]: {"principalId": head["principalId"], "clientId": head["clientId"]}}
    assert answer["identity"]["userAssignedIdentities"] == expected


def test_differences_are_told_by_path() -> None:
    old = {"a": 1, "b": {"c": [1, 2]}, "location": "West Europe", "gone": True}
    new = {"a": 2, "b": {"c": [1, 3, 4]}, "location": "westeurope", "new": True}
    assert differences(old, new) == {
        "a": "UPDATE",
        "b.c[1]": "UPDATE",
        "b.c[2]": "ADD",
        "gone": "DELETE",
        "new": "ADD",
    }


def test_the_reviews_table_decides_what_is_replaced() -> None:
    """One table serves the review and the stand-in: what the review calls replaced, the engine's tests replace."""
    assert effect_of("azure-native:storage:StorageAccount", "isHnsEnabled") is not None
    assert effect_of("azure-native:storage:StorageAccount", "tags.team") is None
