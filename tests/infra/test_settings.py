"""A stack's settings are read whole: defaults, texts, other spellings, the division of addresses, Pulumi's config."""

import json
from typing import Any

import pulumi
import pulumi.runtime.config
import pytest

from infra.settings import Cluster, Settings, SettingsError, settings_from
from infra.settings.addresses import layout
from infra.settings.notes import notes
from read_settings import KEY, REGION, one


def test_empty_settings_are_a_workspace_with_the_defaults() -> None:
    settings = settings_from({}, REGION)

    assert settings == Settings(location=REGION)
    assert settings.clusters == (Cluster(name="gpucluster", vm_size="Standard_NC4as_T4_v3", max_nodes=4),)


def test_values_may_come_as_the_texts_that_pulumi_keeps() -> None:
    texts = {
        "protectData": "true",
        "softDeleteDays": "30",
        "zones": [1, "2"],
        "clusters": '[{"name": "gpu", "maxNodes": "3", "spot": "True"}]',
        "tags": '{"team": "vision", "cost": 42}',
        "nodesSubnet": "",
        "users": None,
    }

    settings = settings_from(texts, "East US")

    assert settings.protect_data
    assert settings.soft_delete_days == 30
    assert settings.zones == ("1", "2")
    assert settings.clusters == (Cluster(name="gpu", max_nodes=3, spot=True),)
    assert settings.tags == {"team": "vision", "cost": "42"}
    assert settings.nodes_subnet is None
    assert settings.location == "eastus"


def test_names_are_taken_as_azure_writes_them() -> None:
    settings = settings_from(
        one(vmSize="nc4AS_t4_v3") | {"headSize": "standard_b4s_V2", "storageRedundancy": "lrs"}, REGION
    )

    assert settings.clusters[0].vm_size == "Standard_NC4as_T4_v3"
    assert settings.head_size == "Standard_B4s_v2"
    assert settings.storage_redundancy == "LRS"


def test_single_addresses_become_networks() -> None:
    values = {"sshSources": ["203.0.113.7", "198.51.100.0/24"], "sshPublicKey": KEY}

    assert settings_from(values, REGION).ssh_sources == ("203.0.113.7/32", "198.51.100.0/24")


def test_cluster_without_an_image_gets_the_one_that_its_size_can_start() -> None:
    assert Cluster(name="gpu").image == "ubuntu-hpc-2404"
    assert Cluster(name="gpu", vm_size="Standard_NC6").image == "ubuntu-2404-gen1"
    assert Cluster(name="gpu", os_image="ubuntu-2404-gen1").image == "ubuntu-2404-gen1"


def test_region_of_which_no_document_speaks_is_let_through_with_a_note() -> None:
    settings = settings_from(one(vmSize="NC40ads_H100_v5"), "westeurope")

    assert [note for note in notes(settings) if "West Europe has Standard_NC40ads_H100_v5" in note]


def test_retired_sizes_are_let_through_when_asked_for_and_noted() -> None:
    values = one(vmSize="Standard_NC6", trustedLaunch=False) | {"allowRetiredSizes": True, "headSize": "Standard_B2s"}

    settings = settings_from(values, REGION)

    assert settings.clusters[0].image == "ubuntu-2404-gen1"
    assert [note for note in notes(settings) if "Standard_NC6 is retired" in note]
    assert [note for note in notes(settings) if "no new subscription can have Standard_B2s" in note]


@pytest.mark.parametrize(("given", "noted"), [({}, True), ({"package": "tensoryard[azure] @ file:///tyard"}, False)])
def test_a_head_that_would_install_nothing_is_noted(given: dict[str, str], noted: bool) -> None:
    assert noted == any("`tensoryard:package`" in note for note in notes(settings_from(given, REGION)))


def test_layout_divides_the_address_space() -> None:
    found = layout(settings_from({}, REGION))

    assert (found.heads, found.endpoints, found.nodes) == ("10.40.0.0/24", "10.40.1.0/24", "10.40.128.0/17")
    assert found.head_address == "10.40.0.4"


def test_layout_takes_the_subnets_that_are_given() -> None:
    values = {"addressSpace": "192.168.0.0/20", "headsSubnet": "192.168.3.0/28", "nodesSubnet": "192.168.4.0/24"}

    found = layout(settings_from(values, REGION))

    assert (found.heads, found.nodes, found.endpoints) == ("192.168.3.0/28", "192.168.4.0/24", "192.168.1.0/24")
    assert found.head_address == "192.168.3.4"


@pytest.fixture
def config(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Sets the config that a program under Pulumi sees, as the CLI hands it over: texts, JSON for lists."""

    def set_config(values: dict[str, str]) -> None:
        monkeypatch.setenv("PULUMI_CONFIG", json.dumps(values))

    pulumi.runtime.config.set_all_config({})
    return set_config


def test_load_reads_what_pulumi_hands_over(config: Any) -> None:
    config(
        {
            "azure-native:location": "swedencentral",
            "tensoryard:clusters": '[{"name":"gpu","maxNodes":2}]',
            "tensoryard:softDeleteDays": "30",
            "other:softDeleteDays": "99",
        }
    )

    settings = Settings.load(pulumi.Config("tensoryard"))

    assert settings == Settings(
        location="swedencentral", clusters=(Cluster(name="gpu", max_nodes=2),), soft_delete_days=30
    )


def test_load_notices_a_misspelled_key_and_needs_no_trace(config: Any) -> None:
    config({"azure-native:location": "eastus", "tensoryard:softDeleteDay": "30"})

    with pytest.raises(SettingsError) as caught:
        Settings.load(pulumi.Config("tensoryard"))

    assert caught.value.key == "tensoryard:softDeleteDay"
    assert isinstance(caught.value, pulumi.RunError)
    assert type(caught.value).__name__ == "SettingsError"


def test_load_tells_pulumi_s_log_what_is_worth_knowing(config: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(pulumi.log, "warn", said.append)
    config({"azure-native:location": "eastus", "tensoryard:encryptionAtHost": "true"})

    settings = Settings.load(pulumi.Config("tensoryard"))

    assert said == list(notes(settings))
    assert any("az feature register" in note for note in said)
