"""What the head and the nodes share: image, disk, trusted launch, the login that nobody has."""

from __future__ import annotations

from pulumi_azure_native import compute

from infra.names import ADMIN
from infra.no_login_key import no_login_key

# Ubuntu with NVIDIA's driver, CUDA and NCCL built in; generation 2 only. The plain generation 1 image has none of it.
# Source: https://github.com/Azure/azhpc-images; sku names of Canonical's images: `az vm image list-skus`
IMAGES = {
    "ubuntu-hpc-2404": ("microsoft-dsvm", "ubuntu-hpc", "2404"),
    "ubuntu-2404-gen1": ("Canonical", "ubuntu-24_04-lts", "server-gen1"),
}
HEAD_IMAGE = ("Canonical", "ubuntu-24_04-lts", "server")
"""
Of the release that the nodes' images are of: Slurm comes from it, and so does the C library of what is compiled on
the head for nodes. 22.04 is not offered: its Slurm, 21.08, only knows control groups v1, and it boots with v2.
Source: https://slurm.schedmd.com/cgroup_v2.html
"""
GENERATION_1 = frozenset({"ubuntu-2404-gen1"})


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
