"""The storage account with its containers, and what brings deleted or overwritten data back."""

from __future__ import annotations

from dataclasses import dataclass

import pulumi
from pulumi_azure_native import storage

from infra.exceptions import policy_exception
from infra.names import CONTAINERS, Place, ip_rules


@dataclass(frozen=True, kw_only=True)
class StoreArgs:
    """
    redundancy: "LRS" to "GZRS"; private: no public address at all; client_sources: CIDRs that may reach it, none for
    any; subnets: ARM ids of those that always may; immutable_days: of the container models, 0 for none.
    """

    place: Place
    redundancy: str
    private: bool
    client_sources: tuple[str, ...]
    subnets: tuple[pulumi.Output[str], ...]
    soft_delete_days: int
    versioning: bool
    immutable_days: int
    protect: bool


@dataclass(frozen=True, kw_only=True)
class DataStore:
    """The account, and each container by name."""

    account: storage.StorageAccount
    containers: dict[str, storage.BlobContainer]


def declare(args: StoreArgs, parent: pulumi.Resource) -> DataStore:
    """Declare the account "storage" and all that belongs to it."""
    place = args.place
    child = pulumi.ResourceOptions(parent=parent)
    kept = pulumi.ResourceOptions(parent=parent, protect=args.protect)
    account = storage.StorageAccount(
        "storage",
        resource_group_name=place.group,
        location=place.location,
        tags=place.tags,
        kind="StorageV2",
        sku=storage.SkuArgs(name=f"Standard_{args.redundancy}"),
        # Absent means true for the keys, and TLS 1.0 for the version.
        allow_shared_key_access=False,
        minimum_tls_version="TLS1_2",
        allow_blob_public_access=False,
        enable_https_traffic_only=True,
        default_to_o_auth_authentication=True,
        is_local_user_enabled=False,
        allow_cross_tenant_replication=False,
        public_network_access="Disabled" if args.private else "Enabled",
        network_rule_set=_firewall(args),
        opts=kept,
    )
    if not args.private and not args.client_sources:
        policy_exception(
            "storage-any-network",
            account,
            "Nobody said from where people come: every request still needs an identity with a role, and keys are "
            "off; name their networks in tensoryard:clientSources to shut the rest out",
        )
    retention = storage.DeleteRetentionPolicyArgs(enabled=True, days=args.soft_delete_days)
    service = storage.BlobServiceProperties(
        "storage",
        resource_group_name=place.group,
        account_name=account.name,
        # The only name there is, and the provider does not fill it in (azure-native issue 4022).
        blob_services_name="default",
        delete_retention_policy=retention,
        container_delete_retention_policy=retention,
        is_versioning_enabled=args.versioning,
        change_feed=storage.ChangeFeedArgs(enabled=args.versioning),
        opts=child,
    )
    if args.versioning:
        _drop_old_versions(args, account, service, parent)
    containers = {
        name: storage.BlobContainer(
            name,
            resource_group_name=place.group,
            account_name=account.name,
            container_name=name,
            public_access=storage.PublicAccess.NONE,
            opts=kept,
        )
        for name in CONTAINERS
    }
    if args.immutable_days:
        storage.BlobContainerImmutabilityPolicy(
            "models",
            resource_group_name=place.group,
            account_name=account.name,
            container_name=containers["models"].name,
            immutability_policy_name="default",
            immutability_period_since_creation_in_days=args.immutable_days,
            # Version numbers are handed out by appending to a file.
            allow_protected_append_writes=True,
            opts=child,
        )
    return DataStore(account=account, containers=containers)


def _firewall(args: StoreArgs) -> storage.NetworkRuleSetArgs:
    """Subnets are named whether or not others may in, so that naming a client's network is a change in place."""
    anybody = not args.private and not args.client_sources
    return storage.NetworkRuleSetArgs(
        default_action=storage.DefaultAction.ALLOW if anybody else storage.DefaultAction.DENY,
        bypass="AzureServices",
        ip_rules=[
            storage.IPRuleArgs(i_p_address_or_range=source, action=storage.Action.ALLOW)
            for source in (() if args.private else ip_rules(args.client_sources))
        ],
        virtual_network_rules=[
            storage.VirtualNetworkRuleArgs(virtual_network_resource_id=subnet, action=storage.Action.ALLOW)
            for subnet in (() if args.private else args.subnets)
        ],
    )


def _drop_old_versions(
    args: StoreArgs, account: storage.StorageAccount, service: pulumi.Resource, parent: pulumi.Resource
) -> None:
    """Versions of overwritten blobs go when deleted blobs go: else they would be kept, and paid for, for ever."""
    age = storage.DateAfterCreationArgs(days_after_creation_greater_than=args.soft_delete_days)
    storage.ManagementPolicy(
        "storage",
        resource_group_name=args.place.group,
        account_name=account.name,
        management_policy_name="default",
        policy=storage.ManagementPolicySchemaArgs(
            rules=[
                storage.ManagementPolicyRuleArgs(
                    name="drop-old-versions",
                    enabled=True,
                    type="Lifecycle",
                    definition=storage.ManagementPolicyDefinitionArgs(
                        filters=storage.ManagementPolicyFilterArgs(blob_types=["blockBlob"]),
                        actions=storage.ManagementPolicyActionArgs(
                            version=storage.ManagementPolicyVersionArgs(delete=age)
                        ),
                    ),
                )
            ]
        ),
        opts=pulumi.ResourceOptions(parent=parent, depends_on=[service]),
    )
