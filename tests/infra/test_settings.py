"""A stack's settings are read whole, or refused in one paragraph that says what to do."""

import ipaddress
import itertools
import json
import re
import shlex
from pathlib import Path
from typing import Any

import msgspec
import pulumi
import pulumi.runtime.config
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.settings import Cluster, Settings, SettingsError, setting_names, settings_from, stack_values
from infra.settings.addresses import layout
from infra.settings.notes import notes
from infra.sizes import GPU_SIZES, HEAD_SIZES

REGION = "eastus"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl me"
GUID = "11111111-2222-3333-4444-555555555555"


def one(**cluster: Any) -> dict[str, Any]:
    """Settings with one cluster like that."""
    return {"clusters": [{"name": "gpu", **cluster}]}


def refused(values: Any, location: Any = REGION) -> SettingsError:
    """The error that these settings give."""
    with pytest.raises(SettingsError) as caught:
        settings_from(values, location)
    return caught.value


def outcome(values: Any, location: Any) -> Settings | SettingsError:
    """What becomes of settings: the typed ones, or their error, and never anything else."""
    try:
        return settings_from(values, location)
    except SettingsError as error:
        return error


def is_one_readable_paragraph(error: SettingsError) -> bool:
    """Whether the error is a line of printable text that starts with its key."""
    text = str(error)
    return text.startswith(f"`{error.key}`") and text.isprintable() and len(text) < 1500


def after(command: str, values: dict[str, Any], location: str) -> tuple[dict[str, Any], str]:
    """The settings after a `pulumi config set` or `rm`, as its documentation says they are kept."""
    words = shlex.split(command)
    assert words[:2] == ["pulumi", "config"], command
    options = {word for word in words if word.startswith("--")}
    plain = [word for word in words[3:] if not word.startswith("--") and word != "string"]
    if plain[0] == "azure-native:location":
        return values, plain[1]
    parts = re.findall(r'(\w+)|\[("[^"]*"|\d+)\]', plain[0].split(":", 1)[1])
    path = [name or json.loads(index) for name, index in parts]
    assert ("--path" in options) == (len(path) > 1), command
    changed = json.loads(json.dumps(values))
    holder: Any = changed
    for part, following in itertools.pairwise(path):
        fresh: Any = [] if isinstance(following, int) else {}
        if isinstance(holder, list) and part == len(holder):
            holder.append(fresh)
        elif isinstance(holder, dict) and not isinstance(holder.get(part), (dict, list)):
            holder[part] = fresh
        holder = holder[part]
    if words[2] == "rm":
        del holder[path[-1]]
        return changed, location
    value: Any = plain[1]
    if "--path" in options and "--type" not in options and re.fullmatch(r"\d+|true|false", value):
        value = json.loads(value)
    if isinstance(holder, list) and path[-1] == len(holder):
        holder.append(value)
    else:
        holder[path[-1]] = value
    return changed, location


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
    assert Cluster(name="gpu").image == "ubuntu-hpc-2204"
    assert Cluster(name="gpu", vm_size="Standard_NC6").image == "ubuntu-2204-gen1"
    assert Cluster(name="gpu", os_image="ubuntu-hpc-2404").image == "ubuntu-hpc-2404"


