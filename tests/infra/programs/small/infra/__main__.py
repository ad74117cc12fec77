"""One of each thing that answers trip over: an identity, an address, a component, a secret, a lock, an export."""

import base64
from typing import Any

import pulumi
from pulumi_azure_native import authorization, compute, managedidentity, network, resources, storage


class SettingsError(Exception):
    """A stand-in for the program's own."""

    def __init__(self, key: str, given: str, allowed: str, how: str) -> None:
        super().__init__(f"`{key}` is {given}: {allowed} {how}")
        self.key, self.given, self.allowed, self.how = key, given, allowed, how


class Box(pulumi.ComponentResource):
    """A storage account in a component."""

    def __init__(self, name: str, group: pulumi.Input[str], opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("tensoryard:infra:Box", name, None, opts)
        self.account = storage.StorageAccount(
            "storage",
            resource_group_name=group,
            kind="StorageV2",
            sku={"name": "Standard_LRS"},
            opts=pulumi.ResourceOptions(parent=self, protect=True),
        )
        self.register_outputs({"account": self.account.name})


config = pulumi.Config()
size = config.require_int("size")
if size > 100:
    raise SettingsError("tensoryard:size", f"`{size}`", "it may be 1 to 100.", "Run `pulumi config set size 3`.")
if size == 13:
    raise RuntimeError("thirteen\nis not a number we count to")
pulumi.log.warn(f"size is {size}")
print("a print of the program belongs to stderr")

me = authorization.get_client_config_output()
group = resources.ResourceGroup("workspace")
box = Box("box", group.name)
identity = managedidentity.UserAssignedIdentity("head", resource_group_name=group.name)
net = network.VirtualNetwork(
    "network",
    resource_group_name=group.name,
    address_space={"address_prefixes": ["10.40.0.0/16"]},
    subnets=[{"name": "heads", "address_prefix": "10.40.1.0/24"}],
)
address = network.PublicIPAddress("address", resource_group_name=group.name)
nic: Any = network.NetworkInterface(
    "nic",
    resource_group_name=group.name,
    ip_configurations=[
        {
            "name": "default",
            "subnet": {"id": net.subnets.apply(lambda found: found[0].id)},
            "public_ip_address": {"id": address.id},
        }
    ],
)
nodes = compute.VirtualMachineScaleSet(
    "nodes",
    resource_group_name=group.name,
    orchestration_mode="Flexible",
    platform_fault_domain_count=1,
    sku={"name": "Standard_NC4as_T4_v3", "capacity": 0},
    identity={"type": "UserAssigned", "user_assigned_identities": [identity.id]},
    virtual_machine_profile={
        "os_profile": {"custom_data": pulumi.Output.secret(base64.b64encode(b"hush").decode())},
    },
    opts=pulumi.ResourceOptions(ignore_changes=["sku.capacity"]),
)
grant = authorization.RoleAssignment(
    "grant",
    scope=box.account.id,
    principal_id=identity.principal_id,
    principal_type="ServicePrincipal",
    role_definition_id=pulumi.Output.concat(
        "/subscriptions/",
        me.subscription_id,
        "/providers/Microsoft.Authorization/roleDefinitions/2a2b9908-6ea1-4ae2-8e65-a410df84e7d1",
    ),
)
pulumi.export(
    "workspace",
    {
        "account": box.account.name,
        "blob": box.account.primary_endpoints.blob,
        "private": nic.ip_configurations[0].private_ip_address,
        "public": address.ip_address,
        "location": group.location,
        "labels": config.get_object("labels"),
        "identities": nodes.identity.user_assigned_identities.apply(lambda map_: len(map_)),
    },
)
