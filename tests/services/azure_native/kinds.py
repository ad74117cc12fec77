"""Where each type of resource lives in Azure, and what it may be called."""

import re
from dataclasses import dataclass

SUBSCRIPTION = "00000000-aaaa-4000-8000-000000000001"
TENANT = "00000000-aaaa-4000-8000-000000000002"
CLIENT = "00000000-aaaa-4000-8000-000000000003"
SOMEONE = "00000000-aaaa-4000-8000-000000000004"
"""Object id of whoever runs `pulumi up` here."""

IN_GROUP = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/{{resourceGroupName}}/providers/"


@dataclass(frozen=True)
class Kind:
    """
    One type of resource.

    path: its id, with the inputs that make it up; one that starts with a provider stands in a resource group.
    name: what Azure takes as a name; everywhere: whether that must be free in all of Azure.
    """

    path: str
    name: str = ""
    everywhere: bool = False

    @property
    def template(self) -> str:
        return IN_GROUP + self.path if self.path.startswith("Microsoft.") else self.path

    @property
    def fields(self) -> list[str]:
        return re.findall(r"\{(\w+)}", self.template)

    @property
    def named_by(self) -> str | None:
        """The input that names the resource, None where Azure fixes the name."""
        return self.fields[-1] if self.path.endswith("}") else None

    @property
    def naming(self) -> str:
        """How azure-native makes up a missing name: "uuid", "random" for what stands alone, "copy" for parts."""
        if self.named_by in ("roleAssignmentName", "roleDefinitionId"):
            return "uuid"
        own = self.template.lower().split("microsoft.")
        return "random" if len(own) == 1 or own[-1].count("{") == 1 else "copy"


_ACCOUNT = "Microsoft.Storage/storageAccounts/{accountName}"
_CONTAINER = f"{_ACCOUNT}/blobServices/default/containers/{{containerName}}"
_NETWORK = "Microsoft.Network"
_COMPUTE = "Microsoft.Compute"
_AUTHORIZATION = "{scope}/providers/Microsoft.Authorization"

KINDS = {
    "resources:ResourceGroup": Kind(
        f"/subscriptions/{SUBSCRIPTION}/resourceGroups/{{resourceGroupName}}",
        name=r"[\w.()-]{1,89}[\w()-]",
    ),
    "storage:StorageAccount": Kind(
        _ACCOUNT,
        name="[a-z0-9]{3,24}",
        everywhere=True,
    ),
    "storage:BlobServiceProperties": Kind(f"{_ACCOUNT}/blobServices/{{blobServicesName}}", name="default"),
    "storage:ManagementPolicy": Kind(f"{_ACCOUNT}/managementPolicies/{{managementPolicyName}}", name="default"),
    "storage:BlobContainer": Kind(_CONTAINER, name="[a-z0-9](-?[a-z0-9]){2,62}"),
    "storage:BlobContainerImmutabilityPolicy": Kind(
        f"{_CONTAINER}/immutabilityPolicies/{{immutabilityPolicyName}}", name="default"
    ),
    "containerregistry:Registry": Kind(
        "Microsoft.ContainerRegistry/registries/{registryName}",
        name="[a-zA-Z0-9]{5,50}",
        everywhere=True,
    ),
    "keyvault:Vault": Kind(
        "Microsoft.KeyVault/vaults/{vaultName}",
        name="(?!.*--)[a-zA-Z][a-zA-Z0-9-]{1,22}[a-zA-Z0-9]",
        everywhere=True,
    ),
    "keyvault:Secret": Kind("Microsoft.KeyVault/vaults/{vaultName}/secrets/{secretName}", name="[a-zA-Z0-9-]{1,127}"),
    "network:VirtualNetwork": Kind(f"{_NETWORK}/virtualNetworks/{{virtualNetworkName}}", name=r"\w[\w.-]{0,62}\w"),
    "network:Subnet": Kind(
        f"{_NETWORK}/virtualNetworks/{{virtualNetworkName}}/subnets/{{subnetName}}",
        name=r"\w([\w.-]{0,78}\w)?",
    ),
    "network:NetworkSecurityGroup": Kind(f"{_NETWORK}/networkSecurityGroups/{{networkSecurityGroupName}}"),
    "network:SecurityRule": Kind(
        f"{_NETWORK}/networkSecurityGroups/{{networkSecurityGroupName}}/securityRules/{{securityRuleName}}"
    ),
    "network:NatGateway": Kind(f"{_NETWORK}/natGateways/{{natGatewayName}}"),
    "network:PublicIPAddress": Kind(
        f"{_NETWORK}/publicIPAddresses/{{publicIpAddressName}}",
    ),
    "network:NetworkInterface": Kind(f"{_NETWORK}/networkInterfaces/{{networkInterfaceName}}"),
    "network:PrivateEndpoint": Kind(f"{_NETWORK}/privateEndpoints/{{privateEndpointName}}"),
    "network:PrivateDnsZoneGroup": Kind(
        f"{_NETWORK}/privateEndpoints/{{privateEndpointName}}/privateDnsZoneGroups/{{privateDnsZoneGroupName}}"
    ),
    "privatedns:PrivateZone": Kind(f"{_NETWORK}/privateDnsZones/{{privateZoneName}}"),
    "privatedns:VirtualNetworkLink": Kind(
        f"{_NETWORK}/privateDnsZones/{{privateZoneName}}/virtualNetworkLinks/{{virtualNetworkLinkName}}",
    ),
    "managedidentity:UserAssignedIdentity": Kind(
        "Microsoft.ManagedIdentity/userAssignedIdentities/{resourceName}",
        name=r"[a-zA-Z0-9][\w-]{2,127}",
    ),
    "authorization:RoleAssignment": Kind(
        f"{_AUTHORIZATION}/roleAssignments/{{roleAssignmentName}}",
        name="[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}",
    ),
    "authorization:RoleDefinition": Kind(
        f"{_AUTHORIZATION}/roleDefinitions/{{roleDefinitionId}}",
        name="[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}",
    ),
    "authorization:ManagementLockByScope": Kind(f"{_AUTHORIZATION}/locks/{{lockName}}"),
    "authorization:ManagementLockAtResourceGroupLevel": Kind("Microsoft.Authorization/locks/{lockName}"),
    "compute:VirtualMachine": Kind(
        f"{_COMPUTE}/virtualMachines/{{vmName}}",
    ),
    "compute:VirtualMachineScaleSet": Kind(
        f"{_COMPUTE}/virtualMachineScaleSets/{{vmScaleSetName}}",
    ),
    "compute:Disk": Kind(f"{_COMPUTE}/disks/{{diskName}}"),
    "operationalinsights:Workspace": Kind(
        "Microsoft.OperationalInsights/workspaces/{workspaceName}",
        name="[A-Za-z0-9][A-Za-z0-9-]{2,61}[A-Za-z0-9]",
    ),
    "monitor:DiagnosticSetting": Kind("{resourceUri}/providers/Microsoft.Insights/diagnosticSettings/{name}"),
}


def kind_of(token: str) -> Kind | None:
    """The Kind of "azure-native:storage:StorageAccount", None for a type that the stand-in does not know."""
    return KINDS.get(token.removeprefix("azure-native:"))


def arm_type(id_: str) -> str:
    """The ARM type in an id: the last provider and every second segment after it."""
    _, found, tail = id_.rpartition("/providers/")
    if not found:
        return "Microsoft.Resources/resourceGroups"
    provider, *rest = tail.split("/")
    return "/".join([provider, *rest[::2]])
