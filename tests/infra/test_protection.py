"""What a protected stack does to keep its data."""

from collections.abc import Callable, Mapping
from typing import Any

from infra.review.declare import Declared

Declare = Callable[[str | Mapping[str, Any]], list[Declared]]
HOLDERS = {"storage:StorageAccount", "storage:BlobContainer", "containerregistry:Registry", "keyvault:Vault"}


def test_pulumi_refuses_to_delete_what_holds_data(declared: Declare) -> None:
    """The resource group too: deleting it deletes everything in it."""
    protected = {each.type.removeprefix("azure-native:") for each in declared({"protectData": True}) if each.protect}

    assert {*HOLDERS, "resources:ResourceGroup"} == protected
    assert [each.name for each in declared({}) if each.protect] == []


def test_locks_keep_the_portal_and_the_cli_from_it(declared: Declare) -> None:
    found = declared({"protectData": True})
    locks = {each.name: each for each in found if each.type == "azure-native:authorization:ManagementLockByScope"}
    holders = {
        f"{each.name}-lock": each.id
        for each in found
        if each.type.removeprefix("azure-native:") in HOLDERS - {"storage:BlobContainer"}
    }

    assert holders == {name: lock.inputs["scope"] for name, lock in locks.items()}
    assert {"CanNotDelete"} == {lock.inputs["level"] for lock in locks.values()}
    assert not any(each.type.endswith("ManagementLockByScope") for each in declared({}))


def test_locks_are_put_on_last_and_so_are_taken_off_first(declared: Declare) -> None:
    """A lock also refuses to have role assignments, diagnostic settings and containers below it deleted."""
    found = declared({"protectData": True, "privateEndpoints": True, "registrySku": "Premium"})
    (lock,) = (each for each in found if each.name == "storage-lock")
    below = [
        each
        for each in found
        if each.type
        in (
            "azure-native:authorization:RoleAssignment",
            "azure-native:storage:BlobContainer",
            "azure-native:network:PrivateEndpoint",
        )
        or each.name in ("storage-logs", "registry-logs", "vault-logs")
    ]

    assert below
    assert {each.urn for each in below} <= set(lock.dependencies)


def test_what_is_protected_is_tagged_so(declared: Declare) -> None:
    protected, plain = declared({"protectData": True}), declared({})

    assert {"protected"} == {each.inputs["tags"]["data"] for each in protected if "tags" in each.inputs}
    assert not any("data" in each.inputs.get("tags", {}) for each in plain)


def test_purge_protection_comes_with_it(declared: Declare) -> None:
    (vault,) = (each for each in declared({"protectData": True}) if each.type == "azure-native:keyvault:Vault")

    assert vault.inputs["properties"]["enablePurgeProtection"] is True
