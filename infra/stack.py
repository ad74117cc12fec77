"""From the settings to what each component is given, and from the components to what the stack says of itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pulumi
from pulumi_azure_native import authorization, resources

from infra import names, sizes
from infra.cluster import Cluster, ClusterArgs
from infra.head import HeadArgs
from infra.names import MUNGE_SECRET, Place
from infra.network import Network, NetworkArgs
from infra.settings import Cluster as ClusterSettings
from infra.settings import Settings, addresses
from infra.slurm_cluster import slurm_config
from infra.workspace import Workspace


def declare_place(settings: Settings) -> Place:
    """The resource group that everything is in, and the tags that everything carries."""
    tags = names.tags(settings.workspace_name, pulumi.get_stack(), settings.tags, protected=settings.protect_data)
    group = resources.ResourceGroup(
        "workspace",
        location=settings.location,
        tags=tags,
        opts=pulumi.ResourceOptions(protect=settings.protect_data),
    )
    return Place(group=group.name, group_id=group.id, location=settings.location, tags=tags)


def network_args(settings: Settings, place: Place, logs: pulumi.Output[str]) -> NetworkArgs:
    subnets = addresses.layout(settings)
    return NetworkArgs(
        place=place,
        address_space=subnets.address_space,
        heads_subnet=subnets.heads,
        nodes_subnet=subnets.nodes,
        endpoints_subnet=subnets.endpoints if settings.private_endpoints else None,
        head_address=subnets.head_address,
        ssh_sources=settings.ssh_sources,
        zones=settings.zones,
        logs=logs,
    )


def facts(settings: Settings, workspace: Workspace) -> pulumi.Output[dict[str, Any]]:
    """What every machine is told at boot, and no secret."""
    return pulumi.Output.from_input(
        {
            "workspace": settings.workspace_name,
            "headAddress": addresses.layout(settings).head_address,
            "share": settings.share,
            "blobEndpoint": workspace.blob_endpoint,
            "registry": workspace.registry.login_server,
            "vaultUri": workspace.vault_uri,
            "mungeSecret": MUNGE_SECRET,
        }
    )


def head_facts(
    settings: Settings,
    client: pulumi.Output[authorization.GetClientConfigResult],
    place: Place,
    workspace: Workspace,
    clusters: Sequence[Cluster],
) -> pulumi.Output[dict[str, Any]]:
    """What the head is told beside what every machine is: its Slurm, its tyard, and the workspace to work for."""
    head_host = f"{settings.workspace_name}-head"
    subnets = addresses.layout(settings)
    told = slurm_config(settings, head_host, subnets.head_address).files() if settings.clusters else {}
    about = outputs(settings, client, place, workspace, {"name": head_host}, clusters)
    return pulumi.Output.from_input(
        {
            "slurm": told,
            "package": settings.package,
            "nodesSubnet": subnets.nodes,
            "imageBuilder": settings.image_builder,
            "connect": about,
        }
    )


def cluster_args(
    settings: Settings,
    cluster: ClusterSettings,
    place: Place,
    network: Network,
    told: pulumi.Output[dict[str, Any]],
) -> ClusterArgs:
    return ClusterArgs(
        place=place,
        settings=cluster,
        size=_size(cluster.vm_size),
        os_image=cluster.image,
        subnet=network.nodes_id,
        facts=told,
        ssh_public_key=settings.ssh_public_key,
        zones=settings.zones,
        encryption_at_host=settings.encryption_at_host,
        builds_images=settings.image_builder == "job",
    )


def head_args(
    settings: Settings,
    place: Place,
    network: Network,
    told: pulumi.Output[dict[str, Any]],
    own: pulumi.Output[dict[str, Any]],
    clusters: Sequence[Cluster],
) -> HeadArgs:
    return HeadArgs(
        place=place,
        size=_size(settings.head_size),
        computer_name=f"{settings.workspace_name}-head",
        subnet=network.heads_id,
        address=addresses.layout(settings).head_address,
        public=bool(settings.ssh_sources),
        facts=pulumi.Output.all(told, own).apply(lambda both: {**both[0], **both[1]}),
        clusters={cluster.name: cluster.facts for cluster in clusters},
        ssh_public_key=settings.ssh_public_key,
        zones=settings.zones,
        encryption_at_host=settings.encryption_at_host,
        share=settings.share,
    )


def outputs(
    settings: Settings,
    client: pulumi.Output[authorization.GetClientConfigResult],
    place: Place,
    workspace: Workspace,
    head: Mapping[str, pulumi.Input[str | None]],
    clusters: Sequence[Cluster],
) -> dict[str, Any]:
    """All that `tyard workspace connect` reads, as plain data. head: what only the head that is there can say."""
    return {
        "name": settings.workspace_name,
        "subscriptionId": client.subscription_id,
        "tenantId": client.tenant_id,
        "location": settings.location,
        "resourceGroup": place.group,
        "storageAccount": workspace.storage.name,
        "blobEndpoint": workspace.blob_endpoint,
        "containers": {name: made.name for name, made in workspace.containers.items()},
        "registry": {"name": workspace.registry.name, "loginServer": workspace.registry.login_server},
        "vault": {"name": workspace.vault.name, "uri": workspace.vault_uri},
        "head": {
            "privateAddress": addresses.layout(settings).head_address,
            **head,
        },
        "clusters": {cluster.name: cluster.facts for cluster in clusters},
    }


def _size(name: str) -> sizes.Size:
    size = sizes.find(name)
    if size is None:  # the settings' own checks let no unknown size through
        raise ValueError(f"the catalogue has no size {name}")
    return size
