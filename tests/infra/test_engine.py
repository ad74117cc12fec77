"""
The unmodified program under Pulumi's real engine, against the stand-in for Azure (tests/services/README.md).

An operation takes seconds, so stacks are shared: each step of a story is run once, after the steps before it,
whichever test asks first.
"""

import json
import re
from collections.abc import Callable
from functools import cached_property
from typing import Any

import pytest

from services.azure_native.kinds import SUBSCRIPTION, TENANT
from services.engine import Engine, Outcome
from services.engine_fixtures import new_engine, pulumi_cli

__all__ = ["new_engine", "pulumi_cli"]

# The first test of a machine may build the CLI.
pytestmark = pytest.mark.timeout(1800)

SCALE_SET = "compute:VirtualMachineScaleSet gpucluster"
HEAD = "compute:VirtualMachine head"


class Dev:
    """The stack dev from its first preview to its destruction."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.azure = engine.azure

    @cached_property
    def previewed(self) -> Outcome:
        outcome = self.engine.preview("dev")
        self.azure_after_preview = self.ids()
        return outcome

    @cached_property
    def failed(self) -> Outcome:
        assert self.previewed
        self.azure.fail("compute:VirtualMachine")
        return self.engine.up("dev")

    @cached_property
    def made(self) -> Outcome:
        assert self.failed.error
        self.azure_after_failure = self.ids()
        return self.engine.up("dev")

    @cached_property
    def again(self) -> Outcome:
        assert not self.made.error, self.made.error
        self.azure_when_made = self.ids()
        return self.engine.up("dev")

    @cached_property
    def drifted(self) -> Outcome:
        """Slurm has three nodes, and somebody removed a container."""
        assert self.again
        self.set_nodes(3)
        self.azure.delete(self.azure.one("storage:BlobContainer", "runs")["id"])
        return self.engine.refresh("dev")

    @cached_property
    def mended(self) -> Outcome:
        assert self.drifted
        return self.engine.up("dev")

    @cached_property
    def more_nodes(self) -> Outcome:
        """The cluster may have more nodes; meanwhile Slurm has two."""
        assert self.mended
        self.set_nodes(2)
        self.engine.config("dev", "tensoryard:clusters[0].maxNodes", "8", path=True)
        return self.engine.up("dev")

    @cached_property
    def tagged(self) -> Outcome:
        assert not self.more_nodes.error, self.more_nodes.error
        self.set_nodes(1)
        self.engine.config("dev", "tensoryard:tags.team", "vision", path=True)
        return self.engine.up("dev")

    @cached_property
    def half_made(self) -> Outcome:
        """The cluster is to have no Spot nodes any more, and Azure makes the new scale set half."""
        assert not self.tagged.error, self.tagged.error
        self.engine.config("dev", "tensoryard:clusters[0].spot", "false", path=True)
        self.azure.fail("compute:VirtualMachineScaleSet", when="after")
        return self.engine.up("dev")

    @cached_property
    def replaced(self) -> Outcome:
        assert self.half_made.error
        return self.engine.up("dev")

    @cached_property
    def moved(self) -> Outcome:
        assert self.replaced
        self.engine.config("dev", "azure-native:location", "northeurope")
        return self.engine.preview("dev")

    @cached_property
    def destroyed(self) -> Outcome:
        assert self.moved
        return self.engine.destroy("dev")

    def ids(self) -> list[str]:
        return [record["id"] for record in self.azure.all()]

    def nodes(self) -> int:
        return int(self.azure.one("compute:VirtualMachineScaleSet")["properties"]["sku"]["capacity"])

    def set_nodes(self, count: int) -> None:
        """What Slurm does when it grows or shrinks the cluster, behind Pulumi's back."""
        record = self.azure.one("compute:VirtualMachineScaleSet")
        record["properties"]["sku"]["capacity"] = count
        self.azure.put(record)


