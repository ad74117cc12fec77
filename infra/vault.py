"""The Key Vault: it holds the munge key, which the head node makes at its first boot and no program ever sees."""

from __future__ import annotations

from dataclasses import dataclass

import pulumi
from pulumi_azure_native import keyvault

from infra.exceptions import policy_exception
from infra.names import Place, ip_rules

KEPT_DAYS = 90
"""How long deleted secrets and a deleted vault are kept: the most there is. No setting: Azure never changes it."""


@dataclass(frozen=True, kw_only=True)
class VaultArgs:
    """tenant: guid; client_sources: CIDRs that may reach it beside the subnets, whose ARM ids those are."""

    place: Place
    tenant: pulumi.Output[str]
    private: bool
    client_sources: tuple[str, ...]
    subnets: tuple[pulumi.Output[str], ...]
    protect: bool


def declare(args: VaultArgs, parent: pulumi.Resource) -> keyvault.Vault:
    """Declare the vault "vault". Only the machines need it, so no other network may reach it unless named."""
    vault = keyvault.Vault(
        "vault",
        resource_group_name=args.place.group,
        location=args.place.location,
        tags=args.place.tags,
        properties=keyvault.VaultPropertiesArgs(
            tenant_id=args.tenant,
            sku=keyvault.SkuArgs(family="A", name=keyvault.SkuName.STANDARD),
            enable_rbac_authorization=True,
            enable_soft_delete=True,
            soft_delete_retention_in_days=KEPT_DAYS,
            # Cannot be taken back, and Azure refuses an explicit false.
            enable_purge_protection=True if args.protect else None,
            public_network_access="Disabled" if args.private else "Enabled",
            network_acls=_firewall(args),
        ),
        opts=pulumi.ResourceOptions(parent=parent, protect=args.protect),
    )
    if not args.protect:
        policy_exception(
            "vault-purge-protection",
            vault,
            "This stack is not said to hold data worth protecting, and its one secret is made again by the head "
            "node; tensoryard:protectData turns it on",
        )
    return vault


def _firewall(args: VaultArgs) -> keyvault.NetworkRuleSetArgs:
    return keyvault.NetworkRuleSetArgs(
        default_action="Deny",
        bypass="AzureServices",
        ip_rules=[
            keyvault.IPRuleArgs(value=source) for source in (() if args.private else ip_rules(args.client_sources))
        ],
        virtual_network_rules=[
            keyvault.VirtualNetworkRuleArgs(id=subnet) for subnet in (() if args.private else args.subnets)
        ],
    )
