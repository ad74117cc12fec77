"""The container registry that jobs' images are pushed to and pulled from."""

from __future__ import annotations

from dataclasses import dataclass

import pulumi
from pulumi_azure_native import containerregistry

from infra.exceptions import policy_exception
from infra.names import Place, ip_rules


@dataclass(frozen=True, kw_only=True)
class RegistryArgs:
    """
    sku: "Basic", "Standard" or "Premium", the only one with a firewall; client_sources: CIDRs that may reach it, none
    for any; nat_address: from where the nodes come; zones: two or more spread a Premium registry over them.
    """

    place: Place
    sku: str
    private: bool
    client_sources: tuple[str, ...]
    nat_address: pulumi.Output[str]
    zones: tuple[str, ...]
    protect: bool


def declare(args: RegistryArgs, parent: pulumi.Resource) -> containerregistry.Registry:
    """Declare the registry "registry"."""
    premium = args.sku == "Premium"
    listed = bool(args.client_sources) and not args.private  # the settings allow it for Premium only
    registry = containerregistry.Registry(
        "registry",
        resource_group_name=args.place.group,
        location=args.place.location,
        tags=args.place.tags,
        sku=containerregistry.SkuArgs(name=args.sku),
        admin_user_enabled=False,
        anonymous_pull_enabled=False,
        public_network_access="Disabled" if args.private else "Enabled",
        network_rule_set=_firewall(args) if listed else None,
        # Can only be chosen when the registry is made.
        zone_redundancy="Enabled" if premium and len(args.zones) > 1 else "Disabled",
        opts=pulumi.ResourceOptions(parent=parent, protect=args.protect),
    )
    if not args.private and not listed:
        policy_exception(
            "registry-any-network",
            registry,
            "Nobody said from where people come, and every pull and push still needs an identity with a role"
            if premium
            else "Only a Premium registry has a firewall; every pull and push still needs an identity with a role",
        )
    return registry


def _firewall(args: RegistryArgs) -> containerregistry.NetworkRuleSetArgs:
    """The clients' networks, and the address that head and nodes are seen from."""
    sources: list[pulumi.Input[str]] = [*ip_rules(args.client_sources), args.nat_address]
    return containerregistry.NetworkRuleSetArgs(
        default_action="Deny",
        ip_rules=[containerregistry.IPRuleArgs(i_p_address_or_range=source, action="Allow") for source in sources],
    )