class Prod:
    """The stack prod: made, its lock lost and put back, kept from its destruction, destroyed when that is meant."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.azure = engine.azure

    @cached_property
    def previewed(self) -> Outcome:
        return self.engine.preview("prod")

    @cached_property
    def made(self) -> Outcome:
        assert not self.previewed.error, self.previewed.error
        return self.engine.up("prod")

    @cached_property
    def unlocked(self) -> Outcome:
        assert not self.made.error, self.made.error
        locks = [lock["id"] for lock in self.azure.all("authorization:ManagementLockByScope")]
        self.azure.delete(next(each for each in locks if "/storageAccounts/" in each))
        return self.engine.refresh("prod")

    @cached_property
    def locked(self) -> Outcome:
        assert self.unlocked
        return self.engine.up("prod")

    @cached_property
    def kept(self) -> Outcome:
        assert not self.locked.error, self.locked.error
        return self.engine.destroy("prod")

    @cached_property
    def destroyed(self) -> Outcome:
        assert self.kept.error
        self.engine.unprotect("prod")
        return self.engine.destroy("prod")


@pytest.fixture(scope="module")
def dev(new_engine: Callable[[], Engine]) -> Dev:
    return Dev(new_engine())


@pytest.fixture(scope="module")
def prod(new_engine: Callable[[], Engine]) -> Prod:
    return Prod(new_engine())


def test_preview_of_dev_creates_everything_and_touches_nothing(dev: Dev) -> None:
    assert dev.previewed.error == ""
    assert set(dev.previewed.summary) == {"create"}
    assert {"storage:StorageAccount storage", SCALE_SET, HEAD} <= set(dev.previewed.did("create"))
    assert dev.azure_after_preview == []


def test_failed_create_says_what_azure_said_and_keeps_what_was_made(dev: Dev) -> None:
    assert "SkuNotAvailable" in dev.failed.error
    assert "Traceback" not in dev.failed.error
    assert HEAD in dev.failed.did("create")
    assert len(dev.ids()) > 20


def test_up_after_a_failed_one_makes_the_rest_and_nothing_twice(dev: Dev) -> None:
    assert dev.made.error == ""
    assert set(dev.made.summary) == {"create"}
    assert dev.made.did("create")[0] == HEAD
    before, after = dev.azure_after_failure, dev.ids()
    assert set(before) < set(after)
    made = [resource for resource, _ in dev.made.steps]
    assert made == [resource for resource in made if resource not in _in_azure(dev, before)]
    assert len(made) + dev.made.same == len(dev.previewed.steps)


def test_second_up_changes_nothing(dev: Dev) -> None:
    assert (dev.again.error, dev.again.steps) == ("", [])
    assert dev.again.same == len(dev.previewed.steps)


def test_refresh_sees_what_is_gone_and_takes_the_nodes_of_slurm_as_they_are(dev: Dev) -> None:
    assert dev.drifted.error == ""
    gone = dev.drifted.did("delete")
    assert "storage:BlobContainer runs" in gone
    assert {resource.split()[0] for resource in gone} == {"storage:BlobContainer", "authorization:RoleAssignment"}


def test_up_after_drift_makes_only_what_is_gone(dev: Dev) -> None:
    assert dev.mended.error == ""
    assert dev.mended.did("create") == dev.drifted.did("delete")
    assert set(dev.mended.summary) == {"create"}


def test_more_nodes_are_told_to_the_head_and_change_nothing_else(dev: Dev) -> None:
    assert dev.more_nodes.error == ""
    assert dev.more_nodes.steps == [(HEAD, "update")]
    assert dev.more_nodes.changed == {HEAD: ["userData"]}
    assert dev.more_nodes.outputs["workspace"]["clusters"]["gpucluster"]["maxNodes"] == 8


def test_tag_is_written_on_everything_that_has_tags_and_replaces_nothing(dev: Dev) -> None:
    assert dev.tagged.error == ""
    assert set(dev.tagged.summary) == {"update"}
    assert {SCALE_SET, HEAD, "storage:StorageAccount storage"} <= set(dev.tagged.did("update"))
    assert {tuple(paths) for paths in dev.tagged.changed.values()} == {("tags.team",)}


def test_update_of_the_scale_set_leaves_the_nodes_that_slurm_has(dev: Dev) -> None:
    """azure-native puts the whole resource: without a refresh first, nodes that run jobs would be taken away."""
    assert dev.tagged
    assert dev.nodes() == 1


def test_what_azure_fixes_at_creation_is_replaced_new_before_old(dev: Dev) -> None:
    """A node's priority can never change: the scale set is a new one, and the old one goes when that is there."""
    assert "Half made" in dev.half_made.error
    assert dev.half_made.did("create-replacement") == [SCALE_SET]
    assert "delete-replaced" not in dev.half_made.summary

    assert dev.replaced.error == ""
    scale_set = dev.azure.one("compute:VirtualMachineScaleSet")
    assert scale_set["properties"]["virtualMachineProfile"]["priority"] == "Regular"
    assert dev.replaced.outputs["workspace"]["clusters"]["gpucluster"]["scaleSet"] == scale_set["properties"]["name"]


def test_other_region_is_a_new_workspace(dev: Dev) -> None:
    assert dev.moved.error == ""
    assert "storage:StorageAccount storage" in dev.moved.did("replace")
    assert "resources:ResourceGroup workspace" in dev.moved.did("replace")


