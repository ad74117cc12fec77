"""
The program as a whole: what it names, tags and gives out. That it takes whatever its settings accept, and keeps its
own policy with it, is in test_settings_policy.py.
"""

import importlib
import inspect
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from infra.policy import check
from infra.review.changes import differences
from infra.review.create_only import effect_of
from infra.review.declare import Declared, declare
from infra.review.monitor import Recorder

ROOT = Path(__file__).parents[2]
# Azure keeps it as it is where a request leaves it out.
LEFT_OUT = {"properties.enablePurgeProtection"}
Declare = Callable[[str | Mapping[str, Any]], list[Declared]]
PERSON = "11111111-2222-3333-4444-555555555555"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIF2VFpxHJEmaHMHWiaGXh4LkpJgkRXUEjdYQKZPxEiUZ someone@example.org"


@pytest.mark.parametrize("name", ["head", "network", "workspace", "logs", "storage", "nodes"])
def test_a_cluster_may_be_named_like_a_part_of_the_workspace(declared: Declare, name: str) -> None:
    found = declared({"clusters": [{"name": name}, {"name": f"{name}-nodes"}]})

    assert len({each.urn for each in found}) == len(found)
    assert len({each.id for each in found if each.id}) == len([each for each in found if each.id])
    assert [finding for finding in check(found) if finding.excepted_because is None] == []


@pytest.mark.parametrize(
    "change",
    [
        {"zones": ["1"]},
        {"zones": ["1", "2", "3"], "clusters": [{"name": "gpucluster", "spot": True}]},
        {"clusters": [{"name": "gpucluster", "spot": True, "evictionPolicy": "Deallocate"}]},
        {"clusters": [{"name": "gpucluster", "ephemeralOsDisk": True}]},
        {"clusters": [{"name": "gpucluster", "trustedLaunch": False}]},
        {"clusters": [{"name": "gpucluster", "osImage": "ubuntu-2404-gen1", "trustedLaunch": False}]},
        {"clusters": [{"name": "gpucluster", "vmSize": "Standard_NC8as_T4_v3", "maxNodes": 9}]},
        {"sshPublicKey": KEY, "sshSources": ["203.0.113.7/32"]},
        {"workspaceName": "another"},
        {"headSize": "Standard_D4s_v5"},
        {"share": "10.50.0.4:/export/runs"},
        {"users": [{"objectId": PERSON, "kind": "Group"}]},
        {"encryptionAtHost": True, "protectData": True, "softDeleteDays": 30, "blobVersioning": True},
        {"privateEndpoints": True, "registrySku": "Premium"},
        {"modelsImmutableDays": 30, "logRetentionDays": 90, "storageRedundancy": "LRS", "tags": {"team": "vision"}},
    ],
    ids=lambda change: "+".join(change),
)
@pytest.mark.parametrize("backwards", [False, True], ids=["set", "unset"])
def test_no_changed_setting_is_an_update_that_azure_refuses(
    declared: Declare, change: dict[str, Any], backwards: bool
) -> None:
    """What Azure fixes at creation is planned as a replacement: an update would end `pulumi up` in the middle."""
    plain = {"users": [{"objectId": PERSON}], "clusters": [{"name": "gpucluster"}]}
    settings = [plain, {**plain, **change}]
    before, after = (declared(each) for each in (reversed(settings) if backwards else settings))
    changed = {each.urn: each for each in after}

    refused = []
    for old in before:
        new = changed.get(old.urn)
        for path, was, will in differences(old.inputs, new.inputs) if new and old.custom else ():
            effect = effect_of(new.type, path, was, will, new.replace_on_changes)
            if effect and effect[0] == "refused" and path not in LEFT_OUT:
                refused.append((new.name, path))
    # A registry is not emptied for the sake of its zones: whoever means it makes a new one by hand.
    assert [each for each in refused if each != ("registry", "zoneRedundancy")] == []


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


def test_a_stacks_own_tags_stand_beside_the_programs(declared: Declare) -> None:
    group = declared({"tags": {"owner": "ada"}})[0]

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


def test_the_engine_is_told_of_types_that_moved_and_of_no_api_version(monkeypatch: pytest.MonkeyPatch) -> None:
    """The SDK names 60 versions of a type, and to write each as a URN took half of the program's time."""
    told: list[str] = []
    register = Recorder.RegisterResource

    def listen(self: Recorder, request: Any) -> Any:
        told.extend(alias.spec.type for alias in request.aliases)
        return register(self, request)

    monkeypatch.setattr(Recorder, "RegisterResource", listen)
    declare(ROOT, None, {"azure-native:location": "westeurope", "privateEndpoints": True, "registrySku": "Premium"})

    assert "azure-native:network:PrivateZone" in told
    assert [type_ for type_ in told if "/v" in type_] == []


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
