"""
A stack's settings: what may be set, the defaults, and every check, done before the first resource is declared.

The defaults stand here only. Pulumi.yaml and docs/infrastructure.md repeat them, and tests hold all three together.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Protocol

import msgspec
from msgspec import Meta

from infra.setting_error import SettingsError

__all__ = ["Cluster", "Settings", "SettingsError", "User", "settings_from"]

Redundancy = Literal["LRS", "ZRS", "GRS", "GZRS"]
RegistrySku = Literal["Basic", "Standard", "Premium"]
EvictionPolicy = Literal["Delete", "Deallocate"]
OsImage = Literal["ubuntu-hpc-2204", "ubuntu-hpc-2404", "ubuntu-2204-gen1"]
PrincipalKind = Literal["User", "Group", "ServicePrincipal"]


class Cluster(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """One compute target: GPU nodes of one size, from none up to `max_nodes`."""

    name: Annotated[str, Meta(description="compute target's name")]
    vm_size: Annotated[str, Meta(description="size of its nodes")] = "Standard_NC4as_T4_v3"
    max_nodes: Annotated[int, Meta(ge=1, le=1000, description="most nodes at once")] = 4
    spot: bool = False
    eviction_policy: EvictionPolicy = "Delete"
    ephemeral_os_disk: bool = False
    os_image: OsImage | None = None
    trusted_launch: bool = True


class User(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """One person, group or service that may use the workspace."""

    object_id: str
    kind: PrincipalKind = "User"
    name: str = ""


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """Everything a stack can set, checked."""

    workspace_name: str = "tensoryard"
    location: str
    storage_redundancy: Redundancy = "ZRS"
    private_endpoints: bool = False
    client_sources: tuple[str, ...] = ()
    registry_sku: RegistrySku = "Basic"
    protect_data: bool = False
    models_immutable_days: int = 0
    soft_delete_days: int = 7
    blob_versioning: bool = False
    zones: tuple[str, ...] = ()
    address_space: str = "10.40.0.0/16"
    heads_subnet: str | None = None
    nodes_subnet: str | None = None
    endpoints_subnet: str | None = None
    ssh_sources: tuple[str, ...] = ()
    ssh_public_key: str | None = None
    head_size: str = "Standard_B2s_v2"
    clusters: tuple[Cluster, ...] = (Cluster(name="gpucluster"),)
    allow_retired_sizes: bool = False
    encryption_at_host: bool = False
    log_retention_days: int = 30
    users: tuple[User, ...] = ()
    tags: dict[str, str] = {}

    @classmethod
    def load(cls, config: PulumiConfig) -> Settings:
        """The settings of the stack that Pulumi runs."""
        import pulumi

        names = [field.encode_name for field in msgspec.structs.fields(cls)]
        values: dict[str, Any] = {}
        for name in names:
            text = config.get(name)
            if text is not None:
                try:
                    values[name] = msgspec.json.decode(text)
                except msgspec.DecodeError:
                    values[name] = text
        return settings_from(values, pulumi.Config("azure-native").get("location"))


class PulumiConfig(Protocol):
    """What is used of `pulumi.Config`."""

    def get(self, key: str) -> str | None:
        """The value's text, JSON where it is a list or an object, or None."""


def settings_from(values: Mapping[str, Any], location: str | None) -> Settings:
    """
    Settings out of the stack's `tensoryard:` keys (camelCase, as Python values) and its `azure-native:location`.

    Raises SettingsError, the first thing found wrong.
    """
    try:
        return msgspec.convert({**values, "location": location}, Settings, strict=False)
    except msgspec.ValidationError as error:
        raise SettingsError("tensoryard", "refused", f"{error}.", "") from None
