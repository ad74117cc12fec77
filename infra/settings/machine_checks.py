"""What a stack may ask for as machines: the clusters' sizes and disks, and the head's size."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from infra.regions import Region, availability, regions_listed
from infra.settings.error import LOCATION, SettingsError, full_key, listed, nearest, set_with, shown
from infra.sizes import GPU_SIZES, HEAD_SIZES, Size, find

if TYPE_CHECKING:
    from infra.settings.model import Cluster, Settings

IMAGE_GIB = {"ubuntu-hpc-2404": 64, "ubuntu-2404-gen1": 30}
"""Size of each image's OS disk: a disk cannot be smaller than its image. Source: azhpc-images, os_disk_size_gb."""
IMAGE_GENERATION = {"ubuntu-hpc-2404": 2, "ubuntu-2404-gen1": 1}
TRUSTED_LAUNCH_GIB = 1
"""What Trusted Launch keeps for itself of the disk that holds an ephemeral OS disk."""
NODES_MOST = 1000
"""Machines of one Flexible scale set, spread over as many racks as there are."""
TAKEN_NAMES = {
    "local": "As a compute target, that is the client's own machine.",
    "slurm": "Runs of jobs with `compute_target: {slurm: ...}` are queued under that name.",
    "default": "A line `PartitionName=default` gives Slurm every partition's defaults, and no partition.",
}
"""Names that no cluster can have, and what they stand for."""


def check_cluster(settings: Settings, index: int, region: Region) -> Size:
    """
    The size of the cluster at that place in the list.

    Raises SettingsError for a name that is no name or is taken, and for machines that Azure would not make.
    """
    cluster = settings.clusters[index]
    path = f"clusters[{index}]"
    _check_name(settings, index)
    size = _size(f"{path}.vmSize", cluster.vm_size)
    _check_retired(f"{path}.vmSize", size, settings.allow_retired_sizes)
    _check_in_region(f"{path}.vmSize", size, region)
    _check_generation(path, cluster, size)
    _check_spot(path, cluster, size)
    _check_ephemeral(path, cluster, size)
    return size


def _check_name(settings: Settings, index: int) -> None:
    """Whether the cluster's name can be a compute target, a partition of Slurm and the start of host names."""
    name, path = settings.clusters[index].name, f"clusters[{index}].name"
    if not (2 <= len(name) <= 15 and re.fullmatch(r"[a-z](-?[a-z0-9])*", name)):
        allowed = (
            "It starts the nodes' host names, so it has 2 to 15 small letters a-z, digits and single hyphens between "
            "them, and starts with a letter."
        )
        raise SettingsError(full_key(path), shown(name), allowed, set_with(path, "gpucluster"))
    if name in TAKEN_NAMES:
        raise SettingsError(full_key(path), shown(name), TAKEN_NAMES[name], set_with(path, "gpucluster"))
    before = [cluster.name for cluster in settings.clusters[:index]]
    if name in before:
        allowed = f"`{full_key(f'clusters[{before.index(name)}].name')}` has that name, and each cluster has its own."
        raise SettingsError(full_key(path), shown(name), allowed, set_with(path, f"{name[:12]}-{index + 1}"))


def _size(path: str, name: str) -> Size:
    """The GPU size of that name."""
    size = find(name)
    if size is not None and size.gpu_count:
        return size
    at_hand = {each.name: each for each in GPU_SIZES.values() if each.retired_on is None}
    near = nearest(name, GPU_SIZES)
    hint = f" The nearest is `{near}`." if near and size is None else ""
    what = "That size has no GPU." if size is not None else "infra/sizes.py has no such size."
    allowed = f"{what}{hint} To be had are {listed(at_hand, 'and')}."
    good = near if near in at_hand else "Standard_NC4as_T4_v3"
    raise SettingsError(full_key(path), shown(name), allowed, set_with(path, good))


def _check_retired(path: str, size: Size, allow: bool) -> None:
    """Whether the size is still made; else what it was, what came after it, and how to look at it all the same."""
    if size.retired_on is None or allow:
        return
    heirs = [f"`{name}` ({GPU_SIZES[name].summary})" for name in size.successors]
    allowed = (
        f"Azure retired that size ({size.summary}). {size.retired_story} In its place Microsoft's pages name "
        f"{' or '.join(heirs)}."
    )
    how = (
        f"{set_with(path, size.successors[0])} To review the retired size all the same: "
        "`pulumi config set tensoryard:allowRetiredSizes true`; Azure will then refuse to make its machines."
    )
    raise SettingsError(full_key(path), shown(size.name), allowed, how)


def _check_in_region(path: str, size: Size, region: Region) -> None:
    """Whether some document says that the region lacks the size."""
    if availability(size, region) != "absent":
        return
    allowed = (
        f"{region.title} ({LOCATION}) has no machines with {size.gpu_model}. Regions known to have them: "
        f"{listed(regions_listed(size), 'and')}."
    )
    raise SettingsError(full_key(path), shown(size.name), allowed, set_with(LOCATION, regions_listed(size)[0]))


