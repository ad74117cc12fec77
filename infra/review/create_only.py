"""
Which properties cannot be changed in place, type by type, each with where that is known from.

Two ways that ends. For some the provider itself plans a replacement. For others it plans an update that Azure then
refuses half-way through `pulumi up`: the reviewer is told so, since only a replacement (by hand or with
`replace_on_changes`) gets past it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Literal

Effect = Literal["replaced", "refused"]

# What names or places a resource is part of its address: another address is another resource.
PLACES = frozenset({"location", "resourceGroupName", "scope", "resourceUri", "parentResourcePath"})
PLACES_SOURCE = "azure-native marks every parameter in a resource's address as replacing (provider/pkg/gen/params.go)"

# Read in pulumi-azure-native at its 2026 sources.
_GEN = "pulumi-azure-native provider/pkg/gen/replacement.go"
_REPLACED: dict[str, dict[str, str]] = {
    "authorization:RoleAssignment": {"principalId": _GEN},
    "network:PrivateEndpoint": {"subnet": _GEN},
    "network:PublicIPAddress": {"publicIPAddressVersion": _GEN, "publicIPPrefix": _GEN, "sku": _GEN},
    "storage:StorageAccount": {"isHnsEnabled": _GEN},
}

# Updates that Azure refuses. Paths without list indices; a path covers everything below it.
_REST = "https://learn.microsoft.com/rest/api/"
_SET = f"{_REST}compute/virtual-machine-scale-sets/create-or-update"
_MACHINE = f"{_REST}compute/virtual-machines/create-or-update"
_ACCOUNT = f"{_REST}storagerp/storage-accounts/create"
_REFUSED: dict[str, dict[str, str]] = {
    "compute:VirtualMachineScaleSet": {
        "orchestrationMode": f"{_SET}; orchestration-modes.md: the mode cannot be changed later",
        "platformFaultDomainCount": _SET,
        "singlePlacementGroup": f"{_SET}: false may not become true",
        "zones": f"{_SET}: a zone may be added, none removed",
        "virtualMachineProfile.priority": _SET,
        "virtualMachineProfile.evictionPolicy": _SET,
        "virtualMachineProfile.osProfile.adminUsername": _SET,
        "virtualMachineProfile.osProfile.computerNamePrefix": _SET,
        "virtualMachineProfile.securityProfile.securityType": _SET,
        "virtualMachineProfile.storageProfile.imageReference.publisher": _SET,
        "virtualMachineProfile.storageProfile.osDisk.diffDiskSettings": "ephemeral-os-disks.md",
    },
    "compute:VirtualMachine": {
        "osProfile.customData": f"{_MACHINE}: read at the first boot only",
        "osProfile.adminUsername": _MACHINE,
        "osProfile.computerName": _MACHINE,
        "osProfile.linuxConfiguration.ssh": _MACHINE,
        "storageProfile.imageReference": _MACHINE,
        "storageProfile.osDisk.name": _MACHINE,
        "storageProfile.osDisk.managedDisk": _MACHINE,
        "securityProfile.securityType": _MACHINE,
        "priority": _MACHINE,
        "zones": _MACHINE,
        "availabilitySet": _MACHINE,
    },
    "authorization:RoleAssignment": {
        "roleDefinitionId": "RoleAssignmentUpdateNotPermitted; pulumi-azure-native issue 771",
        "principalType": "RoleAssignmentUpdateNotPermitted; pulumi-azure-native issue 771",
    },
    "compute:Disk": {"creationData": f"{_REST}compute/disks/create-or-update", "zones": f"{_REST}compute/disks"},
    "storage:StorageAccount": {
        "kind": f"{_ACCOUNT}: only an upgrade to StorageV2",
        "immutableStorageWithVersioning": f"{_ACCOUNT}: at creation only",
        "encryption.requireInfrastructureEncryption": f"{_ACCOUNT}: at creation only",
        "isNfsV3Enabled": f"{_ACCOUNT}: at creation only",
    },
    "storage:BlobContainer": {"immutableStorageWithVersioning": f"{_REST}storagerp/blob-containers/create"},
    "containerregistry:Registry": {"zoneRedundancy": f"{_REST}containerregistry/registries/create"},
    "keyvault:Vault": {
        "properties.enablePurgeProtection": f"{_REST}keyvault/keyvault/vaults/create-or-update: never off again",
        "properties.tenantId": f"{_REST}keyvault/keyvault/vaults/create-or-update",
    },
    "network:Subnet": {"defaultOutboundAccess": "SDK: can only be set at the time of subnet creation"},
    "network:VirtualNetwork": {"subnets.defaultOutboundAccess": "SDK: only at the time of subnet creation"},
    "network:PublicIPAddress": {"zones": f"{_REST}virtualnetwork/public-ip-addresses/create-or-update"},
    "network:NatGateway": {"zones": f"{_REST}virtualnetwork/nat-gateways/create-or-update", "sku": _REST},
    "network:NetworkInterface": {"enableAcceleratedNetworking": "refused while its machine runs"},
}

# Of these, changes in one direction are taken.
_TAKEN: dict[tuple[str, str], Callable[[Any, Any], bool]] = {
    ("compute:VirtualMachineScaleSet", "zones"): lambda before, after: set(before or ()) <= set(after or ()),
    ("compute:VirtualMachineScaleSet", "singlePlacementGroup"): lambda _, after: after is False,
    ("storage:StorageAccount", "kind"): lambda _, after: after == "StorageV2",
    ("keyvault:Vault", "properties.enablePurgeProtection"): lambda _, after: after is True,
}

# Names inside a resource's address, such as accountName; `name` of a nested thing is not one of them.
_NAMES = {
    "storage:StorageAccount": {"accountName"},
    "storage:BlobContainer": {"accountName", "containerName"},
    "storage:BlobServiceProperties": {"accountName", "blobServicesName"},
    "storage:BlobContainerImmutabilityPolicy": {"accountName", "containerName", "immutabilityPolicyName"},
    "storage:ManagementPolicy": {"accountName", "managementPolicyName"},
    "containerregistry:Registry": {"registryName"},
    "keyvault:Vault": {"vaultName"},
    "keyvault:Secret": {"vaultName", "secretName"},
    "network:VirtualNetwork": {"virtualNetworkName"},
    "network:Subnet": {"virtualNetworkName", "subnetName"},
    "network:NetworkSecurityGroup": {"networkSecurityGroupName"},
    "network:SecurityRule": {"networkSecurityGroupName", "securityRuleName"},
    "network:NatGateway": {"natGatewayName"},
    "network:PublicIPAddress": {"publicIpAddressName"},
    "network:NetworkInterface": {"networkInterfaceName"},
    "network:PrivateEndpoint": {"privateEndpointName"},
    "network:PrivateDnsZoneGroup": {"privateEndpointName", "privateDnsZoneGroupName"},
    "privatedns:PrivateZone": {"privateZoneName"},
    "privatedns:VirtualNetworkLink": {"privateZoneName", "virtualNetworkLinkName"},
    "compute:VirtualMachine": {"vmName"},
    "compute:VirtualMachineScaleSet": {"vmScaleSetName"},
    "compute:Disk": {"diskName"},
    "managedidentity:UserAssignedIdentity": {"resourceName"},
    "operationalinsights:Workspace": {"workspaceName"},
    "monitor:DiagnosticSetting": {"name"},
    "authorization:RoleAssignment": {"roleAssignmentName"},
    "authorization:RoleDefinition": {"roleDefinitionId"},
    "authorization:ManagementLockByScope": {"lockName"},
    "authorization:ManagementLockAtResourceGroupLevel": {"lockName"},
}

# Losing one of these loses what people put into it.
HOLDS_DATA = {
    "storage:StorageAccount": "every file of its containers: datasets, runs, models",
    "storage:BlobContainer": "every file in it",
    "keyvault:Vault": "its secrets, among them the cluster's munge key",
    "keyvault:Secret": "its value",
    "containerregistry:Registry": "every image in it",
    "operationalinsights:Workspace": "all logs in it",
    "compute:Disk": "what is written on it",
    "compute:VirtualMachine": "what is on its disk: of a head, Slurm's queue and, without a share, the environments "
    "and the outputs of runs that have not ended",
    "resources:ResourceGroup": "everything in it, data included",
}

_INDEX = re.compile(r"\[[^]]*]")


def short_type(type_: str) -> str:
    """`storage:StorageAccount` of `azure-native:storage/v20240101:StorageAccount`; others as they are."""
    if not type_.startswith("azure-native:"):
        return type_
    module, _, name = type_.removeprefix("azure-native:").partition(":")
    return f"{module.partition('/')[0]}:{name}"


def effect_of(
    type_: str, path: str, before: Any = None, after: Any = None, declared: tuple[str, ...] = ()
) -> tuple[Effect, str] | None:
    """
    What a change of the property at path does to the resource and where that is known from; None: an update in place.

    type_: as Pulumi writes it; path: such as `subnets[nodes].addressPrefix`; before, after: the values, None where
    absent; declared: the resource's `replace_on_changes`.
    """
    token, plain = short_type(type_), _INDEX.sub("", path)
    if any(_covers(_INDEX.sub("", own), plain) for own in declared):
        return "replaced", "the program's own `replace_on_changes`"
    if plain in PLACES or plain in _NAMES.get(token, ()):
        return "replaced", PLACES_SOURCE
    for own, source in _REPLACED.get(token, {}).items():
        if _covers(own, plain):
            return "replaced", source
    for own, source in _REFUSED.get(token, {}).items():
        taken = _TAKEN.get((token, own))
        if _covers(own, plain) and not (taken and taken(before, after)):
            return "refused", source
    return None


def _covers(path: str, other: str) -> bool:
    return path == "*" or other == path or other.startswith(f"{path}.")
