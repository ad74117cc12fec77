"""
A stack's settings: what may be set, the defaults, and every check, done before the first resource is declared.

The defaults and meanings stand here only. Pulumi.yaml and the table in docs/infrastructure.md repeat them, and tests
hold all three together. `python -m infra.settings --markdown` prints that table.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Protocol

import msgspec
from msgspec import Meta

from infra.settings.addresses import check_network, check_sources
from infra.settings.checks import (
    check_reach,
    check_region,
    check_registry,
    check_share,
    check_ssh_key,
    check_storage,
    check_tags,
    check_users,
    check_workspace_name,
    check_zones,
)
from infra.settings.error import LOCATION, PROJECT, SettingsError, set_with, shown
from infra.settings.machine_checks import IMAGE_GENERATION, check_cluster, check_head
from infra.settings.values import read_struct
from infra.sizes import find

Redundancy = Literal["LRS", "ZRS", "GRS", "GZRS"]
RegistrySku = Literal["Basic", "Standard", "Premium"]
ImageBuilder = Literal["acr-tasks", "buildah", "job"]
EvictionPolicy = Literal["Delete", "Deallocate"]
OsImage = Literal["ubuntu-hpc-2404", "ubuntu-2404-gen1"]
PrincipalKind = Literal["User", "Group", "ServicePrincipal"]


class Cluster(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """One compute target: GPU nodes of one size, from none up to `max_nodes`."""

    name: Annotated[str, Meta(description="Compute target's name, and the start of its nodes' names")]
    vm_size: Annotated[str, Meta(description="Size of its nodes; infra/sizes.py lists what there is")] = (
        "Standard_NC4as_T4_v3"
    )
    max_nodes: Annotated[int, Meta(ge=1, le=1000, description="Most nodes at once; none run while no job waits")] = 4
    spot: Annotated[bool, Meta(description="Spot machines: cheaper, and taken away at 30 seconds' notice")] = False
    eviction_policy: Annotated[
        EvictionPolicy,
        Meta(description="What becomes of a Spot machine that is taken away; a deallocated one still costs its disk"),
    ] = "Delete"
    ephemeral_os_disk: Annotated[
        bool, Meta(description="OS disk on the machine's own temp disk: faster and free, where the image fits")
    ] = False
    os_image: Annotated[
        OsImage | None, Meta(description="Image of its nodes; not set, the one that fits the size")
    ] = None
    trusted_launch: Annotated[bool, Meta(description="Secure boot chain and virtual TPM (generation 2 sizes)")] = True

    @property
    def image(self) -> OsImage:
        """The image, chosen for the size where none is set: with drivers in it where the size can start that one."""
        if self.os_image is not None:
            return self.os_image
        size = find(self.vm_size)
        return "ubuntu-hpc-2404" if size is None or 2 in size.generations else "ubuntu-2404-gen1"


class User(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """One person, group or service that may use the workspace."""

    object_id: Annotated[str, Meta(description="Object id in Entra ID, a GUID")]
    kind: Annotated[PrincipalKind, Meta(description="What the object is")] = "User"
    name: Annotated[str, Meta(description="Who it is, for the review's reader")] = ""


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """Everything that a stack sets, checked: names as Azure writes them, sources as CIDRs, zones sorted."""

    workspace_name: Annotated[
        str, Meta(description="What it is called, in tags, roles and the head's host name: 3 to 17 characters")
    ] = PROJECT
    location: Annotated[str, Meta(description="Azure region of everything")]
    storage_redundancy: Annotated[
        Redundancy,
        Meta(description="Copies of the data: in one building (LRS), in three zones (Z), in a second region (G)"),
    ] = "ZRS"
    private_endpoints: Annotated[
        bool,
        Meta(description="Storage, registry and vault reachable from the network only (Premium registry)"),
    ] = False
    client_sources: Annotated[
        tuple[str, ...],
        Meta(description="Public CIDRs that may reach storage, registry and vault; none: all may, with an identity"),
    ] = ()
    registry_sku: Annotated[RegistrySku, Meta(description="Container registry's tier")] = "Basic"
    image_builder: Annotated[
        ImageBuilder,
        Meta(
            description="What builds images: buildah on the head, or in a job on a node; or the registry by ACR Tasks"
        ),
    ] = "buildah"
    protect_data: Annotated[
        bool, Meta(description="Storage, registry and vault cannot be deleted: Pulumi's `protect`, and Azure's locks")
    ] = False
    models_immutable_days: Annotated[
        int,
        Meta(
            ge=0,
            le=146000,
            description="Days for which the registry's records of versions cannot be changed or deleted; 0: none",
        ),
    ] = 0
    soft_delete_days: Annotated[
        int, Meta(ge=7, le=365, description="Days for which deleted data can be had back (the vault: 90 at most)")
    ] = 7
    blob_versioning: Annotated[bool, Meta(description="Keep what a blob held before it was overwritten")] = False
    zones: Annotated[
        tuple[str, ...], Meta(description="Availability zones for addresses, head and nodes; none: Azure chooses")
    ] = ()
    address_space: Annotated[str, Meta(description="The network's IPv4 addresses, a /8 to a /25")] = "10.40.0.0/16"
    heads_subnet: Annotated[
        str | None, Meta(description="The head's part of them; not set, the first /24 or eighth")
    ] = None
    nodes_subnet: Annotated[
        str | None, Meta(description="The nodes' part: all clusters' maxNodes and 5 more; not set, the upper half")
    ] = None
    endpoints_subnet: Annotated[
        str | None, Meta(description="The private endpoints' part; not set, the second /24 or eighth")
    ] = None
    ssh_sources: Annotated[
        tuple[str, ...], Meta(description="CIDRs that may SSH to the head; none: the head has no public address")
    ] = ()
    ssh_public_key: Annotated[
        str | None, Meta(description="Public key that may log in to the head; not set, nobody can")
    ] = None
    head_size: Annotated[str, Meta(description="Size of the head, which is always on")] = "Standard_B2s_v2"
    share: Annotated[
        str | None,
        Meta(description="NFS share that keeps runs and environments, `host:/path`; not set, the head's own disk"),
    ] = None
    package: Annotated[
        str | None,
        Meta(description="What the head installs: a requirement, URL or git repository; not set, nothing"),
    ] = None
    clusters: Annotated[
        tuple[Cluster, ...], Meta(description="Compute targets, each a set of GPU nodes that grows from none")
    ] = (Cluster(name="gpucluster"),)
    allow_retired_sizes: Annotated[
        bool, Meta(description="Declare sizes that Azure has retired or closed to new subscriptions all the same")
    ] = False
    encryption_at_host: Annotated[
        bool,
        Meta(description="Encrypt temp disks and caches too (a feature to register in the subscription first)"),
    ] = False
    log_retention_days: Annotated[int, Meta(ge=30, le=730, description="Days for which logs are kept")] = 30
    users: Annotated[
        tuple[User, ...], Meta(description="Who may use the workspace; none: whoever runs `pulumi up`")
    ] = ()
    tags: Annotated[dict[str, str], Meta(description="Tags on every resource, beside the program's own")] = {}

    @classmethod
    def load(cls, config: PulumiConfig) -> Settings:
        """
        The settings of the stack that Pulumi runs, out of `pulumi.Config("tensoryard")`.

        What is allowed and still worth knowing goes to Pulumi's log as warnings.
        Raises SettingsError that is a `pulumi.RunError` too: Pulumi prints that one without a trace.
        """
        import pulumi
        from pulumi.runtime.config import CONFIG, get_config_env

        from infra.settings.notes import notes

        # Config answers only for keys that it is asked for; a misspelled one shows only in the whole.
        mine = f"{config.name}:"
        keys = {key.removeprefix(mine) for key in (*CONFIG.get(), *get_config_env()) if key.startswith(mine)}
        values = {key: config.get(key) for key in sorted(keys | set(setting_names()))}
        given = {key: value for key, value in values.items() if value is not None}
        try:
            settings = settings_from(given, pulumi.Config("azure-native").get("location"))
        except SettingsError as error:
            told = type("SettingsError", (SettingsError, pulumi.RunError), {})
            raise told(error.key, error.given, error.allowed, error.how) from None
        for note in notes(settings):
            pulumi.log.warn(note)
        return settings


class PulumiConfig(Protocol):
    """What is used of `pulumi.Config`."""

    @property
    def name(self) -> str:
        """The namespace of its keys."""

    def get(self, key: str) -> str | None:
        """The value's text, JSON where it is a list or an object, or None."""


