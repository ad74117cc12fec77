"""Wrong settings are refused in one paragraph that says what to do, and doing it puts them right."""

import itertools
import json
import re
import shlex
from typing import Any

import pytest

from read_settings import KEY, REGION, is_one_readable_paragraph, one, outcome, refused

GUID = "11111111-2222-3333-4444-555555555555"


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
    (one(name="slurm"), "tensoryard:clusters[0].name", ["`compute_target: {slurm: ...}`"]),
    (one(name="default"), "tensoryard:clusters[0].name", ["every partition's defaults"]),
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
    (one(osImage="ubuntu-hpc-2204"), "tensoryard:clusters[0].osImage", ["`ubuntu-hpc-2404`"]),
    (one(osImage="ubuntu-2404-gen1"), "tensoryard:clusters[0].trustedLaunch", ["image of generation 2"]),
    (
        one(osImage="ubuntu-2404-gen1", vmSize="NC24ads_A100_v4", trustedLaunch=False),
        "tensoryard:clusters[0].osImage",
        ["generation 2 only"],
    ),
    (
        one(vmSize="NC6") | {"allowRetiredSizes": True},
        "tensoryard:clusters[0].trustedLaunch",
        ["Standard_NC6 is of generation 1 only"],
    ),
    (
        one(vmSize="NC6", osImage="ubuntu-hpc-2404", trustedLaunch=False) | {"allowRetiredSizes": True},
        "tensoryard:clusters[0].osImage",
        ["`ubuntu-2404-gen1`"],
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
    ({"share": "/export/runs"}, "tensoryard:share", ["a colon"]),
    ({"share": "10.50.0.4:/my runs"}, "tensoryard:share", ["`10.50.0.4:/my runs`"]),
    ({"tags": {"share": "mine"}}, "tensoryard:tags", ["`share` itself"]),
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
    ({"tags": {"Data": "protected"}}, "tensoryard:tags", ["`data`"]),
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


def test_private_key_is_never_shown() -> None:
    secret = "b3BlbnNzaC1rZXktdjEAAAAA"

    error = refused({"sshPublicKey": f"-----BEGIN OPENSSH PRIVATE KEY----- {secret}"})

    assert "a private key" in str(error)
    assert secret not in str(error)
