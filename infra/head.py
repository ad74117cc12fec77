"""The head node: it claims runs, builds images, and tells Slurm's nodes what to do. It pulls; nothing calls it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pulumi
from pulumi_azure_native import compute, managedidentity, network

from infra import machine, node_config
from infra.exceptions import policy_exception
from infra.names import ADMIN, Place
from infra.sizes import Size

OS_DISK_GIB = 64

FIXED = [
    "osProfile.customData",
    "osProfile.adminUsername",
    "osProfile.computerName",
    "osProfile.linuxConfiguration.ssh",
    "securityProfile",
    "storageProfile.imageReference",
    "storageProfile.osDisk.managedDisk",
    "zones",
    "tags.share",
]
"""
What Azure never changes on a machine, and the share, which a head mounts before it has runs of its own. A change of
it, such as a new release's boot data, is a new head: it keeps its private address, and what lay on the old one's disk
is gone: Slurm's queue and, without a share, the environments and the outputs of runs that have not ended.
"""


@dataclass(frozen=True, kw_only=True)
class HeadArgs:
    """
    subnet: ARM id; address: private, in it; public: whether it gets a public address too; facts: what it is told,
    clusters: of each compute target; share: NFS share for the folder of runs, None for its own disk.
    """

    place: Place
    size: Size
    computer_name: str
    subnet: pulumi.Output[str]
    address: str
    public: bool
    facts: pulumi.Output[dict[str, Any]]
    clusters: Mapping[str, Mapping[str, pulumi.Input[Any]]]
    ssh_public_key: str | None
    zones: tuple[str, ...]
    encryption_at_host: bool
    share: str | None


class Head(pulumi.ComponentResource):
    """
    The head node.

    principal: object id of its identity; machine: the VM; public_address: None without one; facts: what outputs say.
    """

    def __init__(self, name: str, args: HeadArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("tensoryard:infra:Head", name, {}, opts)
        place = args.place
        child = pulumi.ResourceOptions(parent=self)
        identity = managedidentity.UserAssignedIdentity(
            "head", resource_group_name=place.group, location=place.location, tags=place.tags, opts=child
        )
        self.principal = identity.principal_id
        zone = list(args.zones[:1]) or None
        address = self._public_address(args, zone) if args.public else None
        self.public_address = address.ip_address if address is not None else None
        interface = network.NetworkInterface(
            "head",
            resource_group_name=place.group,
            location=place.location,
            tags=place.tags,
            enable_accelerated_networking=args.size.accelerated_network,
            ip_configurations=[
                network.NetworkInterfaceIPConfigurationArgs(
                    name="head",
                    primary=True,
                    subnet=network.SubnetArgs(id=args.subnet),
                    # Nodes are told this address, so it outlives the machine.
                    private_ip_allocation_method="Static",
                    private_ip_address=args.address,
                    public_ip_address=network.PublicIPAddressArgs(id=address.id) if address is not None else None,
                )
            ],
            opts=child,
        )
        told = pulumi.Output.all(args.facts, identity.client_id, pulumi.Output.from_input(dict(args.clusters))).apply(
            lambda known: node_config.user_data({**known[0], "clientId": known[1], "clusters": known[2]})
        )
        self.machine = compute.VirtualMachine(
            "head",
            resource_group_name=place.group,
            location=place.location,
            tags={**place.tags, **({"share": args.share} if args.share else {})},
            zones=zone,
            hardware_profile=compute.HardwareProfileArgs(vm_size=args.size.name),
            identity=compute.VirtualMachineIdentityArgs(
                type=compute.ResourceIdentityType.USER_ASSIGNED, user_assigned_identities=[identity.id]
            ),
            os_profile=compute.OSProfileArgs(
                computer_name=args.computer_name,
                admin_username=ADMIN,
                linux_configuration=machine.linux(args.ssh_public_key),
                custom_data=node_config.custom_data("head"),
            ),
            user_data=told,
            storage_profile=compute.StorageProfileArgs(
                image_reference=machine.image(machine.HEAD_IMAGE),
                os_disk=compute.OSDiskArgs(
                    create_option="FromImage",
                    delete_option="Delete",
                    caching=compute.CachingTypes.READ_WRITE,
                    disk_size_gb=OS_DISK_GIB,
                    managed_disk=compute.ManagedDiskParametersArgs(storage_account_type="StandardSSD_LRS"),
                ),
            ),
            network_profile=compute.NetworkProfileArgs(
                network_interfaces=[
                    compute.NetworkInterfaceReferenceArgs(id=interface.id, primary=True, delete_option="Detach")
                ]
            ),
            security_profile=machine.security(
                trusted_launch=args.size.trusted_launch,
                secure_boot=True,
                encryption_at_host=args.encryption_at_host,
            ),
            diagnostics_profile=machine.boot_diagnostics(),
            # The old one goes first, for both need the one interface.
            opts=pulumi.ResourceOptions(parent=self, replace_on_changes=FIXED, delete_before_replace=True),
        )
        self.facts = {"name": self.machine.name, "publicAddress": self.public_address}
        if not args.encryption_at_host:
            policy_exception("host-encryption-off", self.machine, machine.HOST_ENCRYPTION_OFF)
        self.register_outputs({"machine": self.machine.id, "privateAddress": args.address})

    def _public_address(self, args: HeadArgs, zone: list[str] | None) -> network.PublicIPAddress:
        return network.PublicIPAddress(
            "head",
            resource_group_name=args.place.group,
            location=args.place.location,
            tags=args.place.tags,
            sku=network.PublicIPAddressSkuArgs(name="Standard"),
            public_ip_allocation_method="Static",
            zones=zone,
            opts=pulumi.ResourceOptions(parent=self, replace_on_changes=["zones"]),
        )
