"""Whatever a stack sets, its settings are read whole or refused in one paragraph: values drawn by hypothesis."""

import ipaddress
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from infra.settings import Settings, SettingsError, setting_names, settings_from
from infra.settings.addresses import layout
from infra.settings.notes import notes
from infra.sizes import GPU_SIZES, HEAD_SIZES
from read_settings import KEY, REGION, is_one_readable_paragraph, outcome

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(max_size=4) | st.dates(),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8) | st.integers(), inner, max_size=4)
    ),
    max_leaves=12,
)
cidrs = st.builds(
    lambda address, prefix: str(ipaddress.IPv4Network((address, prefix), strict=False)),
    st.sampled_from(
        ["10.40.0.0", "10.40.7.0", "10.40.128.0", "192.168.0.0", "203.0.113.9", "0.0.0.0", "198.51.100.1"]
    ),
    st.integers(0, 32),
)
clusters = st.fixed_dictionaries(
    {"name": st.sampled_from(["gpu", "gpu2", "big-one", "local", "x"])},
    optional={
        "vmSize": st.sampled_from([*GPU_SIZES, "NC6", "Standard_D2s_v5"]),
        "maxNodes": st.integers(0, 1100) | st.just("12"),
        "spot": st.booleans(),
        "evictionPolicy": st.sampled_from(["Delete", "Deallocate"]),
        "ephemeralOsDisk": st.booleans(),
        "osImage": st.sampled_from(["ubuntu-hpc-2404", "ubuntu-2404-gen1", None]),
        "trustedLaunch": st.booleans(),
    },
)
likely = st.fixed_dictionaries(
    {},
    optional={
        "workspaceName": st.sampled_from(["tensoryard", "ml-7", "ML"]),
        "storageRedundancy": st.sampled_from(["LRS", "ZRS", "GRS", "GZRS"]),
        "privateEndpoints": st.booleans(),
        "registrySku": st.sampled_from(["Premium", "Basic"]),
        "clientSources": st.lists(cidrs, max_size=2),
        "zones": st.lists(st.sampled_from(["1", "2", "3", 1]), max_size=3),
        "addressSpace": cidrs,
        "headsSubnet": cidrs,
        "nodesSubnet": cidrs,
        "endpointsSubnet": cidrs,
        "sshSources": st.lists(cidrs, max_size=3),
        "sshPublicKey": st.sampled_from([KEY, "", "no key"]),
        "headSize": st.sampled_from(list(HEAD_SIZES)),
        "clusters": st.lists(clusters, max_size=3),
        "allowRetiredSizes": st.booleans(),
        "softDeleteDays": st.integers(0, 400),
        "tags": st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=3),
    },
)
regions = st.sampled_from(["eastus", "West Europe", "westus", "polandcentral", "northcentralus", "easttus", None])


@given(values=likely, location=regions)
def test_likely_settings_are_read_or_refused_in_one_paragraph(values: dict[str, Any], location: str | None) -> None:
    settings = outcome(values, location)
    if isinstance(settings, SettingsError):
        assert is_one_readable_paragraph(settings)
        return
    again = msgspec.to_builtins(settings)

    assert settings_from(again, again.pop("location")) == settings
    notes(settings)
    found = layout(settings)
    space = ipaddress.IPv4Network(found.address_space)
    subnets = [ipaddress.IPv4Network(each) for each in (found.heads, found.nodes, found.endpoints)]
    assert all(subnet.subnet_of(space) for subnet in subnets)
    assert not any(a.overlaps(b) for index, a in enumerate(subnets) for b in subnets[index + 1 :])
    assert subnets[1].num_addresses >= sum(cluster.max_nodes for cluster in settings.clusters) + 5
    assert ipaddress.IPv4Address(found.head_address) in subnets[0]


@given(
    values=st.dictionaries(
        st.sampled_from(setting_names()) | st.text(max_size=10) | st.integers(), anything, max_size=4
    ),
    location=st.just(REGION) | anything,
)
def test_any_values_whatsoever_are_read_or_refused_in_one_paragraph(values: Any, location: Any) -> None:
    found = outcome(values, location)

    assert isinstance(found, Settings) or is_one_readable_paragraph(found)


@given(anything)
def test_settings_that_are_no_object_are_refused_in_one_paragraph(values: Any) -> None:
    found = outcome(values, REGION)

    assert isinstance(found, Settings) or is_one_readable_paragraph(found)
