"""What a workspace keeps: storage, registry and vault, with their logs and, where asked for, private endpoints."""

from __future__ import annotations

from dataclasses import dataclass

import pulumi

from infra import data_store, diagnostics, private_endpoints, registry, vault
from infra.names import Place
from infra.network import Network
from infra.settings import Settings


@dataclass(frozen=True, kw_only=True)
class WorkspaceArgs:
    """logs: ARM id of the Log Analytics workspace; tenant: guid of the directory that identities are of."""

    place: Place
    settings: Settings
    network: Network
    logs: pulumi.Output[str]
    tenant: pulumi.Output[str]


class Workspace(pulumi.ComponentResource):
    """
    The holders of data.

    storage, registry, vault: their resources; containers: by name; holders: logical name and ARM id of what is
    locked in a protected stack; below: what stands at or under them.
    """

    def __init__(self, name: str, args: WorkspaceArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("tensoryard:infra:Workspace", name, {}, opts)
        place, settings = args.place, args.settings
        subnets = (args.network.heads_id, args.network.nodes_id)
        store = data_store.declare(
            data_store.StoreArgs(
                place=place,
                redundancy=settings.storage_redundancy,
                private=settings.private_endpoints,
                client_sources=settings.client_sources,
                subnets=subnets,
                soft_delete_days=settings.soft_delete_days,
                versioning=settings.blob_versioning,
                immutable_days=settings.models_immutable_days,
                protect=settings.protect_data,
            ),
            parent=self,
        )
        self.storage, self.containers = store.account, store.containers
        self.registry = registry.declare(
            registry.RegistryArgs(
                place=place,
                sku=settings.registry_sku,
                private=settings.private_endpoints,
                client_sources=settings.client_sources,
                nat_address=args.network.nat_address,
                zones=settings.zones,
                protect=settings.protect_data,
            ),
            parent=self,
        )
        self.vault = vault.declare(
            vault.VaultArgs(
                place=place,
                tenant=args.tenant,
                private=settings.private_endpoints,
                client_sources=settings.client_sources,
                subnets=subnets,
                protect=settings.protect_data,
            ),
            parent=self,
        )
        self.blob_endpoint = self.storage.primary_endpoints.apply(lambda endpoints: endpoints.blob)
        self.vault_uri = self.vault.properties.apply(lambda properties: properties.vault_uri or "")
        self.holders = {"storage": self.storage.id, "registry": self.registry.id, "vault": self.vault.id}
        self.below: list[pulumi.Resource] = [*self.containers.values(), *self._record(args.logs, settings)]
        if args.network.endpoints_id is not None:
            for target in (
                private_endpoints.storage(self.storage.id),
                private_endpoints.registry(self.registry.id),
                private_endpoints.vault(self.vault.id),
            ):
                made = private_endpoints.endpoint(
                    target, place, args.network.endpoints_id, args.network.network_id, parent=self
                )
                self.below.append(made)
        self.register_outputs({"storage": self.storage.id, "registry": self.registry.id, "vault": self.vault.id})

    def _record(self, logs: pulumi.Output[str], settings: Settings) -> list[pulumi.Resource]:
        """
        Who did what, to Log Analytics.

        Reads of blobs only where data is protected: a job that opens a million small files writes a million lines,
        which are paid by the gigabyte.
        """
        blobs = diagnostics.BLOB_CHANGES + (diagnostics.BLOB_READS if settings.protect_data else ())
        service = self.storage.id.apply(lambda account: f"{account}/blobServices/default")
        return [
            diagnostics.record("storage", service, blobs, logs, self),
            diagnostics.record("registry", self.registry.id, diagnostics.REGISTRY, logs, self),
            diagnostics.record("vault", self.vault.id, diagnostics.VAULT, logs, self),
        ]
