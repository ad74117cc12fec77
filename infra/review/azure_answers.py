"""
What Azure would answer to a resource that the program declares: names, ids, addresses, identities; always the same.

Outputs have the shape of the azure-native SDK's, so that what one resource passes on to the next is what it would be
in a subscription. Ids hold the zero subscription; names that the provider makes up end in eight digits of a hash.
Source: the path templates of Azure's REST documentation, https://learn.microsoft.com/rest/api/azure/
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
import uuid
from typing import Any

SUBSCRIPTION = "00000000-0000-0000-0000-000000000000"
TENANT = "00000000-0000-0000-0000-000000000001"
CLIENT = "00000000-0000-0000-0000-000000000002"
SOMEONE = "00000000-0000-0000-0000-000000000003"
"""Object id of whoever runs `pulumi up`: no real one is known here."""

# Where a resource lives. The last {field} is the input that names it, made up where the program does not set it;
# a path that begins with a provider stands in the resource group.
_PATHS = {
    "resources:ResourceGroup": "/subscriptions/{subscription}/resourceGroups/{resourceGroupName}",
    "storage:StorageAccount": "Microsoft.Storage/storageAccounts/{accountName}",
    "storage:BlobServiceProperties": "Microsoft.Storage/storageAccounts/{accountName}/blobServices/default",
    "storage:ManagementPolicy": "Microsoft.Storage/storageAccounts/{accountName}/managementPolicies/default",
    "storage:BlobContainer": (
        "Microsoft.Storage/storageAccounts/{accountName}/blobServices/default/containers/{containerName}"
    ),
    "storage:BlobContainerImmutabilityPolicy": (
        "Microsoft.Storage/storageAccounts/{accountName}/blobServices/default/containers/{containerName}"
        "/immutabilityPolicies/default"
    ),
    "containerregistry:Registry": "Microsoft.ContainerRegistry/registries/{registryName}",
    "keyvault:Vault": "Microsoft.KeyVault/vaults/{vaultName}",
    "keyvault:Secret": "Microsoft.KeyVault/vaults/{vaultName}/secrets/{secretName}",
    "network:VirtualNetwork": "Microsoft.Network/virtualNetworks/{virtualNetworkName}",
    "network:Subnet": "Microsoft.Network/virtualNetworks/{virtualNetworkName}/subnets/{subnetName}",
    "network:NetworkSecurityGroup": "Microsoft.Network/networkSecurityGroups/{networkSecurityGroupName}",
    "network:SecurityRule": (
        "Microsoft.Network/networkSecurityGroups/{networkSecurityGroupName}/securityRules/{securityRuleName}"
    ),
    "network:NatGateway": "Microsoft.Network/natGateways/{natGatewayName}",
    "network:PublicIPAddress": "Microsoft.Network/publicIPAddresses/{publicIpAddressName}",
    "network:NetworkInterface": "Microsoft.Network/networkInterfaces/{networkInterfaceName}",
    "network:PrivateEndpoint": "Microsoft.Network/privateEndpoints/{privateEndpointName}",
    "network:PrivateDnsZoneGroup": (
        "Microsoft.Network/privateEndpoints/{privateEndpointName}/privateDnsZoneGroups/{privateDnsZoneGroupName}"
    ),
    "privatedns:PrivateZone": "Microsoft.Network/privateDnsZones/{privateZoneName}",
    "privatedns:VirtualNetworkLink": (
        "Microsoft.Network/privateDnsZones/{privateZoneName}/virtualNetworkLinks/{virtualNetworkLinkName}"
    ),
    "compute:VirtualMachine": "Microsoft.Compute/virtualMachines/{vmName}",
    "compute:VirtualMachineScaleSet": "Microsoft.Compute/virtualMachineScaleSets/{vmScaleSetName}",
    "compute:Disk": "Microsoft.Compute/disks/{diskName}",
    "managedidentity:UserAssignedIdentity": "Microsoft.ManagedIdentity/userAssignedIdentities/{resourceName}",
    "operationalinsights:Workspace": "Microsoft.OperationalInsights/workspaces/{workspaceName}",
    "monitor:DiagnosticSetting": "{resourceUri}/providers/Microsoft.Insights/diagnosticSettings/{name}",
    "authorization:RoleAssignment": "{scope}/providers/Microsoft.Authorization/roleAssignments/{roleAssignmentName}",
    "authorization:RoleDefinition": "{scope}/providers/Microsoft.Authorization/roleDefinitions/{roleDefinitionId}",
    "authorization:ManagementLockByScope": "{scope}/providers/Microsoft.Authorization/locks/{lockName}",
    "authorization:ManagementLockAtResourceGroupLevel": (
        "/subscriptions/{subscription}/resourceGroups/{resourceGroupName}"
        "/providers/Microsoft.Authorization/locks/{lockName}"
    ),
}
_IN_GROUP = "/subscriptions/{subscription}/resourceGroups/{resourceGroupName}/providers/"
_GUID_NAMED = {"authorization:RoleAssignment", "authorization:RoleDefinition"}
_FIELD = re.compile(r"\{(\w+)}")


def has_location(type_: str) -> bool:
    """Whether a resource of this type stands in a region of its own, so that its provider fills `location` in."""
    path = _PATHS.get(type_.removeprefix("azure-native:"), "")
    return (path.count("/") == 2 and path.startswith("Microsoft.")) or type_ == "azure-native:resources:ResourceGroup"


def made_up_name(urn: str, logical: str, type_: str) -> str:
    """The name that azure-native gives where the program sets none: the logical name and eight hexadecimal digits."""
    digest = hashlib.sha256(urn.encode()).hexdigest()[:8]
    if type_ in _GUID_NAMED:
        return str(uuid.uuid5(uuid.NAMESPACE_URL, urn))
    if type_ in ("storage:StorageAccount", "containerregistry:Registry", "keyvault:Vault"):
        logical = re.sub("[^a-z0-9]", "", logical.lower())[:16]
    return f"{logical}{digest}"


class Azure:
    """One imagined subscription: answers each resource in turn and remembers it for those that refer to it."""

    def __init__(self, location: str | None) -> None:
        self._location = location
        self._by_id: dict[str, dict[str, Any]] = {}
        self._taken: dict[str, int] = {}

    def answer(self, urn: str, type_: str, logical: str, inputs: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        """
        The id and the outputs of a resource.

        type_: such as "azure-native:storage:StorageAccount"; inputs: camelCase, plain values.
        Raises ValueError where an input that places the resource is missing: that would fail in Azure too.
        """
        if not type_.startswith("azure-native:"):
            return f"{logical}-{hashlib.sha256(urn.encode()).hexdigest()[:8]}", dict(inputs)
        token = type_.removeprefix("azure-native:")
        id_, name = self._place(urn, token, logical, inputs)
        outputs = {**inputs, "name": name, "type": _arm_type(id_), "provisioningState": "Succeeded"}
        outputs.setdefault("location", self._location)
        if not has_location(type_):
            outputs.pop("location")
        if "identity" in inputs:
            outputs["identity"] = _identity(id_, inputs["identity"])
        outputs |= self._own(token, id_, name, outputs)
        self._by_id[id_] = outputs
        return id_, outputs

    def call(self, token: str, args: dict[str, Any]) -> dict[str, Any]:
        """The answer to a function call. Raises ValueError for calls that need a real subscription."""
        if token == "azure-native:authorization:getClientConfig":  # noqa: S105 - a function's name
            return {
                "subscriptionId": SUBSCRIPTION,
                "tenantId": TENANT,
                "clientId": CLIENT,
                "objectId": SOMEONE,
            }
        raise ValueError(f"the program calls `{token}`, which only a real subscription can answer")

    def _place(self, urn: str, token: str, logical: str, inputs: dict[str, Any]) -> tuple[str, str]:
        module, kind = token.split(":")[0], token.split(":")[-1]
        path = _PATHS.get(token, f"Microsoft.{module.capitalize()}/{kind[0].lower()}{kind[1:]}s/{{name}}")
        if path.startswith("Microsoft."):
            path = _IN_GROUP + path
        fields = _FIELD.findall(path)
        values = {"subscription": SUBSCRIPTION}
        for field in fields:
            value = inputs.get(field)
            if value:
                values[field] = str(value).removesuffix("/") if field in ("scope", "resourceUri") else str(value)
            elif field == fields[-1] and path.endswith("}"):
                values[field] = made_up_name(urn, logical, token)
            elif field not in values:
                raise ValueError(f"`{logical}` ({kind}) is declared without `{field}`")
        id_ = path.format_map(values)
        return id_, id_.rpartition("/")[2]

    def _own(self, token: str, id_: str, name: str, outputs: dict[str, Any]) -> dict[str, Any]:
        """The outputs that only this type has."""
        match token:
            case "managedidentity:UserAssignedIdentity":
                return {**_principal(id_), "tenantId": TENANT}
            case "storage:StorageAccount":
                kinds = {"blob": "blob", "dfs": "dfs", "file": "file", "queue": "queue", "table": "table"}
                endpoints = {kind: f"https://{name}.{kind}.core.windows.net/" for kind in kinds}
                return {"primaryEndpoints": endpoints, "primaryLocation": outputs.get("location")}
            case "containerregistry:Registry":
                return {"loginServer": f"{name}.azurecr.io"}
            case "keyvault:Vault":
                return {"properties": {**outputs["properties"], "vaultUri": f"https://{name}.vault.azure.net/"}}
            case "keyvault:Secret":
                uri = f"https://{outputs['vaultName']}.vault.azure.net/secrets/{name}"
                return {"properties": {**outputs["properties"], "secretUri": uri}}
            case "network:PublicIPAddress":
                return {"ipAddress": self._next("203.0.113.0/24", 10)}
            case "network:VirtualNetwork":
                subnets = [
                    dict(subnet, id=f"{id_}/subnets/{subnet['name']}") for subnet in outputs.get("subnets", [])
                ]
                self._by_id |= {subnet["id"]: subnet for subnet in subnets}
                return {"subnets": subnets, "resourceGuid": _guid(id_)}
            case "network:NetworkSecurityGroup":
                rules = outputs.get("securityRules", [])
                return {"securityRules": [dict(rule, id=f"{id_}/securityRules/{rule['name']}") for rule in rules]}
            case "network:NetworkInterface":
                configs = outputs.get("ipConfigurations", [])
                return {"ipConfigurations": [self._address(id_, config) for config in configs]}
            case "network:PrivateEndpoint":
                return {"networkInterfaces": [{"id": f"{_group(id_)}/networkInterfaces/{name}.nic"}]}
            case "compute:VirtualMachine":
                return {"vmId": _guid(id_), "timeCreated": "2000-01-01T00:00:00Z"}
            case "compute:VirtualMachineScaleSet":
                return {"uniqueId": _guid(id_), "timeCreated": "2000-01-01T00:00:00Z"}
            case "operationalinsights:Workspace":
                return {"customerId": _guid(id_)}
        return {}

    def _address(self, nic: str, config: dict[str, Any]) -> dict[str, Any]:
        """An interface's address with the private one that Azure hands out: the subnet's fifth or later."""
        subnet = self._by_id.get((config.get("subnet") or {}).get("id", ""), {})
        prefix = subnet.get("addressPrefix") or (subnet.get("addressPrefixes") or ["10.255.0.0/24"])[0]
        address = config.get("privateIPAddress") or self._next(prefix, 4)
        return {
            **config,
            "id": f"{nic}/ipConfigurations/{config.get('name', 'default')}",
            "privateIPAddress": address,
        }

    def _next(self, prefix: str, first: int) -> str:
        """The next free address of a range, Azure's own reserved ones left out."""
        taken = self._taken.get(prefix, 0)
        self._taken[prefix] = taken + 1
        return str(ipaddress.ip_network(prefix)[first + taken])


def _arm_type(id_: str) -> str:
    """The ARM type of a resource by its id: provider, then every second segment."""
    _, found, tail = id_.rpartition("/providers/")
    if not found:
        return "Microsoft.Resources/resourceGroups"
    provider, *rest = tail.split("/")
    return "/".join([provider, *rest[::2]])


def _group(id_: str) -> str:
    return id_.partition("/providers/")[0] + "/providers/Microsoft.Network"


def _guid(text: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_URL, text))


def _principal(id_: str) -> dict[str, str]:
    return {"principalId": _guid(f"{id_}#principal"), "clientId": _guid(f"{id_}#client")}


def _identity(id_: str, identity: dict[str, Any]) -> dict[str, Any]:
    """An identity as Azure returns it: what was given as a list of ids comes back as a map."""
    given = identity.get("userAssignedIdentities") or []
    answered = {**identity, "userAssignedIdentities": {user: _principal(user) for user in given}}
    if not given:
        del answered["userAssignedIdentities"]
    if "SystemAssigned" in str(identity.get("type", "")):
        answered |= {"principalId": _guid(f"{id_}#principal"), "tenantId": TENANT}
    return answered