# What is set, the key of the error, and what its text says.
REFUSED: list[tuple[dict[str, Any], str, list[str]]] = [
    ({"clusterz": []}, "tensoryard:clusterz", ["no such key", "`tensoryard:clusters`"]),
    ({"zzz": 1}, "tensoryard:zzz", ["no such key", "`workspaceName`"]),
    (one(vmsize="x"), "tensoryard:clusters[0].vmsize", ["`tensoryard:clusters[0].vmSize`"]),
    ({"clusters": [{}]}, "tensoryard:clusters[0].name", ["not set"]),
    ({"clusters": "gpu"}, "tensoryard:clusters", ["a list"]),
    ({"clusters": ["gpu"]}, "tensoryard:clusters[0]", ["an object"]),
    ({"location": "eastus"}, "tensoryard:location", ["azure-native:location"]),
    ({"protectData": "yes"}, "tensoryard:protectData", ["`yes`", "`true` or `false`"]),
    ({"protectData": 1}, "tensoryard:protectData", ["`true` or `false`"]),
    ({"softDeleteDays": 3}, "tensoryard:softDeleteDays", ["7 to 365"]),
    ({"softDeleteDays": "a week"}, "tensoryard:softDeleteDays", ["`a week`"]),
    ({"softDeleteDays": 7.5}, "tensoryard:softDeleteDays", ["`7.5`"]),
    ({"logRetentionDays": 731}, "tensoryard:logRetentionDays", ["30 to 730"]),
    ({"modelsImmutableDays": -1}, "tensoryard:modelsImmutableDays", ["0 to 146000"]),
    (one(maxNodes=1001), "tensoryard:clusters[0].maxNodes", ["1 to 1000"]),
    (one(maxNodes=0), "tensoryard:clusters[0].maxNodes", ["1 to 1000"]),
    (one(maxNodes=True), "tensoryard:clusters[0].maxNodes", ["whole number"]),
    ({"storageRedundancy": "RAGRS"}, "tensoryard:storageRedundancy", ["`GRS`", "`LRS`"]),
    ({"registrySku": "Classic"}, "tensoryard:registrySku", ["`Premium`"]),
    ({"workspaceName": "My Workspace"}, "tensoryard:workspaceName", ["my-workspace"]),
    ({"workspaceName": "a--b"}, "tensoryard:workspaceName", ["single hyphens"]),
    ({"workspaceName": "a-name-that-is-long"}, "tensoryard:workspaceName", ["3 to 17"]),
    (one(name="GPU"), "tensoryard:clusters[0].name", ["small letters"]),
    (one(name="local"), "tensoryard:clusters[0].name", ["client's own machine"]),
    ({"clusters": [{"name": "aa"}, {"name": "aa"}]}, "tensoryard:clusters[1].name", ["clusters[0].name"]),
    (one(vmSize="NC4as_T4_v2"), "tensoryard:clusters[0].vmSize", ["nearest is `Standard_NC4as_T4_v3`"]),
    (one(vmSize="Standard_D2as_v5"), "tensoryard:clusters[0].vmSize", ["no GPU"]),
    (one(vmSize="Standard_NC6s_v2"), "tensoryard:clusters[0].vmSize", ["31 August 2023", "NC24ads_A100_v4"]),
    (one(vmSize="Standard_NC6s_v3"), "tensoryard:clusters[0].vmSize", ["30 September 2025", "NC40ads_H100_v5"]),
    (
        one(vmSize="NC24ads_A100_v4", ephemeralOsDisk=True),
        "tensoryard:clusters[0].ephemeralOsDisk",
        ["64 GiB", "room for 63", "Trusted Launch"],
    ),
    (
        one(spot=True, evictionPolicy="Deallocate", ephemeralOsDisk=True),
        "tensoryard:clusters[0].evictionPolicy",
        ["cannot be deallocated"],
    ),
    (one(evictionPolicy="Deallocate"), "tensoryard:clusters[0].evictionPolicy", ["Spot machines only"]),
    (one(osImage="ubuntu-2204-gen1"), "tensoryard:clusters[0].trustedLaunch", ["image of generation 2"]),
    (
        one(osImage="ubuntu-2204-gen1", vmSize="NC24ads_A100_v4", trustedLaunch=False),
        "tensoryard:clusters[0].osImage",
        ["generation 2 only"],
    ),
    (
        one(vmSize="NC6") | {"allowRetiredSizes": True},
        "tensoryard:clusters[0].trustedLaunch",
        ["Standard_NC6 is of generation 1 only"],
    ),
    (
        one(vmSize="NC6", osImage="ubuntu-hpc-2204", trustedLaunch=False) | {"allowRetiredSizes": True},
        "tensoryard:clusters[0].osImage",
        ["`ubuntu-2204-gen1`"],
    ),
    (
        one(vmSize="NC6_Promo", spot=True, trustedLaunch=False) | {"allowRetiredSizes": True},
        "tensoryard:clusters[0].spot",
        ["no Spot price"],
    ),
    (
        one(vmSize="NC6", ephemeralOsDisk=True, trustedLaunch=False) | {"allowRetiredSizes": True},
        "tensoryard:clusters[0].ephemeralOsDisk",
        ["cannot keep its OS disk"],
    ),
    ({"headSize": "Standard_B2ms"}, "tensoryard:headSize", ["July 2026", "`Standard_B2s_v2`"]),
    ({"headSize": "Standard_D4as_v4"}, "tensoryard:headSize", ["nearest is `Standard_D4as_v5`"]),
    ({"headSize": "Standard_NC4as_T4_v3"}, "tensoryard:headSize", ["no GPU"]),
    ({"zones": ["4"]}, "tensoryard:zones[0]", ["`1`, `2` or `3`"]),
    ({"zones": ["1", "1"]}, "tensoryard:zones[1]", ["named once"]),
    ({"privateEndpoints": True}, "tensoryard:registrySku", ["Premium", "privateEndpoints"]),
    (
        {"imageBuilder": "acr-tasks", "privateEndpoints": True, "registrySku": "Premium"},
        "tensoryard:imageBuilder",
        ["imageBuilder buildah", "closed registry"],
    ),
    ({"clientSources": ["198.51.100.0/24"]}, "tensoryard:registrySku", ["Premium", "clientSources"]),
    (
        {"clientSources": ["198.51.100.0/24"], "registrySku": "Premium", "privateEndpoints": True},
        "tensoryard:clientSources",
        ["privateEndpoints"],
    ),
    ({"clientSources": ["10.0.0.0/16"], "registrySku": "Premium"}, "tensoryard:clientSources[0]", ["private"]),
    *(
        ({"sshSources": [source], "sshPublicKey": KEY}, "tensoryard:sshSources[0]", ["everyone"])
        for source in ("0.0.0.0/0", "*", "Internet", "::/0", " any ")
    ),
    ({"sshSources": ["64.0.0.0/7"], "sshPublicKey": KEY}, "tensoryard:sshSources[0]", ["wider than a /8"]),
    ({"sshSources": ["64.0.0.0/8", "65.0.0.0/8"], "sshPublicKey": KEY}, "tensoryard:sshSources", ["64.0.0.0/7"]),
    ({"sshSources": ["203.0.113.7/24"], "sshPublicKey": KEY}, "tensoryard:sshSources[0]", ["203.0.113.0/24"]),
    ({"sshSources": ["2001:db8::/32"], "sshPublicKey": KEY}, "tensoryard:sshSources[0]", ["IPv4"]),
    ({"sshSources": ["my-office"], "sshPublicKey": KEY}, "tensoryard:sshSources[0]", ["`my-office`"]),
    ({"sshSources": "203.0.113.0/24", "sshPublicKey": KEY}, "tensoryard:sshSources", ["a list"]),
    ({"sshSources": ["203.0.113.0/24"]}, "tensoryard:sshPublicKey", ["nobody could log in"]),
    ({"sshPublicKey": "ssh-dss AAAA"}, "tensoryard:sshPublicKey", ["`ssh-dss`"]),
    ({"sshPublicKey": KEY[:40]}, "tensoryard:sshPublicKey", ["no key"]),
    ({"sshPublicKey": KEY.replace("ssh-ed25519 ", "ssh-rsa ")}, "tensoryard:sshPublicKey", ["another kind"]),
    ({"addressSpace": "10.40.0.0/7"}, "tensoryard:addressSpace", ["first of its network"]),
    ({"addressSpace": "10.0.0.0/26"}, "tensoryard:addressSpace", ["between a /8 and a /25"]),
    ({"addressSpace": "10.0.0.0/255.255.0.0"}, "tensoryard:addressSpace", ["address/length"]),
    ({"addressSpace": "169.254.0.0/16"}, "tensoryard:addressSpace", ["no network that overlaps"]),
    (
        {"addressSpace": "10.0.0.0/24", **one(maxNodes=200)},
        "tensoryard:addressSpace",
        ["room for 123", "room for 200", "10.0.0.0/23"],
    ),
    ({"nodesSubnet": "10.41.0.0/24"}, "tensoryard:nodesSubnet", ["inside the address space 10.40.0.0/16"]),
    ({"nodesSubnet": "10.40.0.0/20"}, "tensoryard:nodesSubnet", ["overlaps `tensoryard:headsSubnet`"]),
    ({"nodesSubnet": "10.40.8.0/29"}, "tensoryard:nodesSubnet", ["room for 3", "room for 4", "A /28"]),
    ({"headsSubnet": "10.40.9.0/30"}, "tensoryard:headsSubnet", ["a /29"]),
    (
        {"headsSubnet": "10.40.8.0/24", "nodesSubnet": "10.40.8.0/21"},
        "tensoryard:nodesSubnet",
        ["overlaps `tensoryard:headsSubnet`, 10.40.8.0/24."],
    ),
    ({"users": [{"objectId": "ann@example.org"}]}, "tensoryard:users[0].objectId", ["a GUID"]),
    ({"users": [{"objectId": GUID}, {"objectId": GUID}]}, "tensoryard:users[1].objectId", ["named once"]),
    ({"users": [{"objectId": GUID, "kind": "Robot"}]}, "tensoryard:users[0].kind", ["`ServicePrincipal`"]),
    ({"tags": {"microsoft-team": "x"}}, "tensoryard:tags", ["Azure's own"]),
    ({"tags": {"a/b": "x"}}, "tensoryard:tags", ["none of"]),
    ({"tags": {"Data": "protected"}}, "tensoryard:tags", ["`data` itself"]),
    ({"tags": {"team": "x", "Team": "y"}}, "tensoryard:tags", ["twice"]),
    ({"tags": {f"tag{n}": "" for n in range(41)}}, "tensoryard:tags", ["40 is the most"]),
    ({"tags": ["team"]}, "tensoryard:tags", ["an object"]),
    ({"tags": {"team": ["x"]}}, "tensoryard:tags.team", ["a text"]),
]