def test_destroy_of_dev_leaves_nothing(dev: Dev) -> None:
    assert dev.destroyed.error == ""
    assert dev.ids() == []
    assert dev.engine.state("dev").get("resources", []) == []


def test_outputs_are_what_workspace_connect_reads(dev: Dev) -> None:
    workspace = dev.made.outputs["workspace"]
    storage = dev.azure_when_made if dev.again else []
    account = next(each for each in storage if each.endswith(workspace["storageAccount"]))
    assert f"/resourceGroups/{workspace['resourceGroup']}/" in account
    assert (workspace["subscriptionId"], workspace["tenantId"]) == (SUBSCRIPTION, TENANT)
    assert workspace["blobEndpoint"] == f"https://{workspace['storageAccount']}.blob.core.windows.net/"
    assert workspace["containers"] == {"data": "data", "runs": "runs", "models": "models"}
    assert workspace["registry"]["loginServer"] == f"{workspace['registry']['name']}.azurecr.io"
    assert workspace["vault"]["uri"] == f"https://{workspace['vault']['name']}.vault.azure.net/"
    assert set(workspace["head"]) == {"name", "privateAddress", "publicAddress"}
    known = "vmSize maxNodes spot scaleSet gpuCount gpuModel vcpu memoryGib hourlyUsd"
    assert set(workspace["clusters"]["gpucluster"]) == set(known.split())
    assert all({"identity", "role", "scope", "why"} <= set(row) for row in dev.made.outputs["access"])


def test_neither_state_nor_outputs_hold_a_secret(dev: Dev) -> None:
    assert dev.made
    kept = dev.engine.state_file()
    assert "tensoryard" in kept
    assert _secrets(kept) == []
    assert _secrets(json.dumps(dev.made.outputs)) == []


def test_preview_and_up_of_prod(prod: Prod) -> None:
    assert (prod.previewed.error, prod.made.error) == ("", "")
    assert prod.made.did("create") == prod.previewed.did("create")
    assert len(list(prod.azure.all("network:PrivateEndpoint"))) >= 3
    assert len(list(prod.azure.all("authorization:ManagementLockByScope"))) == 3


def test_removed_lock_is_seen_and_put_back(prod: Prod) -> None:
    assert prod.unlocked.did("delete") == ["authorization:ManagementLockByScope storage-lock"]
    assert prod.locked.error == ""
    assert prod.locked.steps == [("authorization:ManagementLockByScope storage-lock", "create")]


def test_destroy_of_prod_is_refused_and_says_how_to_mean_it(prod: Prod) -> None:
    assert "protect" in prod.kept.error
    assert "pulumi state unprotect" in prod.kept.error
    assert prod.azure.one("storage:StorageAccount")


def test_destroy_of_prod_that_is_meant_leaves_nothing(prod: Prod) -> None:
    """Locks go first, or Azure would refuse the deletion of all that is below them."""
    assert prod.destroyed.error == ""
    assert list(prod.azure.all()) == []


def test_retired_size_is_refused_in_words_before_any_resource(dev: Dev) -> None:
    outcome = dev.engine.preview("nc6")
    assert "Standard_NC6" in outcome.error
    assert "Standard_NC4as_T4_v3" in outcome.error
    assert "allowRetiredSizes" in outcome.error
    assert "Traceback" not in outcome.output + outcome.error
    assert [resource for resource, _ in outcome.steps if not resource.startswith("pulumi:pulumi:Stack")] == []


def test_retired_size_that_is_allowed_can_be_previewed(dev: Dev) -> None:
    dev.engine.config("nc6", "tensoryard:allowRetiredSizes", "true")
    outcome = dev.engine.preview("nc6")
    assert outcome.error == ""
    assert SCALE_SET in outcome.did("create")


def _in_azure(dev: Dev, ids: list[str]) -> set[str]:
    """The resources of the stack's state whose ids these are."""
    resources: list[dict[str, Any]] = dev.engine.state("dev")["resources"]
    of = {each.get("id"): each["urn"] for each in resources}
    urns = [of[id_] for id_ in ids if id_ in of]
    return {
        f"{urn.split('::')[2].rpartition('$')[2].removeprefix('azure-native:')} {urn.split('::')[3]}" for urn in urns
    }


def _secrets(text: str) -> list[str]:
    """What looks like a secret: private keys, storage keys, signatures, and what Pulumi itself marks as one."""
    marks = [
        r"BEGIN [A-Z ]*PRIVATE KEY", r"AccountKey=", r"[?&]sig=", r'"ciphertext"', r'"plaintext"', r"adminPassword",
        "1b47061264138c4ac30d75fd1eb44270",
    ]  # fmt: skip
    return [found.group() for mark in marks for found in re.finditer(mark, text)]
