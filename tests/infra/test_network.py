"""The network as it is declared: who can reach whom, and how machines reach the rest of the world."""

import ipaddress
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from infra.review.declare import Declared

Declare = Callable[[str | Mapping[str, Any]], list[Declared]]
PRIVATE = {"privateEndpoints": True, "registrySku": "Premium"}
SSH_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIF2VFpxHJEmaHMHWiaGXh4LkpJgkRXUEjdYQKZPxEiUZ someone@example.org"
SSH = {"sshSources": ["203.0.113.0/24"], "sshPublicKey": SSH_KEY}


def of(resources: list[Declared], type_: str) -> dict[str, Declared]:
    return {resource.name: resource for resource in resources if resource.type == f"azure-native:{type_}"}


def rules(resources: list[Declared], group: str) -> list[dict[str, Any]]:
    return sorted(
        of(resources, "network:NetworkSecurityGroup")[group].inputs["securityRules"],
        key=lambda rule: rule["priority"],
    )


@pytest.mark.parametrize("settings", [{}, PRIVATE, SSH], ids=["plain", "private", "ssh"])
def test_every_subnet_is_behind_its_own_group_and_has_no_default_way_out(
    declared: Declare, settings: dict[str, Any]
) -> None:
    found = declared(settings)
    groups = {name: group.id for name, group in of(found, "network:NetworkSecurityGroup").items()}
    subnets = of(found, "network:Subnet")

    assert set(subnets) == {"heads", "nodes"} | ({"endpoints"} if settings == PRIVATE else set())
    for name, subnet in subnets.items():
        assert subnet.inputs["networkSecurityGroup"] == {"id": groups[name]}
        assert subnet.inputs["defaultOutboundAccess"] is False
        assert subnet.inputs["privateEndpointNetworkPolicies"] == "NetworkSecurityGroupEnabled"


@pytest.mark.parametrize("settings", [{}, PRIVATE, SSH], ids=["plain", "private", "ssh"])
def test_every_group_ends_by_shutting_out_the_internet_and_the_rest(
    declared: Declare, settings: dict[str, Any]
) -> None:
    """Azure's own last rules let the whole virtual network in, and whatever is peered with it later."""
    found = declared(settings)
    for group in of(found, "network:NetworkSecurityGroup"):
        *allowed, internet, rest = rules(found, group)
        assert {rule["access"] for rule in allowed} == {"Allow"}
        assert tuple(
            internet[key] for key in ("access", "sourceAddressPrefix", "protocol", "destinationPortRange")
        ) == ("Deny", "Internet", "*", "*")
        assert tuple(rest[key] for key in ("access", "sourceAddressPrefix", "protocol", "destinationPortRange")) == (
            "Deny",
            "*",
            "*",
            "*",
        )


@pytest.mark.parametrize("settings", [{}, PRIVATE, SSH], ids=["plain", "private", "ssh"])
def test_only_ssh_to_the_head_is_let_in_from_outside(declared: Declare, settings: dict[str, Any]) -> None:
    found = declared(settings)
    inside = ipaddress.ip_network("10.40.0.0/16")
    from_outside = [
        (group, rule["sourceAddressPrefixes"], rule["destinationAddressPrefix"], rule["destinationPortRange"])
        for group in of(found, "network:NetworkSecurityGroup")
        for rule in rules(found, group)
        if rule["access"] == "Allow"
        and not all(ipaddress.ip_network(source).subnet_of(inside) for source in rule["sourceAddressPrefixes"])
    ]

    assert from_outside == ([("heads", ["203.0.113.0/24"], "10.40.0.4/32", "22")] if settings == SSH else [])


def test_a_head_without_ssh_sources_has_no_public_address(declared: Declare) -> None:
    plain, ssh = declared({}), declared(SSH)

    assert {"nat-address"} == set(of(plain, "network:PublicIPAddress"))
    assert {"nat-address", "head"} == set(of(ssh, "network:PublicIPAddress"))
    address = of(ssh, "network:NetworkInterface")["head"].inputs["ipConfigurations"][0]["publicIPAddress"]
    assert address == {"id": of(ssh, "network:PublicIPAddress")["head"].id}
    assert "publicIPAddress" not in of(plain, "network:NetworkInterface")["head"].inputs["ipConfigurations"][0]


