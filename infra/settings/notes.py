"""What a reviewer should know of settings that are allowed: said once, as sentences, never refused."""

from __future__ import annotations

from infra.regions import REGIONS, availability
from infra.settings.error import LOCATION
from infra.settings.model import Settings
from infra.sizes import GPU_SIZES, HEAD_SIZES, SIZES_READ_ON


def notes(settings: Settings) -> tuple[str, ...]:
    """
    Sentences about settings that Azure may refuse later, or that open more than one might think.

    settings: checked ones. Each sentence starts with the key it is about, in backticks.
    """
    return (*_about_machines(settings), *_about_place(settings), *_about_reach(settings))


def _about_machines(settings: Settings) -> list[str]:
    """About sizes that are retired, not known to be in the region, or on their way out."""
    region = REGIONS[settings.location]
    said: list[str] = []
    for index, cluster in enumerate(settings.clusters):
        size, key = GPU_SIZES[cluster.vm_size], f"`tensoryard:clusters[{index}].vmSize`"
        if size.retired_on is not None:
            said.append(
                f"{key}: {size.name} is retired, and Azure will refuse its machines. {size.retired_story} Allowed by "
                "`tensoryard:allowRetiredSizes`."
            )
        elif availability(size, region) == "unknown":
            said.append(
                f"{key}: no document read on {SIZES_READ_ON} says whether {region.title} has {size.name}. "
                f"`az vm list-skus --location {region.name} --size {size.name} --output table` does."
            )
        if size.remark:
            said.append(f"{key}: {size.remark}")
        if cluster.spot and cluster.eviction_policy == "Deallocate":
            said.append(
                f"`tensoryard:clusters[{index}].evictionPolicy`: machines that Azure takes away stay as deallocated "
                "ones, count against the quota, and their disks are paid for."
            )
    if not settings.package:
        said.append(
            "`tensoryard:package`: not set, so the head installs no tyard, and runs for its clusters wait. "
            "`pulumi config set tensoryard:package 'tensoryard[azure] @ git+https://github.com/YOU/tensoryard'` "
            "takes your fork."
        )
    head = HEAD_SIZES[settings.head_size]
    if head.closed_to_new is not None:
        said.append(
            f"`tensoryard:headSize`: since {head.closed_to_new:%B %Y} no new subscription can have {head.name}. "
            "Allowed by `tensoryard:allowRetiredSizes`."
        )
    return said


def _about_place(settings: Settings) -> list[str]:
    """About the region and the features that a subscription must have first."""
    region = REGIONS[settings.location]
    said = []
    if region.restricted:
        said.append(f"`{LOCATION}`: {region.title} is open to some subscriptions only, after a request to Microsoft.")
    if settings.encryption_at_host:
        said.append(
            "`tensoryard:encryptionAtHost`: the subscription needs the feature first: `az feature register "
            "--namespace Microsoft.Compute --name EncryptionAtHost`."
        )
    return said


def _about_reach(settings: Settings) -> list[str]:
    """About who may come in from where."""
    if settings.private_endpoints or settings.client_sources:
        return []
    return [
        "`tensoryard:clientSources`: not set, so storage, registry and vault answer any network; an identity with a "
        "role is still needed. Name the networks that people come from, or set `tensoryard:privateEndpoints`."
    ]
