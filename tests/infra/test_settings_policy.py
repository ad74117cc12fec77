"""
Whatever settings are accepted, the program declares with them and passes its own policy; the others get one readable
error. The values are drawn so that most are plausible, in any combination.
"""

import base64
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, event, example, given, target
from hypothesis import settings as tries
from hypothesis import strategies as st

from infra.policy import check
from infra.review.declare import Declaration, declaration
from infra.sizes import GPU_SIZES, HEAD_SIZES

ROOT = Path(__file__).parents[2]

KEY = "ssh-ed25519 " + base64.b64encode(b"\0\0\0\x0bssh-ed25519\0\0\0\x20" + bytes(range(32))).decode() + " someone"
PUBLIC_SOURCES = ("81.2.69.0/24", "8.8.8.8/32", "20.33.0.0/16", "81.2.70.128/31")

names = st.from_regex(r"[a-z][a-z0-9]{2,11}", fullmatch=True)
clusters = st.lists(
    st.fixed_dictionaries(
        {"name": names, "vmSize": st.sampled_from(sorted(GPU_SIZES))},
        optional={
            "maxNodes": st.integers(1, 60),
            "spot": st.booleans(),
            "evictionPolicy": st.sampled_from(["Delete", "Delete", "Deallocate"]),
            "ephemeralOsDisk": st.booleans(),
            "trustedLaunch": st.booleans(),
            "osImage": st.sampled_from(["ubuntu-hpc-2404", "ubuntu-2404-gen1"]),
        },
    ),
    max_size=3,
    unique_by=lambda cluster: cluster["name"],
)
reach = st.one_of(
    st.just({}),
    st.fixed_dictionaries({"clientSources": st.lists(st.sampled_from(PUBLIC_SOURCES), min_size=1, unique=True)}),
    st.just({"privateEndpoints": True, "registrySku": "Premium"}),
)
login = st.one_of(
    st.just({}),
    st.just({"sshPublicKey": KEY}),
    st.just({"sshPublicKey": KEY, "sshSources": ["81.2.69.0/24"]}),
    st.just({"sshPublicKey": KEY, "sshSources": ["10.0.0.0/8", "20.33.0.0/16"]}),
)
others = st.fixed_dictionaries(
    {},
    optional={
        "workspaceName": names,
        "azure-native:location": st.sampled_from(["westeurope", "eastus", "swedencentral", "westus", "japaneast"]),
        "storageRedundancy": st.sampled_from(["LRS", "ZRS", "GRS", "GZRS"]),
        "registrySku": st.sampled_from(["Basic", "Standard", "Premium"]),
        "protectData": st.booleans(),
        "modelsImmutableDays": st.integers(0, 400),
        "softDeleteDays": st.integers(7, 365),
        "blobVersioning": st.booleans(),
        "zones": st.lists(st.sampled_from(["1", "2", "3"]), unique=True),
        "addressSpace": st.sampled_from(["10.40.0.0/16", "192.168.0.0/22", "172.16.0.0/12"]),
        "headSize": st.sampled_from(sorted(HEAD_SIZES)),
        "clusters": clusters,
        "allowRetiredSizes": st.booleans(),
        "encryptionAtHost": st.booleans(),
        "logRetentionDays": st.integers(30, 730),
        "users": st.lists(
            st.fixed_dictionaries(
                {"objectId": st.uuids(version=4).map(str)},
                optional={
                    "kind": st.sampled_from(["User", "Group", "ServicePrincipal"]),
                    "name": st.text(max_size=9),
                },
            ),
            max_size=3,
        ),
        "tags": st.dictionaries(
            st.sampled_from(["team", "data", "workspace", "Stack", "managed-by", "cost centre"]),
            st.sampled_from(["vision", "protected", "42", ""]),
        ),
    },
)


def of(values: dict[str, Any]) -> Declaration:
    return declaration(ROOT, None, {"azure-native:location": "westeurope", **values})


@given(others, reach, login)
@example({"tags": {"data": "protected"}}, {}, {})
@example({"tags": {"Workspace": "mine"}}, {}, {})
@example(
    {"allowRetiredSizes": True, "clusters": [{"name": "old", "vmSize": "Standard_NC6", "trustedLaunch": False}]},
    {},
    {},
)
@example({"clusters": []}, {}, {})
@tries(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_accepted_settings_pass_the_policy_and_others_get_one_readable_error(
    other: dict[str, Any], reached: dict[str, Any], logged_in: dict[str, Any]
) -> None:
    told = of({**other, **reached, **logged_in})

    assert told.broken is None
    target(float(len(told.resources)))
    if told.refused is None:
        event("accepted")
        assert [finding for finding in check(told.resources) if finding.excepted_because is None] == []
    else:
        event("refused")
        assert told.refused.key.startswith(("tensoryard:", "azure-native:location"))
        assert told.refused.key in told.refused.text
        assert "\n" not in told.refused.text
        assert told.refused.how.strip()
        assert told.resources == ()


@given(others)
@tries(max_examples=5, deadline=None)
def test_the_same_settings_declare_the_same(other: dict[str, Any]) -> None:
    first, second = of(other), of(other)

    assert (first.resources, first.refused) == (second.resources, second.refused)