@pytest.mark.parametrize(
    ("values", "key", "says"), REFUSED, ids=lambda value: value if isinstance(value, str) else ""
)
def test_wrong_settings_are_refused_with_key_value_and_rule(
    values: dict[str, Any], key: str, says: list[str]
) -> None:
    error = refused(values)

    assert error.key == key
    assert is_one_readable_paragraph(error)
    assert [part for part in says if part not in str(error)] == []


@pytest.mark.parametrize(
    ("values", "key", "says"), REFUSED, ids=lambda value: value if isinstance(value, str) else ""
)
def test_command_in_an_error_puts_that_error_right(values: dict[str, Any], key: str, says: list[str]) -> None:
    error = refused(values)
    commands = re.findall(r"`(pulumi config (?:set|rm) [^`]+)`", error.how)
    commands = [each for each in commands if "<" not in each and "$(" not in each]
    if not commands:
        # These name no value that could be right, but say where one is to be had, or which part to choose.
        assert re.search(r"az ad|id_ed25519|Choose a part", error.how), error.how
        return

    changed, location = values, REGION
    for command in commands:
        changed, location = after(command, changed, location)

    # Something else may be wrong with them still; this is not.
    assert str(outcome(changed, location)) != str(error)


REGIONS = [
    (None, {}, "azure-native:location", ["not set", "config set azure-native:location eastus"]),
    ("west-europe", {}, "azure-native:location", ["nearest is `westeurope` (West Europe)"]),
    ("us-east-1", {}, "azure-native:location", ["none of that name"]),
    ("westus", {}, "tensoryard:storageRedundancy", ["no availability zones", "LRS"]),
    ("polandcentral", {"storageRedundancy": "GRS"}, "tensoryard:storageRedundancy", ["paired region"]),
    (
        "westus",
        {"storageRedundancy": "LRS", "zones": ["1"]},
        "tensoryard:zones",
        ["West US has no availability zones"],
    ),
    (
        "northcentralus",
        one(vmSize="NC24ads_A100_v4"),
        "tensoryard:clusters[0].vmSize",
        ["North Central US", "eastus"],
    ),
]


