"""
The roles that the workspace gives: Azure's own by their ids, and the program's with just the needed actions.

Ids of built-in roles are the same in every tenant.
Source: https://learn.microsoft.com/azure/role-based-access-control/built-in-roles
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Role:
    """
    key: part of logical names, never to be changed; title: as people read it; guid: of a built-in role, None for one
    that the program defines from actions (management) and data_actions (contents).
    """

    key: str
    title: str
    guid: str | None = None
    purpose: str = ""
    actions: tuple[str, ...] = ()
    data_actions: tuple[str, ...] = ()


BLOB_CONTRIBUTOR = Role(
    key="blob-contributor", title="Storage Blob Data Contributor", guid="ba92f5b4-2d11-453d-a403-e96b0029c9fe"
)
BLOB_READER = Role(key="blob-reader", title="Storage Blob Data Reader", guid="2a2b9908-6ea1-4ae2-8e65-a410df84e7d1")
ACR_PULL = Role(key="pull", title="AcrPull", guid="7f951dda-4ed3-4680-a7ca-43fe172d538d")
ACR_PUSH = Role(key="push", title="AcrPush", guid="8311e382-0749-4cb8-b61a-304f252e45ec")
SECRETS_USER = Role(key="secrets-user", title="Key Vault Secrets User", guid="4633458b-17de-408a-b874-0445c86b69e6")
IDENTITY_OPERATOR = Role(
    key="identity-operator", title="Managed Identity Operator", guid="f1a07417-d97a-45cb-824c-7a7467783830"
)

_BLOBS = "Microsoft.Storage/storageAccounts/blobServices/containers/blobs"
BLOB_TAGS = Role(
    key="blob-tags",
    title="Tensoryard blob tags",
    purpose="Read, write and search the index tags of blobs, which no built-in role but Blob Data Owner allows",
    data_actions=(f"{_BLOBS}/tags/read", f"{_BLOBS}/tags/write", f"{_BLOBS}/filter/action"),
)

_SECRETS = "Microsoft.KeyVault/vaults/secrets"
KEY_MAKER = Role(
    key="key-maker",
    title="Tensoryard key maker",
    purpose="Read and write secrets, without listing, deleting or sharing them",
    data_actions=(f"{_SECRETS}/getSecret/action", f"{_SECRETS}/setSecret/action"),
)

_SETS = "Microsoft.Compute/virtualMachineScaleSets"
SCALE_SET_OPERATOR = Role(
    key="scale-set-operator",
    title="Tensoryard scale set operator",
    purpose="Grow a scale set and delete nodes of it, without deleting the set",
    actions=(
        f"{_SETS}/read",
        f"{_SETS}/write",
        f"{_SETS}/delete/action",
        f"{_SETS}/instanceView/read",
        f"{_SETS}/virtualMachines/read",
        f"{_SETS}/virtualMachines/write",
        f"{_SETS}/virtualMachines/delete",
        f"{_SETS}/virtualMachines/instanceView/read",
    ),
)

# Nodes of a Flexible set are ordinary machines, with disks and interfaces of their own, made in the name of whoever
# grows the set. They do not exist yet when the role is given, so it can only be given on their resource group.
# Source: https://learn.microsoft.com/azure/virtual-machine-scale-sets/virtual-machine-scale-sets-orchestration-modes
NODE_OPERATOR = Role(
    key="node-operator",
    title="Tensoryard node operator",
    purpose="Make and delete the machines of a Flexible scale set, with their disks and interfaces",
    actions=(
        "Microsoft.Compute/virtualMachines/read",
        "Microsoft.Compute/virtualMachines/write",
        "Microsoft.Compute/virtualMachines/delete",
        "Microsoft.Compute/virtualMachines/instanceView/read",
        "Microsoft.Compute/disks/read",
        "Microsoft.Compute/disks/write",
        "Microsoft.Compute/disks/delete",
        "Microsoft.Network/networkInterfaces/read",
        "Microsoft.Network/networkInterfaces/write",
        "Microsoft.Network/networkInterfaces/delete",
        "Microsoft.Network/networkInterfaces/join/action",
    ),
)
_REGISTRIES = "Microsoft.ContainerRegistry/registries"
IMAGE_BUILDER = Role(
    key="image-builder",
    title="Tensoryard image builder",
    purpose="Have the registry build images from what it is sent, and read what such builds say",
    actions=(
        f"{_REGISTRIES}/read",
        f"{_REGISTRIES}/listBuildSourceUploadUrl/action",
        f"{_REGISTRIES}/scheduleRun/action",
        f"{_REGISTRIES}/runs/read",
        f"{_REGISTRIES}/runs/listLogSasUrl/action",
        f"{_REGISTRIES}/runs/cancel/action",
    ),
)
SUBNET_JOINER = Role(
    key="subnet-joiner",
    title="Tensoryard subnet joiner",
    purpose="Put machines into a subnet, without changing it",
    actions=("Microsoft.Network/virtualNetworks/subnets/join/action",),
)
