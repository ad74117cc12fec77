"""Storage, registry, vault and logs as they are declared."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from infra.names import ip_rules
from infra.review.declare import Declared

Declare = Callable[[str | Mapping[str, Any]], list[Declared]]
PRIVATE = {"privateEndpoints": True, "registrySku": "Premium"}
LISTED = {"clientSources": ["203.0.113.0/24", "198.51.100.7/32"], "registrySku": "Premium"}


def one(resources: list[Declared], type_: str, name: str) -> Declared:
    (found,) = (each for each in resources if each.type == f"azure-native:{type_}" and each.name == name)
    return found


def exceptions(resources: list[Declared]) -> set[str]:
    return {each.inputs["rule"] for each in resources if each.type == "tensoryard:policy:Exception"}


@pytest.mark.parametrize("settings", [{}, PRIVATE, LISTED], ids=["plain", "private", "listed"])
def test_storage_has_no_way_in_but_an_identity_over_tls(declared: Declare, settings: dict[str, Any]) -> None:
    inputs = one(declared(settings), "storage:StorageAccount", "storage").inputs

    assert {
        "allowSharedKeyAccess": False,
        "allowBlobPublicAccess": False,
        "minimumTlsVersion": "TLS1_2",
        "enableHttpsTrafficOnly": True,
        "isLocalUserEnabled": False,
        "allowCrossTenantReplication": False,
        "defaultToOAuthAuthentication": True,
    }.items() <= inputs.items()


def test_without_known_clients_any_network_may_try_and_that_is_said(declared: Declare) -> None:
    found = declared({})

    assert one(found, "storage:StorageAccount", "storage").inputs["networkRuleSet"]["defaultAction"] == "Allow"
    assert {"storage-any-network", "registry-any-network"} <= exceptions(found)


def test_known_clients_and_the_machines_are_let_in_and_nobody_else(declared: Declare) -> None:
    found = declared(LISTED)
    subnets = [one(found, "network:Subnet", name).id for name in ("heads", "nodes")]
    nat = one(found, "network:PublicIPAddress", "nat-address").outputs["ipAddress"]

    storage = one(found, "storage:StorageAccount", "storage").inputs["networkRuleSet"]
    assert storage["defaultAction"] == "Deny"
    assert [rule["iPAddressOrRange"] for rule in storage["ipRules"]] == ["203.0.113.0/24", "198.51.100.7"]
    assert subnets == [rule["virtualNetworkResourceId"] for rule in storage["virtualNetworkRules"]]

    vault = one(found, "keyvault:Vault", "vault").inputs["properties"]["networkAcls"]
    assert vault["defaultAction"] == "Deny"
    assert [rule["value"] for rule in vault["ipRules"]] == ["203.0.113.0/24", "198.51.100.7"]
    assert subnets == [rule["id"] for rule in vault["virtualNetworkRules"]]

    registry = one(found, "containerregistry:Registry", "registry").inputs["networkRuleSet"]
    assert registry["defaultAction"] == "Deny"
    assert ["203.0.113.0/24", "198.51.100.7", nat] == [rule["iPAddressOrRange"] for rule in registry["ipRules"]]
    assert not exceptions(found) & {"storage-any-network", "registry-any-network", "vault-any-network"}


def test_the_vault_is_shut_to_all_but_the_machines_even_where_storage_is_not(declared: Declare) -> None:
    acls = one(declared({}), "keyvault:Vault", "vault").inputs["properties"]["networkAcls"]

    assert (acls["defaultAction"], acls["ipRules"], len(acls["virtualNetworkRules"])) == ("Deny", [], 2)


def test_private_endpoints_leave_no_public_address(declared: Declare) -> None:
    found = declared(PRIVATE)

    assert one(found, "storage:StorageAccount", "storage").inputs["publicNetworkAccess"] == "Disabled"
    assert one(found, "containerregistry:Registry", "registry").inputs["publicNetworkAccess"] == "Disabled"
    assert one(found, "keyvault:Vault", "vault").inputs["properties"]["publicNetworkAccess"] == "Disabled"


def test_deleted_data_comes_back_and_old_versions_go_at_last(declared: Declare) -> None:
    found = declared({"softDeleteDays": 30, "blobVersioning": True})
    service = one(found, "storage:BlobServiceProperties", "storage").inputs
    kept = {"enabled": True, "days": 30}

    assert service["blobServicesName"] == "default"
    assert kept == service["deleteRetentionPolicy"] == service["containerDeleteRetentionPolicy"]
    assert (service["isVersioningEnabled"], service["changeFeed"]) == (True, {"enabled": True})
    (rule,) = one(found, "storage:ManagementPolicy", "storage").inputs["policy"]["rules"]
    assert rule["definition"]["actions"] == {"version": {"delete": {"daysAfterCreationGreaterThan": 30}}}


def test_only_models_are_made_immutable_and_only_on_demand(declared: Declare) -> None:
    """Logs of runs grow by appending for weeks; version numbers of models are appended to a file."""
    immutable = "azure-native:storage:BlobContainerImmutabilityPolicy"
    found = declared({"modelsImmutableDays": 30})

    assert [each for each in declared({}) if each.type == immutable] == []
    (policy,) = (each.inputs for each in found if each.type == immutable)
    assert (
        policy["containerName"],
        policy["immutabilityPeriodSinceCreationInDays"],
        policy["allowProtectedAppendWrites"],
    ) == ("models", 30, True)


def test_containers_have_fixed_names_and_no_public_access(declared: Declare) -> None:
    containers = [each.inputs for each in declared({}) if each.type == "azure-native:storage:BlobContainer"]

    assert {"data", "runs", "models"} == {container["containerName"] for container in containers}
    assert {"None"} == {container["publicAccess"] for container in containers}


@pytest.mark.parametrize("days", [7, 365])
def test_the_vault_keeps_deleted_secrets_as_long_as_azure_can(declared: Declare, days: int) -> None:
    """Azure never changes the figure of a vault that exists, so a setting for files must not change it."""
    properties = one(declared({"softDeleteDays": days}), "keyvault:Vault", "vault").inputs["properties"]

    assert properties["softDeleteRetentionInDays"] == 90
    assert properties["enableRbacAuthorization"] is True
    # Azure refuses an explicit false.
    assert "enablePurgeProtection" not in properties


def test_the_program_makes_no_secret(declared: Declare) -> None:
    assert [each.name for each in declared("prod") if each.type == "azure-native:keyvault:Secret"] == []


def test_what_holds_data_and_what_guards_it_sends_its_logs(declared: Declare) -> None:
    found = declared({})
    logs = one(found, "operationalinsights:Workspace", "logs").id
    settings = {each.name: each.inputs for each in found if each.type == "azure-native:monitor:DiagnosticSetting"}

    assert {logs} == {setting["workspaceId"] for setting in settings.values()}
    assert {"storage-logs", "registry-logs", "vault-logs", "heads-logs", "nodes-logs"} == set(settings)
    account = one(found, "storage:StorageAccount", "storage").id
    assert f"{account}/blobServices/default" == settings["storage-logs"]["resourceUri"]
    assert {"StorageWrite", "StorageDelete"} == {log["category"] for log in settings["storage-logs"]["logs"]}


def test_reads_of_protected_data_are_logged_too(declared: Declare) -> None:
    setting = one(declared({"protectData": True}), "monitor:DiagnosticSetting", "storage-logs").inputs

    assert "StorageRead" in {log["category"] for log in setting["logs"]}


def test_small_ranges_become_addresses_for_storage() -> None:
    sources = ("203.0.113.0/24", "198.51.100.6/31", "192.0.2.1/32", "192.0.2.9")

    assert ip_rules(sources) == ["203.0.113.0/24", "198.51.100.6", "198.51.100.7", "192.0.2.1", "192.0.2.9"]