@pytest.mark.parametrize(("location", "values", "key", "says"), REGIONS)
def test_regions_are_refused_where_a_document_says_no(
    location: str | None, values: dict[str, Any], key: str, says: list[str]
) -> None:
    error = refused(values, location)

    assert error.key == key
    assert is_one_readable_paragraph(error)
    assert [part for part in says if part not in str(error)] == []


def test_region_of_which_no_document_speaks_is_let_through_with_a_note() -> None:
    settings = settings_from(one(vmSize="NC40ads_H100_v5"), "westeurope")

    assert [note for note in notes(settings) if "West Europe has Standard_NC40ads_H100_v5" in note]


def test_nc6_is_told_what_happened_to_it_and_what_to_take() -> None:
    error = refused(one(vmSize="Standard_NC6"))

    assert str(error) == (
        "`tensoryard:clusters[0].vmSize` is `Standard_NC6`: Azure retired that size (1 NVIDIA K80 of 12 GiB, "
        "6 vCPUs, 56 GiB). Microsoft's pages name 31 August 2023 and 6 September 2023 as the last day of the "
        "NC series (NVIDIA K80): machines left then were deallocated, and Azure makes no new ones. In its "
        "place Microsoft's pages name `Standard_NC4as_T4_v3` (1 NVIDIA T4 of 16 GiB, 4 vCPUs, 28 GiB) or "
        "`Standard_NC8as_T4_v3` (1 NVIDIA T4 of 16 GiB, 8 vCPUs, 56 GiB). Set it with `pulumi config set "
        "--path 'tensoryard:clusters[0].vmSize' Standard_NC4as_T4_v3`. To review the retired size all the "
        "same: `pulumi config set tensoryard:allowRetiredSizes true`; Azure will then refuse to make its "
        "machines."
    )


