"""The program as a whole: it declares whatever its settings accept, keeps its own policy, and tags what it makes."""

import importlib
import inspect
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from infra.policy import check
from infra.review.declare import Declared, declare
from infra.setting_error import SettingsError
from infra.settings import settings_from

ROOT = Path(__file__).parents[2]
Declare = Callable[[str | Mapping[str, Any]], list[Declared]]

CLUSTERS = st.lists(
    st.fixed_dictionaries(
        {"name": st.sampled_from(["gpucluster", "one", "head", "network", "a-b", "workspace"])},
        optional={
            "vmSize": st.sampled_from(
                ["Standard_NC4as_T4_v3", "standard_nc64as_t4_v3", "Standard_NC6", "Standard_NC24ads_A100_v4"]
            ),
            "maxNodes": st.sampled_from([1, 4, 100, 1000]),
            "spot": st.booleans(),
            "evictionPolicy": st.sampled_from(["Delete", "Deallocate"]),
            "ephemeralOsDisk": st.booleans(),
            "osImage": st.sampled_from(["ubuntu-hpc-2204", "ubuntu-hpc-2404", "ubuntu-2204-gen1"]),
            "trustedLaunch": st.booleans(),
        },
    ),
    min_size=1,
    max_size=3,
)
STACKS = st.fixed_dictionaries(
    {"registrySku": st.sampled_from(["Basic", "Standard", "Premium"])},
    optional={
        "storageRedundancy": st.sampled_from(["LRS", "ZRS", "GRS", "GZRS"]),
        "privateEndpoints": st.booleans(),
        "clientSources": st.sampled_from([[], ["203.0.113.0/24"], ["203.0.113.7/32", "198.51.100.0/31"]]),
        "protectData": st.booleans(),
        "modelsImmutableDays": st.sampled_from([0, 1, 400]),
        "softDeleteDays": st.sampled_from([7, 90, 365]),
        "blobVersioning": st.booleans(),
        "zones": st.sampled_from([[], ["1"], ["1", "2", "3"]]),
        "addressSpace": st.sampled_from(["10.40.0.0/16", "192.168.64.0/20", "172.16.0.0/12"]),
        "headSize": st.sampled_from(["Standard_B2s_v2", "Standard_D4s_v5"]),
        "allowRetiredSizes": st.booleans(),
        "encryptionAtHost": st.booleans(),
        "logRetentionDays": st.sampled_from([30, 730]),
        "users": st.sampled_from([[], [{"objectId": "11111111-2222-3333-4444-555555555555", "kind": "Group"}]]),
        "tags": st.sampled_from([{}, {"stack": "mine", "cost centre": "42"}]),
        "clusters": CLUSTERS,
    },
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
@given(stack=STACKS)
def test_accepted_settings_declare_and_keep_the_policy_and_others_are_refused(stack: dict[str, Any]) -> None:
    try:
        settings_from(stack, "eastus")
    except SettingsError as error:
        refused: str | None = str(error)
    else:
        refused = None

    given = {"azure-native:location": "eastus", **stack}
    if refused is None:
        findings = check(declare(ROOT, None, given))
        assert [finding for finding in findings if finding.excepted_because is None] == []
    else:
        with pytest.raises(SettingsError) as caught:
            declare(ROOT, None, given)
        assert str(caught.value) == refused


def takes_tags(type_: str) -> bool:
    _, module, kind = type_.split(":")
    class_ = getattr(importlib.import_module(f"pulumi_azure_native.{module}"), kind)
    return "tags" in inspect.signature(class_._internal_init).parameters


@pytest.mark.parametrize("stack", ["dev", "prod"])
def test_everything_that_takes_tags_says_what_it_belongs_to(declared: Declare, stack: str) -> None:
    for resource in declared(stack):
        if resource.type.startswith("azure-native:") and takes_tags(resource.type):
            tags = resource.inputs.get("tags", {})
            assert {"workspace": "tensoryard", "stack": stack, "managed-by": "pulumi"}.items() <= tags.items(), (
                resource.urn
            )


def test_a_stacks_own_tags_cannot_replace_the_programs(declared: Declare) -> None:
    group = declared({"tags": {"stack": "mine", "owner": "ada"}})[0]

    assert (group.inputs["tags"]["stack"], group.inputs["tags"]["owner"]) == ("review", "ada")


def test_every_resource_is_in_the_region_of_the_settings(declared: Declare) -> None:
    for resource in declared({"azure-native:location": "eastus"}):
        assert resource.inputs.get("location") in (None, "eastus", "global"), resource.urn


def test_components_own_their_resources(declared: Declare) -> None:
    """A renamed or moved one is a replaced one: the types and names that others rely on."""
    found = declared({})
    parents = {each.urn: (each.type, each.name) for each in found}
    owners = {
        (each.type.partition(":")[2], each.name): parents[each.parent or ""][0].rpartition(":")[2]
        for each in found
        if each.type.startswith("azure-native:") and each.parent
    }

    assert {
        ("resources:ResourceGroup", "workspace"): "Stack",
        ("operationalinsights:Workspace", "logs"): "Logs",
        ("network:VirtualNetwork", "network"): "Network",
        ("network:Subnet", "heads"): "Network",
        ("network:Subnet", "nodes"): "Network",
        ("network:NatGateway", "nat"): "Network",
        ("storage:StorageAccount", "storage"): "Workspace",
        ("storage:BlobContainer", "data"): "Workspace",
        ("storage:BlobContainer", "runs"): "Workspace",
        ("storage:BlobContainer", "models"): "Workspace",
        ("containerregistry:Registry", "registry"): "Workspace",
        ("keyvault:Vault", "vault"): "Workspace",
        ("compute:VirtualMachine", "head"): "Head",
        ("compute:VirtualMachineScaleSet", "gpucluster"): "Cluster",
    }.items() <= owners.items()


def test_the_workspace_output_is_plain_and_complete(declared: Declare) -> None:
    workspace = declared({"sshSources": ["203.0.113.7/32"], "sshPublicKey": KEY})[-1].outputs["workspace"]

    assert workspace["containers"] == {"data": "data", "runs": "runs", "models": "models"}
    assert workspace["head"].keys() == {"name", "privateAddress", "publicAddress"}
    assert workspace["head"]["publicAddress"]
    assert workspace["clusters"]["gpucluster"].items() >= {"maxNodes": 4, "gpuCount": 1, "spot": False}.items()
    assert {
        "name",
        "subscriptionId",
        "tenantId",
        "location",
        "resourceGroup",
        "storageAccount",
        "blobEndpoint",
        "containers",
        "registry",
        "vault",
        "head",
        "clusters",
    } == workspace.keys()
    assert declared({})[-1].outputs["workspace"]["head"].get("publicAddress") is None


KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIF2VFpxHJEmaHMHWiaGXh4LkpJgkRXUEjdYQKZPxEiUZ someone@example.org"


def test_only_the_sdk_modules_that_it_uses_are_loaded() -> None:
    """The SDK has 250 modules, loaded each at its first use, and some take a second."""
    program = """
import sys
from pathlib import Path
from infra.review.declare import declare
declare(Path("."), "prod")
names = [name.split(".") for name in sys.modules if name.startswith("pulumi_azure_native.")]
print(" ".join(sorted({parts[1] for parts in names if len(parts) > 2})))
"""
    said = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)

    assert {
        "authorization",
        "compute",
        "containerregistry",
        "keyvault",
        "managedidentity",
        "monitor",
        "network",
        "operationalinsights",
        "privatedns",
        "resources",
        "storage",
    } == set(said.stdout.split())
