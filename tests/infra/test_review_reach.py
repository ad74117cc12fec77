"""Doors to the internet: machines behind security groups, services behind firewalls, and who holds which role."""

from collections.abc import Callable
from typing import Any

import pytest

from infra.review.access import grants
from infra.review.declare import Declared
from infra.review.reach import Opening, openings


def machine(sketch: Any, rules: list[dict[str, Any]], private: str = "10.0.0.4", **nic: Any) -> list[Opening]:
    """The doors of one machine with a public address, in a subnet with these inbound rules."""
    made = sketch()
    group = made.add("network:NetworkSecurityGroup", "heads", {"securityRules": rules})
    subnet = made.add(
        "network:Subnet",
        "heads",
        {"virtualNetworkName": "net", "subnetName": "heads", "networkSecurityGroup": {"id": group.id}},
    )
    address = made.add("network:PublicIPAddress", "head", {"sku": {"name": "Standard"}})
    config = {
        "name": "head",
        "subnet": {"id": subnet.id},
        "publicIPAddress": {"id": address.id},
        "privateIPAddress": private,
    }
    interface = made.add("network:NetworkInterface", "head", {"ipConfigurations": [config], **nic})
    made.add(
        "compute:VirtualMachine",
        "head",
        {
            "networkProfile": {"networkInterfaces": [{"id": interface.id}]},
            "osProfile": {"linuxConfiguration": {"disablePasswordAuthentication": True}},
        },
    )
    return openings(made.resources)


def rule(source: str, ports: str = "22", access: str = "Allow", priority: int = 100, **more: Any) -> dict[str, Any]:
    return {
        "name": f"{access}-{source}",
        "direction": "Inbound",
        "access": access,
        "priority": priority,
        "protocol": "Tcp",
        "sourceAddressPrefix": source,
        "destinationAddressPrefix": "*",
        "destinationPortRange": ports,
        **more,
    }


def test_ssh_from_a_named_network_is_listed_with_its_reason(sketch: Any) -> None:
    (door,) = machine(sketch, [rule("198.51.100.0/24", description="People of the office")])

    assert (door.name, door.port, door.source, door.from_where) == ("head", "22 (TCP)", "198.51.100.0/24", "listed")
    assert door.why == "People of the office"
    assert door.guard == "SSH keys only, no password"


@pytest.mark.parametrize("source", ["*", "Internet", "0.0.0.0/0", "::/0"])
def test_ssh_from_anywhere_is_open_to_anyone(sketch: Any, source: str) -> None:
    (door,) = machine(sketch, [rule(source)])

    assert (door.from_where, door.source) == ("anyone", "the whole internet")


def test_rules_for_other_machines_and_from_inside_are_no_doors(sketch: Any) -> None:
    rules = [
        rule("8.8.8.8/32", destinationAddressPrefix="10.0.0.9/32"),
        rule("VirtualNetwork"),
        rule("10.0.1.0/24"),
        rule("*", direction="Outbound"),
    ]

    (door,) = machine(sketch, rules)

    assert (door.from_where, door.port) == ("nobody", "none")


def test_a_denial_before_it_shuts_a_door(sketch: Any) -> None:
    rules = [rule("*", ports="*", access="Deny", priority=50), rule("Internet", priority=60)]

    assert [door.from_where for door in machine(sketch, rules)] == ["nobody"]


def test_a_second_security_group_narrows_the_first(sketch: Any) -> None:
    made = sketch()
    wide = made.add("network:NetworkSecurityGroup", "wide", {"securityRules": [rule("Internet", ports="*")]})
    narrow = made.add("network:NetworkSecurityGroup", "narrow", {"securityRules": [rule("198.51.100.0/24")]})
    subnet = made.add(
        "network:Subnet",
        "s",
        {"virtualNetworkName": "net", "subnetName": "s", "networkSecurityGroup": {"id": wide.id}},
    )
    address = made.add("network:PublicIPAddress", "a", {"sku": {"name": "Standard"}})
    config = {"name": "c", "subnet": {"id": subnet.id}, "publicIPAddress": {"id": address.id}}
    made.add(
        "network:NetworkInterface", "n", {"ipConfigurations": [config], "networkSecurityGroup": {"id": narrow.id}}
    )

    (door,) = openings(made.resources)

    assert (door.source, door.port) == ("198.51.100.0/24", "22 (TCP)")


