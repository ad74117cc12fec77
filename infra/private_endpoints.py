"""Private endpoints: addresses inside the network for storage, registry and vault, and the names that lead there."""

from __future__ import annotations

from dataclasses import dataclass

import pulumi
from pulumi_azure_native import network, privatedns

from infra.names import Place


@dataclass(frozen=True, kw_only=True)
class Target:
    """
    A service that gets a private endpoint.

    resource: its ARM id; group: what of it, in Azure's word; zone: the name that its address is known by.
    Source: https://learn.microsoft.com/azure/private-link/private-endpoint-dns
    """

    name: str
    resource: pulumi.Output[str]
    group: str
    zone: str


def storage(resource: pulumi.Output[str]) -> Target:
    return Target(name="storage", resource=resource, group="blob", zone="privatelink.blob.core.windows.net")


def registry(resource: pulumi.Output[str]) -> Target:
    return Target(name="registry", resource=resource, group="registry", zone="privatelink.azurecr.io")


def vault(resource: pulumi.Output[str]) -> Target:
    return Target(name="vault", resource=resource, group="vault", zone="privatelink.vaultcore.azure.net")


def endpoint(
    target: Target,
    place: Place,
    subnet: pulumi.Output[str],
    network_id: pulumi.Output[str],
    parent: pulumi.Resource,
) -> pulumi.Resource:
    """Declare a private endpoint (returned), its DNS zone, the zone's link to the network, and the record."""
    child = pulumi.ResourceOptions(parent=parent)
    made = network.PrivateEndpoint(
        target.name,
        resource_group_name=place.group,
        location=place.location,
        tags=place.tags,
        subnet=network.SubnetArgs(id=subnet),
        private_link_service_connections=[
            network.PrivateLinkServiceConnectionArgs(
                name=target.name, private_link_service_id=target.resource, group_ids=[target.group]
            )
        ],
        opts=child,
    )
    zone = privatedns.PrivateZone(
        target.name,
        resource_group_name=place.group,
        location="global",
        tags=place.tags,
        private_zone_name=target.zone,
        opts=child,
    )
    privatedns.VirtualNetworkLink(
        target.name,
        resource_group_name=place.group,
        location="global",
        tags=place.tags,
        private_zone_name=zone.name,
        virtual_network_link_name="tensoryard",
        registration_enabled=False,
        virtual_network=privatedns.SubResourceArgs(id=network_id),
        opts=child,
    )
    network.PrivateDnsZoneGroup(
        target.name,
        resource_group_name=place.group,
        private_endpoint_name=made.name,
        private_dns_zone_group_name="default",
        private_dns_zone_configs=[network.PrivateDnsZoneConfigArgs(name=target.group, private_dns_zone_id=zone.id)],
        opts=child,
    )
    return made