def setting_names() -> tuple[str, ...]:
    """Every key of `tensoryard:`, as a stack writes it."""
    return tuple(field.encode_name for field in msgspec.structs.fields(Settings) if field.name != "location")


def settings_from(values: Mapping[str, Any], location: str | None) -> Settings:
    """
    Settings out of a stack's `tensoryard:` keys and its region, checked.

    values: camelCase keys without `tensoryard:`; texts, numbers, lists and objects, or JSON texts of these; location:
    the stack's `azure-native:location`. Raises SettingsError, the first thing found wrong.
    """
    if not isinstance(values, Mapping):
        raise SettingsError(PROJECT, shown(values), "A stack's settings are keys and values.", "See Pulumi.yaml.")
    if "location" in values:
        allowed = f"The region is azure-native's own setting, `{LOCATION}`."
        how = f"{set_with(LOCATION, 'eastus')} Then `pulumi config rm tensoryard:location`."
        raise SettingsError(f"{PROJECT}:location", shown(values["location"]), allowed, how)
    settings = read_struct(Settings, {**values, "location": location})
    region = check_region(settings.location)
    check_workspace_name(settings)
    heads = check_head(settings)
    sizes = [check_cluster(settings, index, region) for index in range(len(settings.clusters))]
    clusters = [
        msgspec.structs.replace(cluster, vm_size=size.name)
        for cluster, size in zip(settings.clusters, sizes, strict=True)
    ]
    settings = msgspec.structs.replace(
        settings,
        location=region.name,
        head_size=heads.name,
        clusters=tuple(clusters),
        zones=check_zones(settings, region),
        ssh_sources=check_sources("sshSources", settings.ssh_sources, public=False),
        client_sources=check_sources("clientSources", settings.client_sources, public=True),
    )
    check_network(settings)
    check_storage(settings, region)
    check_reach(settings)
    check_share(settings)
    check_registry(settings)
    check_ssh_key(settings)
    check_users(settings)
    check_tags(settings)
    return settings


assert set(IMAGE_GENERATION) == set(OsImage.__args__)  # type: ignore[attr-defined]
