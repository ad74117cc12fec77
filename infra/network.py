"""The network: three subnets, a security group for each, and a NAT gateway as the only way out."""

from __future__ import annotations

from dataclasses import dataclass

import pulumi
from pulumi_azure_native import network

from infra import diagnostics, security
from infra.names import Place
from infra.security import Opening

# Azure keeps the traffic of these inside its network without private endpoints. The registry has no such rule in
# this API version, and its older service endpoint never left preview.
SERVICE_ENDPOINTS = ("Microsoft.Storage", "Microsoft.KeyVault")


@dataclass(frozen=True, kw_only=True)
class NetworkArgs:
    """
    address_space and the subnets: CIDRs; endpoints_subnet: None without private endpoints; ssh_sources: CIDRs that
    may SSH to head_address; zones: of the NAT gateway's address; logs: ARM id of the Log Analytics workspace.
    """

    place: Place
    address_space: str
    heads_subnet: str
    nodes_subnet: str
    endpoints_subnet: str | None
    head_address: str
    ssh_sources: tuple[str, ...]
    zones: tuple[str, ...]
    logs: pulumi.Output[str]


class Network(pulumi.ComponentResource):
    """
    The workspace's network.

    network_id, heads_id, nodes_id, endpoints_id (None without private endpoints): ARM ids; nat_address: the public
    address from which everything inside is seen.
    """

    def __init__(self, name: str, args: NetworkArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("tensoryard:infra:Network", name, {}, opts)
        self._args = args
        self._child = pulumi.ResourceOptions(parent=self)
        self._nat = self._declare_nat()
        self._network = network.VirtualNetwork(
            "network",
            resource_group_name=args.place.group,
            location=args.place.location,
            tags=args.place.tags,
            address_space=network.AddressSpaceArgs(address_prefixes=[args.address_space]),
            # The subnets are resources of their own: what Azure reports inside the network is not ours to undo
            # (azure-native issue 611).
            opts=pulumi.ResourceOptions(parent=self, ignore_changes=["subnets"]),
        )
        self.network_id = self._network.id
        heads, nodes, endpoints = args.heads_subnet, args.nodes_subnet, args.endpoints_subnet
        heads_openings = security.to_heads(heads, nodes, args.head_address, args.ssh_sources)
        last = self._subnet("heads", heads, heads_openings, [])
        self.heads_id = last.id
        last = self._subnet("nodes", nodes, security.to_nodes(heads, nodes), [last])
        self.nodes_id = last.id
        self.endpoints_id: pulumi.Output[str] | None = None
        if endpoints is not None:
            openings = security.to_endpoints(heads, nodes, endpoints)
            self.endpoints_id = self._subnet("endpoints", endpoints, openings, [last]).id
        self.register_outputs({"networkId": self.network_id, "natAddress": self.nat_address})

    def _declare_nat(self) -> network.NatGateway:
        """Machines of a Flexible scale set have no way out of their own, and apt and pip need one."""
        place, zones = self._args.place, list(self._args.zones)
        # Azure moves neither to other zones.
        moved = pulumi.ResourceOptions(parent=self, replace_on_changes=["zones"])
        address = network.PublicIPAddress(
            "nat-address",
            resource_group_name=place.group,
            location=place.location,
            tags=place.tags,
            sku=network.PublicIPAddressSkuArgs(name="Standard"),
            public_ip_allocation_method="Static",
            # A Standard address stands in one zone or in all of them: Azure refuses two.
            zones=(zones or None) if len(zones) < 2 else ["1", "2", "3"],
            opts=moved,
        )
        self.nat_address = address.ip_address.apply(lambda given: given or "")
        return network.NatGateway(
            "nat",
            resource_group_name=place.group,
            location=place.location,
            tags=place.tags,
            sku=network.NatGatewaySkuArgs(name="Standard"),
            public_ip_addresses=[network.SubResourceArgs(id=address.id)],
            idle_timeout_in_minutes=10,
            # A Standard NAT gateway stands in one zone at most; with several, Azure chooses where.
            zones=zones if len(zones) == 1 else None,
            opts=moved,
        )

    def _subnet(self, name: str, prefix: str, openings: list[Opening], after: list[network.Subnet]) -> network.Subnet:
        """One subnet behind its own security group. after: Azure changes one subnet of a network at a time."""
        place, private = self._args.place, self._args.endpoints_subnet is not None
        group = network.NetworkSecurityGroup(
            name,
            resource_group_name=place.group,
            location=place.location,
            tags=place.tags,
            security_rules=_rules(openings),
            opts=self._child,
        )
        diagnostics.record(name, group.id, diagnostics.SECURITY_GROUP, self._args.logs, self)
        of_endpoints = name == "endpoints"
        return network.Subnet(
            name,
            resource_group_name=place.group,
            virtual_network_name=self._network.name,
            subnet_name=name,
            address_prefix=prefix,
            network_security_group=network.NetworkSecurityGroupArgs(id=group.id),
            nat_gateway=None if of_endpoints else network.SubResourceArgs(id=self._nat.id),
            # Can only be set when the subnet is made; the default depends on the API version.
            default_outbound_access=False,
            # Without it a private endpoint is not held to the security group of its subnet.
            private_endpoint_network_policies="NetworkSecurityGroupEnabled",
            service_endpoints=None
            if private
            else [network.ServiceEndpointPropertiesFormatArgs(service=service) for service in SERVICE_ENDPOINTS],
            opts=pulumi.ResourceOptions(parent=self, depends_on=after),
        )


def _rules(openings: list[Opening]) -> list[network.SecurityRuleArgs]:
    """The openings, then a door shut to the internet and to the rest of the network, which Azure would let in."""
    allowed = [
        network.SecurityRuleArgs(
            name=opening.name,
            description=opening.why,
            priority=100 + 10 * place,
            direction="Inbound",
            access="Allow",
            protocol="Tcp",
            source_port_range="*",
            source_address_prefixes=list(opening.sources),
            destination_address_prefix=opening.destination,
            # Azure takes "*" as a single range only.
            destination_port_range=opening.ports[0] if len(opening.ports) == 1 else None,
            destination_port_ranges=list(opening.ports) if len(opening.ports) > 1 else None,
        )
        for place, opening in enumerate(openings)
    ]
    return [*allowed, _deny("deny-internet", "Internet", 4000), _deny("deny-the-rest", "*", 4096)]


def _deny(name: str, source: str, priority: int) -> network.SecurityRuleArgs:
    return network.SecurityRuleArgs(
        name=name,
        priority=priority,
        direction="Inbound",
        access="Deny",
        protocol="*",
        source_port_range="*",
        source_address_prefix=source,
        destination_address_prefix="*",
        destination_port_range="*",
    )
