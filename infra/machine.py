"""What the head and the nodes share: image, disk, trusted launch, the login that nobody has."""

from __future__ import annotations

from pulumi_azure_native import compute

from infra.names import ADMIN
from infra.no_login_key import no_login_key

# Ubuntu with NVIDIA's driver, CUDA and NCCL built in; generation 2 only. The plain generation 1 image has none of it.
# Source: https://github.com/Azure/azhpc-images; sku names of Canonical's images: `az vm image list-skus`
IMAGES = {
    "ubuntu-hpc-2204": ("microsoft-dsvm", "ubuntu-hpc", "2204"),
    "ubuntu-hpc-2404": ("microsoft-dsvm", "ubuntu-hpc", "2404"),
    "ubuntu-2204-gen1": ("Canonical", "0001-com-ubuntu-server-jammy", "22_04-lts"),
}
HEAD_IMAGES = {
    "22.04": ("Canonical", "0001-com-ubuntu-server-jammy", "22_04-lts-gen2"),
    "24.04": ("Canonical", "ubuntu-24_04-lts", "server"),
}
GENERATION_1 = frozenset({"ubuntu-2204-gen1"})


def head_image(node_images: tuple[str, ...]) -> tuple[str, str, str]:
    """
    The head's image: the Ubuntu release of its nodes, the newest where they differ.

    Slurm comes from the release, and slurmctld speaks to a slurmd of its own version or of the two before.
    Source: https://slurm.schedmd.com/upgrades.html
    """
    return HEAD_IMAGES["24.04" if "ubuntu-hpc-2404" in node_images else "22.04"]


def is_new(image: tuple[str, str, str]) -> bool:
    """Whether a head's image is of the newest release, whose Slurm takes no settings that older ones need."""
    return image == HEAD_IMAGES["24.04"]


def image(reference: tuple[str, str, str]) -> compute.ImageReferenceArgs:
    """The newest version of an image: what a new machine starts from; running ones stay as they are."""
    publisher, offer, sku = reference
    return compute.ImageReferenceArgs(publisher=publisher, offer=offer, sku=sku, version="latest")


def security(
    *, trusted_launch: bool, secure_boot: bool, encryption_at_host: bool
) -> compute.SecurityProfileArgs | None:
    """
    Trusted Launch with a virtual TPM, and encryption of temp disks and caches; None for neither.

    secure_boot: off for GPU nodes. It loads no kernel module but signed ones, and NVIDIA's driver is not signed.
    Source: https://learn.microsoft.com/azure/virtual-machines/linux/n-series-driver-setup
    """
    if not trusted_launch and not encryption_at_host:
        return None
    return compute.SecurityProfileArgs(
        security_type="TrustedLaunch" if trusted_launch else None,
        uefi_settings=compute.UefiSettingsArgs(secure_boot_enabled=secure_boot, v_tpm_enabled=True)
        if trusted_launch
        else None,
        encryption_at_host=encryption_at_host or None,
    )


def linux(ssh_public_key: str | None) -> compute.LinuxConfigurationArgs:
    """Login by key only. ssh_public_key: None for a key whose private half nobody holds."""
    key = compute.SshPublicKeyArgs(
        path=f"/home/{ADMIN}/.ssh/authorized_keys", key_data=ssh_public_key or no_login_key()
    )
    return compute.LinuxConfigurationArgs(
        disable_password_authentication=True,
        provision_vm_agent=True,
        ssh=compute.SshConfigurationArgs(public_keys=[key]),
    )


def boot_diagnostics() -> compute.DiagnosticsProfileArgs:
    """The serial console's log, kept by Azure: the only word from a node whose cloud-init failed."""
    return compute.DiagnosticsProfileArgs(boot_diagnostics=compute.BootDiagnosticsArgs(enabled=True))


HOST_ENCRYPTION_OFF = (
    "Disks are encrypted in storage; encryption at the host needs a subscription feature that is registered by hand, "
    "and tensoryard:encryptionAtHost turns it on"
)
