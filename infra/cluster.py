"""A cluster: a GPU scale set that starts empty and that Slurm grows and shrinks, and the identity of its nodes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pulumi
from pulumi_azure_native import compute, managedidentity

from infra import machine, node_config
from infra.exceptions import policy_exception
from infra.names import ADMIN, Place
from infra.review import prices
from infra.settings import Cluster as ClusterSettings
from infra.sizes import Size

FIXED = [
    "orchestrationMode",
    "platformFaultDomainCount",
    "zones",
    "virtualMachineProfile.priority",
    "virtualMachineProfile.evictionPolicy",
    "virtualMachineProfile.osProfile.adminUsername",
    "virtualMachineProfile.osProfile.computerNamePrefix",
    "virtualMachineProfile.securityProfile",
    "virtualMachineProfile.storageProfile.imageReference.publisher",
    "virtualMachineProfile.storageProfile.osDisk.diffDiskSettings",
]
"""
What Azure never changes on a scale set. The provider would plan an update, and `pulumi up` would end in the middle:
with these named, it plans a new set, and the old one goes when that is there.
"""

OS_DISK_GIB = 128
"""Of nodes whose disk is not on the host: the HPC image fills most of its own 64 GiB."""


@dataclass(frozen=True, kw_only=True)
class ClusterArgs:
    """
    size: of the nodes, with what the catalogue knows; os_image: key of machine.IMAGES; subnet: ARM id; facts: what
    every node is told; zones: none for wherever Azure has room; builds_images: whether nodes can.
    """

    place: Place
    settings: ClusterSettings
    size: Size
    os_image: str
    subnet: pulumi.Output[str]
    facts: pulumi.Output[dict[str, Any]]
    ssh_public_key: str | None
    zones: tuple[str, ...]
    encryption_at_host: bool
    builds_images: bool


class Cluster(pulumi.ComponentResource):
    """One compute target. scale_set, identity: its resources; facts: what outputs and head say of it."""

    def __init__(self, name: str, args: ClusterArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("tensoryard:infra:Cluster", name, {}, opts)
        self.name = name
        place, settings, size = args.place, args.settings, args.size
        self.identity = managedidentity.UserAssignedIdentity(
            f"{name}-nodes",
            resource_group_name=place.group,
            location=place.location,
            tags=place.tags,
            opts=pulumi.ResourceOptions(parent=self),
        )
        self.scale_set = compute.VirtualMachineScaleSet(
            name,
            resource_group_name=place.group,
            location=place.location,
            tags=place.tags,
            orchestration_mode="Flexible",
            # Most spreading: the only count that allows 1,000 nodes, Spot among them.
            platform_fault_domain_count=1,
            single_placement_group=False,
            sku=compute.SkuArgs(name=size.name, tier="Standard", capacity=0),
            zones=list(args.zones) or None,
            identity=compute.VirtualMachineScaleSetIdentityArgs(
                type=compute.ResourceIdentityType.USER_ASSIGNED, user_assigned_identities=[self.identity.id]
            ),
            # Slurm decides how many nodes there are; Azure is not to bring evicted ones back behind its back.
            spot_restore_policy=compute.SpotRestorePolicyArgs(enabled=False) if settings.spot else None,
            virtual_machine_profile=self._profile(args),
            # Else each `pulumi up` would set the running cluster back to no nodes. What it sends in place of the 0 is
            # the number in its state, so Pulumi.yaml has the state refreshed first (azure-native sends resources
            # whole, and Azure refuses a set without a number: https://github.com/Azure/vm-scale-sets/issues/70).
            opts=pulumi.ResourceOptions(parent=self, ignore_changes=["sku.capacity"], replace_on_changes=FIXED),
        )
        self.facts: dict[str, pulumi.Input[Any]] = {
            "vmSize": size.name,
            "maxNodes": settings.max_nodes,
            "spot": settings.spot,
            "scaleSet": self.scale_set.name,
            "gpuCount": size.gpu_count,
            "gpuModel": size.gpu_model,
            "vcpu": size.vcpu,
            "memoryGib": size.memory_gib,
            "hourlyUsd": _hourly(settings, size),
        }
        if not args.encryption_at_host:
            policy_exception("host-encryption-off", self.scale_set, machine.HOST_ENCRYPTION_OFF)
        if size.retired_on is not None:
            policy_exception(
                "size-retired",
                self.scale_set,
                f"tensoryard:allowRetiredSizes was set for {size.name}, which Azure retired on {size.retired_on}: "
                f"the set can be declared, but Azure gives it no node; successor: {size.successor or 'none'}",
            )
        self.register_outputs({"scaleSet": self.scale_set.id, "identity": self.identity.id})

    def _profile(self, args: ClusterArgs) -> compute.VirtualMachineScaleSetVMProfileArgs:
        """What each node is made from."""
        settings, size = args.settings, args.size
        trusted = settings.trusted_launch and size.trusted_launch and args.os_image not in machine.GENERATION_1
        told = pulumi.Output.all(args.facts, self.identity.client_id).apply(
            lambda known: node_config.user_data({**known[0], "cluster": self.name, "clientId": known[1]})
        )
        return compute.VirtualMachineScaleSetVMProfileArgs(
            priority="Spot" if settings.spot else "Regular",
            eviction_policy=settings.eviction_policy if settings.spot else None,
            # Never evicted for its price, which is never above the regular one.
            billing_profile=compute.BillingProfileArgs(max_price=-1) if settings.spot else None,
            os_profile=compute.VirtualMachineScaleSetOSProfileArgs(
                computer_name_prefix=f"{self.name}-",
                admin_username=ADMIN,
                linux_configuration=machine.linux(args.ssh_public_key),
                custom_data=node_config.custom_data("worker", args.builds_images),
            ),
            user_data=told,
            storage_profile=compute.VirtualMachineScaleSetStorageProfileArgs(
                image_reference=machine.image(machine.IMAGES[args.os_image]), os_disk=_os_disk(settings, size)
            ),
            network_profile=_network_profile(self.name, size, args.subnet),
            security_profile=machine.security(
                trusted_launch=trusted, secure_boot=False, encryption_at_host=args.encryption_at_host
            ),
            # A node that is to go hears of it first and has five minutes, or until it says that it is done.
            scheduled_events_profile=compute.ScheduledEventsProfileArgs(
                terminate_notification_profile=compute.TerminateNotificationProfileArgs(
                    enable=True, not_before_timeout="PT5M"
                )
            ),
            diagnostics_profile=machine.boot_diagnostics(),
        )


def _os_disk(settings: ClusterSettings, size: Size) -> compute.VirtualMachineScaleSetOSDiskArgs:
    """The disk that a node boots from: gone with the node, and on the host itself where that is asked for."""
    managed = compute.VirtualMachineScaleSetManagedDiskParametersArgs
    if settings.ephemeral_os_disk:
        return compute.VirtualMachineScaleSetOSDiskArgs(
            create_option="FromImage",
            delete_option="Delete",
            caching=compute.CachingTypes.READ_ONLY,
            diff_disk_settings=compute.DiffDiskSettingsArgs(option="Local", placement="ResourceDisk"),
            managed_disk=managed(storage_account_type="Standard_LRS"),
        )
    return compute.VirtualMachineScaleSetOSDiskArgs(
        create_option="FromImage",
        delete_option="Delete",
        caching=compute.CachingTypes.READ_WRITE,
        disk_size_gb=OS_DISK_GIB,
        managed_disk=managed(storage_account_type=_disk_kind(size)),
    )


def _hourly(settings: ClusterSettings, size: Size) -> list[float] | None:
    """USD of an hour of a node, lowest and highest, for the cost of runs; None where no price is known."""
    disk = None if settings.ephemeral_os_disk else prices.disk_step(_disk_kind(size), OS_DISK_GIB)
    found = prices.node_hour(size.name, spot=settings.spot, disk=disk)
    return [round(amount, 4) for amount in found] if found is not None else None


def _disk_kind(size: Size) -> str:
    return "Premium_LRS" if size.premium_storage else "Standard_LRS"


def _network_profile(
    name: str, size: Size, subnet: pulumi.Output[str]
) -> compute.VirtualMachineScaleSetNetworkProfileArgs:
    """One interface without a public address, deleted with its node."""
    return compute.VirtualMachineScaleSetNetworkProfileArgs(
        # A Flexible set is refused without it.
        network_api_version="2020-11-01",
        network_interface_configurations=[
            compute.VirtualMachineScaleSetNetworkConfigurationArgs(
                name=name,
                primary=True,
                delete_option="Delete",
                enable_accelerated_networking=size.accelerated_network,
                ip_configurations=[
                    compute.VirtualMachineScaleSetIPConfigurationArgs(
                        name=name, primary=True, subnet=compute.ApiEntityReferenceArgs(id=subnet)
                    )
                ],
            )
        ],
    )
