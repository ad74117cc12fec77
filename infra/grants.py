"""The least privilege of a workspace, line by line: who is given which role on what, and why."""

from __future__ import annotations

from collections.abc import Sequence

import pulumi

from infra import roles
from infra.access import Access, Scope, Who
from infra.cluster import Cluster
from infra.head import Head
from infra.network import Network
from infra.settings import Settings
from infra.workspace import Workspace


def give(
    access: Access,
    settings: Settings,
    deployer: pulumi.Output[str],
    group_id: pulumi.Output[str],
    network: Network,
    workspace: Workspace,
    head: Head,
    clusters: Sequence[Cluster],
) -> None:
    """Declare every grant of a workspace. deployer: object id of whoever runs `pulumi up`, used where no user is."""
    containers = {name: Scope(name=f"container-{name}", id=made.id) for name, made in workspace.containers.items()}
    registry = Scope(name="registry", id=workspace.registry.id)
    vault = Scope(name="vault", id=workspace.vault.id)
    nodes = Scope(name="subnet-nodes", id=network.nodes_id)
    group = Scope(name="resource-group", id=group_id)

    who = Who(name="head", principal=head.principal)
    access.grant(
        who, roles.BLOB_CONTRIBUTOR, containers["runs"], "The controller claims runs and writes their events"
    )
    access.grant(who, roles.BLOB_READER, containers["data"], "The controller looks up and fetches the inputs of jobs")
    access.grant(who, roles.ACR_PUSH, registry, "The controller builds the images of environments and pushes them")
    if settings.image_builder == "acr-tasks":
        access.grant(who, roles.IMAGE_BUILDER, registry, "The controller has the registry build the images")
    access.grant(who, roles.KEY_MAKER, vault, "The first boot makes the munge key, later ones read it")
    access.grant(who, roles.NODE_OPERATOR, group, "Slurm grows and shrinks the clusters: nodes are ordinary machines")
    access.grant(who, roles.SUBNET_JOINER, nodes, "New nodes join the nodes' subnet")
    for cluster in clusters:
        scale_set = Scope(name=f"scale-set-{cluster.name}", id=cluster.scale_set.id)
        identity = Scope(name=f"identity-{cluster.name}", id=cluster.identity.id)
        access.grant(
            who, roles.SCALE_SET_OPERATOR, scale_set, "Slurm sets the number of nodes and deletes single ones"
        )
        access.grant(who, roles.IDENTITY_OPERATOR, identity, "New nodes are given the nodes' identity, and no other")

    for cluster in clusters:
        who = Who(name=f"nodes-{cluster.name}", principal=cluster.identity.principal_id)
        # Nothing on blob storage: a job's inputs and outputs pass through the share, and any script can ask for a
        # token of its node.
        access.grant(who, roles.ACR_PULL, registry, "Nodes pull the images of environments")
        access.grant(who, roles.SECRETS_USER, vault, "Nodes read the munge key, the vault's only secret")

    for who in _people(settings, deployer):
        for name, why in (
            ("data", "Uploads and downloads of the default datastore"),
            ("runs", "Submissions, and reading what runs wrote"),
            ("models", "Registration of models and their versions"),
        ):
            access.grant(who, roles.BLOB_CONTRIBUTOR, containers[name], why)
        access.grant(who, roles.BLOB_TAGS, containers["models"], "Models are found by their index tags")
        access.grant(who, roles.ACR_PUSH, registry, "Images of their own machines' environments, and pushed models")


def _people(settings: Settings, deployer: pulumi.Output[str]) -> list[Who]:
    """The users of the settings; without any, the person who runs `pulumi up`."""
    if not settings.users:
        return [Who(name="deployer", principal=deployer, kind="User")]
    return [
        Who(name=f"user-{user.object_id}", principal=user.object_id, kind=user.kind, called=user.name)
        for user in settings.users
    ]