@pytest.mark.parametrize(("zones", "nat", "address"), [((), None, None), (("2",), ["2"], ["2"])])
def test_one_zone_holds_nat_gateway_and_address(
    declared: Declare, zones: tuple[str, ...], nat: list[str] | None, address: list[str] | None
) -> None:
    found = declared({"zones": list(zones)})

    assert nat == of(found, "network:NatGateway")["nat"].inputs.get("zones")
    assert address == of(found, "network:PublicIPAddress")["nat-address"].inputs.get("zones")


@pytest.mark.parametrize("zones", [["1", "2", "3"], ["1", "3"]])
def test_with_several_zones_the_address_is_in_all_and_the_gateway_where_azure_puts_it(
    declared: Declare, zones: list[str]
) -> None:
    """A Standard NAT gateway is refused with more than one zone."""
    found = declared({"zones": zones})

    assert "zones" not in of(found, "network:NatGateway")["nat"].inputs
    assert of(found, "network:PublicIPAddress")["nat-address"].inputs["zones"] == ["1", "2", "3"]


def test_machines_leave_through_the_nat_gateway(declared: Declare) -> None:
    found = declared(PRIVATE)
    nat = {"id": of(found, "network:NatGateway")["nat"].id}
    subnets = of(found, "network:Subnet")

    assert nat == subnets["nodes"].inputs["natGateway"] == subnets["heads"].inputs["natGateway"]
    assert "natGateway" not in subnets["endpoints"].inputs


def test_service_endpoints_stand_in_for_private_endpoints(declared: Declare) -> None:
    services = [{"service": "Microsoft.Storage"}, {"service": "Microsoft.KeyVault"}]

    assert all(
        services == subnet.inputs["serviceEndpoints"] for subnet in of(declared({}), "network:Subnet").values()
    )
    for subnet in of(declared(PRIVATE), "network:Subnet").values():
        assert "serviceEndpoints" not in subnet.inputs


def test_subnets_are_made_one_after_the_other(declared: Declare) -> None:
    """Azure refuses a second change of a network's subnets while the first is under way."""
    subnets = of(declared(PRIVATE), "network:Subnet")

    assert subnets["heads"].urn in subnets["nodes"].dependencies
    assert subnets["nodes"].urn in subnets["endpoints"].dependencies


def test_the_network_leaves_its_subnets_to_themselves(declared: Declare) -> None:
    network = of(declared({}), "network:VirtualNetwork")["network"]

    assert network.ignore_changes == ("subnets",)
    assert "subnets" not in network.inputs


def test_private_endpoints_have_a_name_inside_the_network(declared: Declare) -> None:
    found = declared(PRIVATE)
    zones = {
        "storage": "privatelink.blob.core.windows.net",
        "registry": "privatelink.azurecr.io",
        "vault": "privatelink.vaultcore.azure.net",
    }
    groups = {"storage": "blob", "registry": "registry", "vault": "vault"}
    targets = {
        "storage": of(found, "storage:StorageAccount")["storage"].id,
        "registry": of(found, "containerregistry:Registry")["registry"].id,
        "vault": of(found, "keyvault:Vault")["vault"].id,
    }
    network = {"id": of(found, "network:VirtualNetwork")["network"].id}
    for name, endpoint in of(found, "network:PrivateEndpoint").items():
        (connection,) = endpoint.inputs["privateLinkServiceConnections"]
        assert (targets[name], [groups[name]]) == (connection["privateLinkServiceId"], connection["groupIds"])
    assert zones == {
        name: zone.inputs["privateZoneName"] for name, zone in of(found, "privatedns:PrivateZone").items()
    }
    assert dict.fromkeys(zones, network) == {
        name: link.inputs["virtualNetwork"] for name, link in of(found, "privatedns:VirtualNetworkLink").items()
    }
    for name, record in of(found, "network:PrivateDnsZoneGroup").items():
        (config,) = record.inputs["privateDnsZoneConfigs"]
        assert of(found, "privatedns:PrivateZone")[name].id == config["privateDnsZoneId"]
