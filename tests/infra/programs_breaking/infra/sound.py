"""Parts of a workspace with nothing wrong; what a program gives by keyword goes over it."""

from typing import Any

import pulumi
from pulumi_azure_native import (
    authorization,
    compute,
    containerregistry,
    keyvault,
    managedidentity,
    monitor,
    network,
    operationalinsights,
    resources,
    storage,
)

TAGS = {"workspace": "small", "stack": "test", "managed-by": "pulumi"}
AZURE = "/subscriptions/00000000-0000-0000-0000-000000000000/providers/Microsoft.Authorization/roleDefinitions"
BLOB_DATA_CONTRIBUTOR = f"{AZURE}/ba92f5b4-2d11-453d-a403-e96b0029c9fe"


def group() -> resources.ResourceGroup:
    return resources.ResourceGroup("workspace", tags=TAGS)


def _in(place: resources.ResourceGroup) -> dict[str, Any]:
    return {"resource_group_name": place.name, "tags": TAGS}


def diagnostics(name: str, resource_uri: pulumi.Input[str], place: resources.ResourceGroup) -> None:
    logs = operationalinsights.Workspace(f"logs-of-{name}", **_in(place))
    monitor.DiagnosticSetting(f"logs-of-{name}", resource_uri=resource_uri, workspace_id=logs.id)


def storage_account(
    place: resources.ResourceGroup,
    *,
    kept_days: int = 7,
    recorded: bool = True,
    opts: pulumi.ResourceOptions | None = None,
    **given: Any,
) -> storage.StorageAccount:
    sound = {
        "kind": "StorageV2",
        "sku": {"name": "Standard_ZRS"},
        "allow_blob_public_access": False,
        "allow_shared_key_access": False,
        "minimum_tls_version": "TLS1_2",
        "enable_https_traffic_only": True,
        "is_local_user_enabled": False,
        "allow_cross_tenant_replication": False,
        "network_rule_set": {"default_action": "Deny"},
    }
    account = storage.StorageAccount("storage", **{**_in(place), **sound, **given}, opts=opts)
    storage.BlobServiceProperties(
        "storage",
        resource_group_name=place.name,
        account_name=account.name,
        blob_services_name="default",
        delete_retention_policy={"enabled": kept_days > 0, "days": kept_days},
        container_delete_retention_policy={"enabled": kept_days > 0, "days": kept_days},
    )
    if recorded:
        diagnostics("storage", account.id.apply(lambda given: f"{given}/blobServices/default"), place)
    return account


def container(place: resources.ResourceGroup, account: storage.StorageAccount, **given: Any) -> storage.BlobContainer:
    named = {"resource_group_name": place.name, "account_name": account.name, "container_name": "runs"}
    return storage.BlobContainer("runs", **{**named, **given})


def registry(place: resources.ResourceGroup, **given: Any) -> containerregistry.Registry:
    sound = {"sku": {"name": "Premium"}, "network_rule_set": {"default_action": "Deny"}}
    made = containerregistry.Registry("registry", **{**_in(place), **sound, **given})
    diagnostics("registry", made.id, place)
    return made


def vault(place: resources.ResourceGroup, **given: Any) -> keyvault.Vault:
    sound = {
        "tenant_id": "00000000-0000-0000-0000-000000000001",
        "sku": {"family": "A", "name": "standard"},
        "enable_rbac_authorization": True,
        "enable_soft_delete": True,
        "enable_purge_protection": True,
        "network_acls": {"default_action": "Deny", "bypass": "AzureServices"},
    }
    made = keyvault.Vault("vault", **_in(place), properties={**sound, **given})
    diagnostics("vault", made.id, place)
    return made


def identity(place: resources.ResourceGroup, name: str) -> managedidentity.UserAssignedIdentity:
    return managedidentity.UserAssignedIdentity(name, **_in(place))