def test_retired_sizes_are_let_through_when_asked_for_and_noted() -> None:
    values = one(vmSize="Standard_NC6", trustedLaunch=False) | {"allowRetiredSizes": True, "headSize": "Standard_B2s"}

    settings = settings_from(values, REGION)

    assert settings.clusters[0].image == "ubuntu-2204-gen1"
    assert [note for note in notes(settings) if "Standard_NC6 is retired" in note]
    assert [note for note in notes(settings) if "no new subscription can have Standard_B2s" in note]


def test_private_key_is_never_shown() -> None:
    secret = "b3BlbnNzaC1rZXktdjEAAAAA"

    error = refused({"sshPublicKey": f"-----BEGIN OPENSSH PRIVATE KEY----- {secret}"})

    assert "a private key" in str(error)
    assert secret not in str(error)


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


def write(folder: Path, text: str) -> Path:
    """A stack file of that text."""
    path = folder / "Pulumi.mine.yaml"
    path.write_text(text)
    return path


def test_stack_files_are_read_with_and_without_the_namespace(tmp_path: Path) -> None:
    text = """
encryptionsalt: v1:abc
config:
  azure-native:location: eastus
  azure-native:subscriptionId: whatever
  tensoryard:zones: [1]
  softDeleteDays: 30
  other:key: {secure: abc}
"""

    assert stack_values(write(tmp_path, text)) == ({"zones": [1], "softDeleteDays": 30}, "eastus")


@pytest.mark.parametrize("text", ["", "config:\n", "encryptionsalt: x\n"])
def test_stack_file_without_settings_has_none(tmp_path: Path, text: str) -> None:
    assert stack_values(write(tmp_path, text)) == ({}, None)


@pytest.mark.parametrize(
    ("text", "key", "says"),
    [
        ("config: [1", "Pulumi.mine.yaml", "no YAML"),
        ("config: 5", "Pulumi.mine.yaml", "`config:`"),
        ("- a", "Pulumi.mine.yaml", "`config:`"),
        ("config:\n  tensoryard:headSize:\n    secure: v1:abc\n", "tensoryard:headSize", "encrypted"),
        ("config:\n  clusters:\n    - name: {secure: v1:abc}\n", "tensoryard:clusters[0].name", "encrypted"),
    ],
)
def test_stack_file_that_cannot_be_read_is_one_error(tmp_path: Path, text: str, key: str, says: str) -> None:
    with pytest.raises(SettingsError) as caught:
        stack_values(write(tmp_path, text))

    assert caught.value.key == key
    assert says in str(caught.value)
    assert is_one_readable_paragraph(caught.value)


def test_missing_stack_names_those_there_are(tmp_path: Path) -> None:
    write(tmp_path, "")

    with pytest.raises(SettingsError, match="There are: mine"):
        stack_values(tmp_path / "Pulumi.prod.yaml")


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
        "osImage": st.sampled_from(["ubuntu-hpc-2204", "ubuntu-2204-gen1", None]),
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