def test_nodes_with_public_addresses_are_seen(sketch: Any) -> None:
    made = sketch()
    config = {"name": "c", "publicIPAddressConfiguration": {"name": "p"}}
    profile = {"networkProfile": {"networkInterfaceConfigurations": [{"ipConfigurations": [config]}]}}
    made.add("compute:VirtualMachineScaleSet", "gpu", {"virtualMachineProfile": profile})

    (door,) = openings(made.resources)

    assert (door.name, door.address) == ("gpu", "a public address per node")


@pytest.mark.parametrize(
    ("inputs", "from_where", "source"),
    [
        ({}, "anyone", "the whole internet"),
        ({"publicNetworkAccess": "Disabled"}, "nobody", "nobody: private endpoints only"),
        ({"networkRuleSet": {"defaultAction": "Deny"}}, "nobody", "nobody"),
        (
            {"networkRuleSet": {"defaultAction": "Deny", "ipRules": [{"iPAddressOrRange": "198.51.100.0/24"}]}},
            "listed",
            "198.51.100.0/24",
        ),
        (
            {
                "networkRuleSet": {
                    "defaultAction": "Deny",
                    "bypass": "AzureServices",
                    "virtualNetworkRules": [{"virtualNetworkResourceId": "/x/subnets/nodes"}],
                }
            },
            "nobody",
            "nobody; subnets nodes by service endpoint; Azure's trusted services",
        ),
    ],
)
def test_a_storage_accounts_firewall_is_put_into_words(
    sketch: Any, inputs: dict[str, Any], from_where: str, source: str
) -> None:
    made = sketch()
    made.add("storage:StorageAccount", "storage", inputs)

    (door,) = openings(made.resources)

    assert (door.from_where, door.source) == (from_where, source)
    assert "shared keys work" in door.guard


def test_prod_lets_nobody_in_from_outside_but_to_azure_monitor(declared: Callable[[Any], list[Declared]]) -> None:
    wide = [door for door in openings(declared("prod")) if door.from_where != "nobody"]

    assert {door.address for door in wide} <= {"Azure Monitor's shared endpoints"}


def test_ssh_sources_of_a_stack_are_its_only_door_to_the_head(declared: Callable[[Any], list[Declared]]) -> None:
    key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGc2Qf3aPzWkE2p5nY0bT1fR4sVd6hJ8kLmN9oQrSt0u me"
    found = declared({"sshSources": ["198.51.100.0/24"], "sshPublicKey": key})

    doors = [door for door in openings(found) if door.name == "head"]

    assert [(door.source, door.port) for door in doors] == [("198.51.100.0/24", "22 (TCP)")]
    assert doors[0].why


def test_every_grant_has_a_name_a_scope_and_a_reason(declared: Callable[[Any], list[Declared]]) -> None:
    found = grants(declared("prod"))

    assert found
    for grant in found:
        assert not grant.role.startswith("role "), "each role id is known by name"
        assert grant.scope_type not in ("scope", "subscription")
        assert grant.why != "no reason is given"
        assert grant.role.startswith("Tensoryard") == bool(grant.actions)
    assert {grant.identity for grant in found} >= {"head", "gpucluster-nodes", "whoever runs `pulumi up`"}


def test_a_role_that_nobody_knows_and_a_strange_principal_are_told_as_they_are(sketch: Any) -> None:
    made = sketch()
    account = made.add("storage:StorageAccount", "storage")
    made.add(
        "authorization:RoleAssignment",
        "grant",
        {"scope": account.id, "principalId": "p-1", "principalType": "Group", "roleDefinitionId": "/x/y/guid-1"},
    )

    (grant,) = grants(made.resources)

    assert (grant.identity, grant.kind, grant.role) == ("Group p-1", "person", "role guid-1")
    assert (grant.scope, grant.scope_type) == ("storage", "storage account")
