"""The catalogue of sizes and regions is whole: heirs exist, names agree with figures, sources are named."""

import re

import pytest

from infra.regions import REGIONS, availability, find_region, regions_listed
from infra.settings.machine_checks import IMAGE_GENERATION
from infra.sizes import GPU_SIZES, HEAD_SIZES, Size, find

SIZES = GPU_SIZES | HEAD_SIZES


@pytest.mark.parametrize("size", SIZES.values(), ids=list(SIZES))
def test_size_is_whole(size: Size) -> None:
    # Azure's names say the vCPUs: NC24ads_A100_v4 has 24.
    vcpu = re.match(r"Standard_(?:NC|B|D)(\d+)", size.name)

    assert vcpu is not None
    assert int(vcpu[1]) == size.vcpu
    assert size.memory_gib >= size.vcpu
    assert size.quota_family.endswith(" Family vCPUs")
    assert re.fullmatch(r"(sizes|migration)/[a-z0-9/-]+\.md", size.source)
    assert size.generations in {(1,), (2,), (1, 2)}
    assert size.trusted_launch == (2 in size.generations)
    assert [name for name, generation in IMAGE_GENERATION.items() if generation in size.generations]
    assert not size.ephemeral_os or size.temp_disk_gib > 0


@pytest.mark.parametrize("size", GPU_SIZES.values(), ids=list(GPU_SIZES))
def test_gpu_size_names_its_gpus(size: Size) -> None:
    assert size.gpu_count > 0
    assert size.gpu_memory_gib > 0
    assert size.gpu_model.split()[1] in {"K80", "P100", "V100", "T4", "A100", "H100"}


def test_retired_sizes_name_heirs_that_can_be_had() -> None:
    heirs = {name: size.successors for name, size in GPU_SIZES.items() if size.retired_on is not None}

    assert "Standard_NC6" in heirs
    for name, successors in heirs.items():
        assert successors, name
        assert GPU_SIZES[name].retired_story.endswith(".")
        assert [each for each in successors if GPU_SIZES[each].retired_on is not None] == [], name


def test_closed_head_sizes_name_an_heir_as_large_that_anyone_can_have() -> None:
    for size in HEAD_SIZES.values():
        if size.closed_to_new is not None:
            heir = HEAD_SIZES[size.successors[0]]

            assert heir.closed_to_new is None
            assert (heir.vcpu, heir.memory_gib) >= (size.vcpu, size.memory_gib)


def test_successor_of_nc6_is_the_smallest_t4() -> None:
    nc6 = GPU_SIZES["Standard_NC6"]

    assert nc6.successor == "Standard_NC4as_T4_v3"
    assert nc6.retired_on is not None
    assert nc6.retired_on.isoformat() == "2023-09-06"
    assert GPU_SIZES["Standard_NC4as_T4_v3"].successor is None


@pytest.mark.parametrize("name", ["Standard_NC6", "standard_nc6", "NC6", " nc6 "])
def test_find_takes_names_in_any_case(name: str) -> None:
    assert find(name) is GPU_SIZES["Standard_NC6"]


def test_find_knows_no_other_size() -> None:
    assert find("Standard_NC7") is None
    assert find("") is None


def test_summary_says_what_a_size_is() -> None:
    assert GPU_SIZES["Standard_NC64as_T4_v3"].summary == "4 NVIDIA T4 of 16 GiB, 64 vCPUs, 440 GiB"
    assert HEAD_SIZES["Standard_B2s_v2"].summary == "2 vCPUs, 8 GiB"


def test_regions_are_paired_with_regions() -> None:
    assert [region.pair for region in REGIONS.values() if region.pair and region.pair not in REGIONS] == []
    assert not [region.name for region in REGIONS.values() if region.restricted and region.zones]


@pytest.mark.parametrize("name", ["westeurope", "West Europe", "WESTEUROPE", "west europe"])
def test_region_is_found_by_name_and_title(name: str) -> None:
    assert find_region(name) is REGIONS["westeurope"]


@pytest.mark.parametrize(
    ("size", "region", "expected"),
    [
        ("Standard_NC4as_T4_v3", "eastus", "listed"),
        ("Standard_NC4as_T4_v3", "westcentralus", "absent"),
        ("Standard_NC24ads_A100_v4", "northcentralus", "absent"),
        # Its list still grows: a region that was not there may be there now.
        ("Standard_NC40ads_H100_v5", "westus2", "unknown"),
        # No document read says anything about regions outside the United States.
        ("Standard_NC4as_T4_v3", "westeurope", "unknown"),
    ],
)
def test_availability_is_absent_only_where_a_document_says_so(size: str, region: str, expected: str) -> None:
    assert availability(GPU_SIZES[size], REGIONS[region]) == expected


def test_listed_regions_exist() -> None:
    for size in GPU_SIZES.values():
        assert set(regions_listed(size)) <= set(REGIONS)
