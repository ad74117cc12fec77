"""Rules about virtual machines and scale sets."""

from collections.abc import Iterator, Mapping
from typing import Any

from infra import sizes
from infra.policy.rules import Problem, Resource, Resources, Rule, at, rows

MACHINE = "compute:VirtualMachine"
SCALE_SET = "compute:VirtualMachineScaleSet"


def _machines(resources: Resources) -> Iterator[tuple[Resource, Mapping[str, Any]]]:
    """Each machine or scale set with the profile that its machines are made from."""
    for machine in resources.of(MACHINE):
        yield machine, machine.inputs
    for scale_set in resources.of(SCALE_SET):
        profile = scale_set.inputs.get("virtualMachineProfile")
        if isinstance(profile, Mapping):
            yield scale_set, profile


def _password(resources: Resources) -> Iterator[Problem]:
    for resource, profile in _machines(resources):
        system = profile.get("osProfile")
        if at(system, "adminPassword") is not None:
            yield resource, "`osProfile.adminPassword` is set"
        elif system and at(system, "linuxConfiguration", "disablePasswordAuthentication") is not True:
            yield resource, "`linuxConfiguration.disablePasswordAuthentication` is not true"


def _host_encryption(resources: Resources) -> Iterator[Problem]:
    for resource, profile in _machines(resources):
        if at(profile, "securityProfile", "encryptionAtHost") is not True:
            yield resource, "`securityProfile.encryptionAtHost` is not true"


def _extensions(resources: Resources) -> Iterator[Problem]:
    for scale_set in resources.of(SCALE_SET):
        listed = at(scale_set.inputs, "virtualMachineProfile", "extensionProfile", "extensions")
        names = [str(extension.get("name")) for extension in rows(listed)]
        if names:
            yield scale_set, f"it has the extensions {', '.join(f'`{name}`' for name in names)}"
    for extension in resources.of("compute:VirtualMachineScaleSetExtension"):
        yield extension, "it is an extension of a scale set"


def _system_identity(resources: Resources) -> Iterator[Problem]:
    for scale_set in resources.of(SCALE_SET):
        kind = str(at(scale_set.inputs, "identity", "type") or "")
        if scale_set.inputs.get("orchestrationMode") == "Flexible" and "SystemAssigned" in kind.replace(" ", ""):
            yield scale_set, f"`identity.type` is {kind!r}"


def _retired(resources: Resources) -> Iterator[Problem]:
    for resource, name in _sizes(resources):
        size = sizes.find(name)
        if size is not None and size.retired_on is not None:
            successors = " or ".join(size.successors) or "none named by Azure"
            yield resource, f"`{name}` retires or has retired on {size.retired_on}; successor: {successors}"


def _sizes(resources: Resources) -> Iterator[tuple[Resource, str]]:
    for machine in resources.of(MACHINE):
        yield machine, str(at(machine.inputs, "hardwareProfile", "vmSize") or "")
    for scale_set in resources.of(SCALE_SET):
        yield scale_set, str(at(scale_set.inputs, "sku", "name") or "")


def _spot_deallocate(resources: Resources) -> Iterator[Problem]:
    for resource, profile in _machines(resources):
        ephemeral = at(profile, "storageProfile", "osDisk", "diffDiskSettings", "option") == "Local"
        # Deallocate is what Azure takes where a Spot profile names no policy.
        if profile.get("priority") == "Spot" and ephemeral and profile.get("evictionPolicy") != "Delete":
            yield resource, f"Spot with an ephemeral disk and `evictionPolicy` {profile.get('evictionPolicy')!r}"


def _capacity(resources: Resources) -> Iterator[Problem]:
    for scale_set in resources.of(SCALE_SET):
        ignored = {path.replace("['", ".").replace("']", "") for path in scale_set.ignore_changes}
        if not ignored & {"sku", "sku.capacity"}:
            yield scale_set, "`sku.capacity` is not among its `ignore_changes`"


RULES = (
    Rule(
        id="vm-password",
        severity="high",
        title="A machine accepts passwords",
        why="Passwords are guessed; keys are not.",
        fix="Set `disablePasswordAuthentication` to true and give an SSH public key.",
        look=_password,
    ),
    Rule(
        id="host-encryption-off",
        severity="low",
        title="Temp disks and caches are not encrypted at the host",
        why="Azure encrypts the managed disk, but not the copy of training data on the machine's own temp disk.",
        fix="Register the feature `Microsoft.Compute/EncryptionAtHost`, then set `tensoryard:encryptionAtHost`.",
        look=_host_encryption,
    ),
    Rule(
        id="scale-set-extension",
        severity="medium",
        title="A scale set has VM extensions",
        why="A failing extension leaves a scale set that Pulumi has no record of (azure-native issue 938).",
        fix="Do it in cloud-init, or in the image.",
        look=_extensions,
    ),
    Rule(
        id="system-identity",
        severity="high",
        title="A Flexible scale set has a system-assigned identity",
        why="Azure refuses it: Flexible sets take user-assigned identities only.",
        fix="Set `identity.type` to `UserAssigned` and name the identity.",
        look=_system_identity,
    ),
    Rule(
        id="size-retired",
        severity="high",
        title="A machine's size is retired",
        why="Azure deploys no new machine of it, and deallocates those that run.",
        fix="Choose a size that stays, for GPU nodes in `vmSize` of `tensoryard:clusters`.",
        look=_retired,
    ),
    Rule(
        id="spot-ephemeral-deallocate",
        severity="high",
        title="Spot nodes with ephemeral disks are deallocated on eviction",
        why="Azure refuses it: an ephemeral disk cannot outlive its machine.",
        fix="Set `evictionPolicy` of the cluster to `Delete`.",
        look=_spot_deallocate,
    ),
    Rule(
        id="capacity-not-ignored",
        severity="high",
        title="`pulumi up` would reset the number of nodes",
        why="Slurm grows and shrinks the set; the program's figure would delete nodes in the middle of their jobs.",
        fix='Give the scale set `ignore_changes=["sku.capacity"]`.',
        look=_capacity,
    ),
)