def _check_generation(path: str, cluster: Cluster, size: Size) -> None:
    """Whether the size's hypervisor can start the image, and Trusted Launch with it."""
    image = cluster.image
    key = f"{path}.osImage"
    if IMAGE_GENERATION[image] not in size.generations:
        fitting = [name for name, generation in IMAGE_GENERATION.items() if generation in size.generations]
        allowed = (
            f"That image is for machines of generation {IMAGE_GENERATION[image]}, and {size.name} is of generation "
            f"{' and '.join(map(str, size.generations))} only. For it there is {listed(fitting)}."
        )
        raise SettingsError(full_key(key), shown(image), allowed, set_with(key, fitting[0]))
    if not cluster.trusted_launch:
        return
    key = f"{path}.trustedLaunch"
    if not size.trusted_launch:
        allowed = f"Trusted Launch needs machines of generation 2, and {size.name} is of generation 1 only."
        raise SettingsError(full_key(key), "`true`", allowed, set_with(key, False))
    if IMAGE_GENERATION[image] == 1:
        allowed = f"Trusted Launch needs an image of generation 2, and {image} (`{full_key(path)}.osImage`) is of 1."
        raise SettingsError(full_key(key), "`true`", allowed, set_with(key, False))


def _check_spot(path: str, cluster: Cluster, size: Size) -> None:
    """Whether Spot and what becomes of an evicted machine go together."""
    if cluster.spot and not size.spot:
        allowed = f"Azure has no Spot price for {size.name}: promotional sizes are left out of it."
        raise SettingsError(full_key(f"{path}.spot"), "`true`", allowed, set_with(f"{path}.spot", False))
    if cluster.eviction_policy != "Deallocate":
        return
    key = f"{path}.evictionPolicy"
    if not cluster.spot:
        allowed = (
            f"Azure evicts Spot machines only, and `{full_key(path)}.spot` is false: it refuses the two together."
        )
        raise SettingsError(full_key(key), "`Deallocate`", allowed, set_with(key, "Delete"))
    if cluster.ephemeral_os_disk:
        allowed = (
            f"A machine whose OS disk is ephemeral (`{full_key(path)}.ephemeralOsDisk`) cannot be deallocated: it "
            "would lose that disk. With it, evicted machines are deleted."
        )
        raise SettingsError(full_key(key), "`Deallocate`", allowed, set_with(key, "Delete"))


def _check_ephemeral(path: str, cluster: Cluster, size: Size) -> None:
    """Whether the image fits on the disk that comes with the size."""
    if not cluster.ephemeral_os_disk:
        return
    key = f"{path}.ephemeralOsDisk"
    if not size.ephemeral_os:
        allowed = f"{size.name} cannot keep its OS disk on its own disk, say Microsoft's pages."
        raise SettingsError(full_key(key), "`true`", allowed, set_with(key, False))
    kept = TRUSTED_LAUNCH_GIB if cluster.trusted_launch else 0
    room = size.temp_disk_gib - kept
    need = IMAGE_GIB[cluster.image]
    if need > room:
        for_trust = f" less {kept} GiB that Trusted Launch keeps" if kept else ""
        allowed = (
            f"The image {cluster.image} has {need} GiB, and the temp disk of {size.name} has room for {room}: "
            f"{size.temp_disk_gib} GiB{for_trust}. A managed OS disk, or a larger size, has the room."
        )
        raise SettingsError(full_key(key), "`true`", allowed, set_with(key, False))


def check_head(settings: Settings) -> Size:
    """The head's size. Raises SettingsError for one that is not in the catalogue, or that new subscriptions lack."""
    name = settings.head_size
    size = find(name)
    at_hand = [each.name for each in HEAD_SIZES.values() if each.closed_to_new is None]
    if size is None or size.gpu_count:
        near = nearest(name, at_hand)
        what = "The head needs no GPU." if size is not None else "infra/sizes.py has no such head size."
        hint = f" The nearest is `{near}`." if near and size is None else ""
        allowed = f"{what}{hint} Head sizes are {listed(at_hand, 'and')}."
        raise SettingsError(full_key("headSize"), shown(name), allowed, set_with("headSize", near or at_hand[0]))
    if size.closed_to_new is not None and not settings.allow_retired_sizes:
        heir = HEAD_SIZES[size.successors[0]]
        allowed = (
            f"Since {size.closed_to_new:%B %Y} no new subscription can have that size, and an old one gets no more "
            f"quota for it. The newer one like it is `{heir.name}` ({heir.summary})."
        )
        how = (
            f"{set_with('headSize', heir.name)} In an older subscription with quota left: "
            "`pulumi config set tensoryard:allowRetiredSizes true`."
        )
        raise SettingsError(full_key("headSize"), shown(size.name), allowed, how)
    return size