def assignment(place: resources.ResourceGroup, **given: Any) -> authorization.RoleAssignment:
    """A data role on one container, for the head's identity."""
    sound = {
        "principal_id": identity(place, "head").principal_id,
        "principal_type": "ServicePrincipal",
        "role_definition_id": BLOB_DATA_CONTRIBUTOR,
    }
    if "scope" not in given:
        given["scope"] = container(place, storage_account(place)).id
    return authorization.RoleAssignment("head-runs", **{**sound, **given})


def security_group(place: resources.ResourceGroup, **rule: Any) -> network.NetworkSecurityGroup:
    """One rule that lets a named network in to port 443."""
    sound = {
        "name": "people",
        "priority": 100,
        "direction": "Inbound",
        "access": "Allow",
        "protocol": "Tcp",
        "source_port_range": "*",
        "source_address_prefix": "203.0.113.0/24",
        "destination_address_prefix": "*",
        "destination_port_range": "443",
    }
    return network.NetworkSecurityGroup("nodes", **_in(place), security_rules=[{**sound, **rule}])


def subnet(
    place: resources.ResourceGroup, *, guarded: bool = True, way_out: bool = True, **given: Any
) -> network.Subnet:
    net = network.VirtualNetwork("network", **_in(place), address_space={"address_prefixes": ["10.40.0.0/16"]})
    if guarded:
        given["network_security_group"] = {"id": security_group(place).id}
    if way_out:
        given["nat_gateway"] = {"id": network.NatGateway("nat", **_in(place), sku={"name": "Standard"}).id}
    return network.Subnet(
        "nodes",
        resource_group_name=place.name,
        virtual_network_name=net.name,
        subnet_name="nodes",
        address_prefix="10.40.2.0/24",
        **given,
    )


def interface(place: resources.ResourceGroup, where: network.Subnet, *, public: bool) -> network.NetworkInterface:
    configuration: dict[str, Any] = {"name": "only", "subnet": {"id": where.id}}
    if public:
        address = network.PublicIPAddress("head", **_in(place), sku={"name": "Standard"})
        configuration["public_ip_address"] = {"id": address.id}
    return network.NetworkInterface("head", **_in(place), ip_configurations=[configuration])


def _profile(given: dict[str, Any]) -> dict[str, Any]:
    """What a machine and a scale set's nodes have in common."""
    sound = {
        "os_profile": {
            "admin_username": "tyard",
            "custom_data": "I2Nsb3VkLWNvbmZpZwo=",
            "linux_configuration": {"disable_password_authentication": True},
        },
        "security_profile": {"encryption_at_host": True},
    }
    return {**sound, **given}


def machine(place: resources.ResourceGroup, *, size: str = "Standard_B2s_v2", **given: Any) -> compute.VirtualMachine:
    return compute.VirtualMachine("head", **_in(place), hardware_profile={"vm_size": size}, **_profile(given))


def scale_set(
    place: resources.ResourceGroup,
    *,
    size: str = "Standard_NC4as_T4_v3",
    profile: dict[str, Any] | None = None,
    where: network.Subnet | None = None,
    ignore_changes: tuple[str, ...] = ("sku.capacity",),
    **given: Any,
) -> compute.VirtualMachineScaleSet:
    address = {"name": "only", "primary": True, "subnet": {"id": (where or subnet(place)).id}}
    nics = [{"name": "only", "primary": True, "ip_configurations": [address]}]
    sound = {
        "orchestration_mode": "Flexible",
        "sku": {"name": size, "capacity": 0},
        "identity": {"type": "UserAssigned", "user_assigned_identities": [identity(place, "nodes").id]},
        "virtual_machine_profile": {
            **_profile(profile or {}),
            "network_profile": {"network_interface_configurations": nics},
        },
    }
    options = pulumi.ResourceOptions(ignore_changes=list(ignore_changes))
    return compute.VirtualMachineScaleSet("gpucluster", **{**_in(place), **sound, **given}, opts=options)


def exception(rule: str, resource: pulumi.Resource, because: str) -> None:
    inputs = {"rule": rule, "resource": resource.urn, "because": because}
    pulumi.ComponentResource("tensoryard:policy:Exception", f"{rule}-excused", inputs)
