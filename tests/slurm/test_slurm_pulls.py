"""Nodes of a real Slurm pull images, each onto its own disk, from a registry that they reach by HTTPS."""

import fcntl
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from launching import Yard, wait_until
from services.certificates import certificate_files
from services.images import OneImage
from services.oci_registry import OciRegistry
from services.slurm import SlurmCluster
from tensoryard.environment import Environment
from tensoryard.environment.image_noted import NotedImages
from tensoryard.registry.oci_client import Client
from tensoryard.registry.oci_manifest import Place
from tensoryard.run import RunRecord
from tensoryard.slurm_target import SlurmOptions, SlurmTarget

pytestmark = pytest.mark.parametrize("yard", ["folder"], indirect=True)

IN_IMAGE: dict[str, Any] = {"compute_target": SlurmTarget(SlurmOptions()), "runtime": "image"}
SAYS = """
import os, sys, six
print(sys.prefix, open("/etc/this-is").read().strip(), flush=True)
"""


@pytest.fixture
def registry(slurm: SlurmCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[OciRegistry]:
    """A registry on the nodes' network, with a certificate that they are told to trust."""
    address = str(slurm.network.network_address + 1)
    tls = certificate_files(tmp_path, address)
    monkeypatch.setenv("SSL_CERT_FILE", str(tls[0]))
    registry = OciRegistry(tmp_path, address=address, tls=tls)
    yield registry
    registry.close()


@pytest.fixture
def noted(registry: OciRegistry, six_image: Environment, tmp_path: Path) -> Environment:
    """An image of that registry, of which nothing but its name is on the disk that nodes share."""
    name, _, digest = six_image.image.partition("@")
    host, _, repository = name.partition("/")
    source, target = Client(Place(host, repository, digest)), Client(Place(registry.host, repository, "six"))
    manifest = source.manifest(digest)
    described = json.loads(manifest)
    for part in (described["config"], *described["layers"]):
        with source.open_blob(part["digest"]) as blob:
            target.end_upload(target.start_upload(), part["digest"], blob.read())
    target.put_manifest(manifest)
    images = NotedImages(tmp_path / "noted", lambda flock: tmp_path / "flocks" / flock)
    images.folder.mkdir()
    folder = images.unpack(Client(Place(registry.host, repository, digest)), digest, print)
    return msgspec.structs.replace(six_image, image=f"{registry.host}/{repository}@{digest}", unpacked=str(folder))


@pytest.fixture
def images_of_nodes(slurm: SlurmCluster) -> str:
    """A folder that each node has a disk of its own at, empty."""
    images = str(slurm.folder / "tmp" / "images")
    for node in slurm.up.values():
        shutil.rmtree(f"/proc/{node.pid}/root{images}", ignore_errors=True)
    return images


@pytest.fixture(autouse=True)
def pulling_yard(
    slurm: SlurmCluster, yard: Yard, noted: Environment, images_of_nodes: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"image_registry": noted.image.partition("/")[0], "node_images": images_of_nodes}
    yard.workspace.root.mkdir(exist_ok=True)
    (yard.workspace.root / "workspace.json").write_text(json.dumps(settings))
    plain = yard.controller
    monkeypatch.setattr(yard, "controller", lambda **how: plain(**{"builder": OneImage(noted), **how}))


def reasons(run: RunRecord) -> list[str]:
    """Why the run waited, in order, until it was Running."""
    found = []
    for event in run.events()[0]:
        if event.stage == "Running":
            return found
        found.append(event.reason or "")
    raise AssertionError("it never was Running")


def test_every_node_pulls_an_image_once_and_both_ways_of_starting_find_it(
    slurm: SlurmCluster, yard: Yard, noted: Environment
) -> None:
    run = yard.run(SAYS, distributed_training="mpi", node_count=2, **IN_IMAGE)
    assert (run.state().stage, run.state().reason) == ("Completed", None)
    assert {yard.log(run, f"rank-{number}").strip() for number in range(2)} == {"/opt/environment the base"}
    pulls = re.findall(r"(node-\d): unpacking \d of \d layers", yard.log(run, "launch"))
    assert sorted(pulls) == ["node-1", "node-2"]
    # Of the image nothing is on the disk that all share.
    assert not any(Path(noted.unpacked, "layers").iterdir())
    # While they pull, nothing trains: that is Scaling.
    assert any(re.match(r"image: (node-\d [\d.]+ \w?B of|nodes begin)", reason) for reason in reasons(run))

    again = yard.run(SAYS, **IN_IMAGE)
    assert again.state().stage == "Completed"
    assert "unpacking" not in yard.log(again, "launch")


def test_an_image_that_a_node_cannot_pull_fails_the_run_with_the_node_and_the_registry(
    slurm: SlurmCluster, yard: Yard, noted: Environment, registry: OciRegistry
) -> None:
    path = Path(noted.unpacked, "pull.json")
    pull = json.loads(path.read_text())
    path.write_text(json.dumps(pull | {"repository": "gone", "digest": "sha256:" + "0" * 64}))
    run = yard.run(SAYS, node_count=2, distributed_training="multi_worker_mirrored", **IN_IMAGE)
    state = run.state()
    assert state.stage == "Failed"
    assert state.reason is not None
    assert re.search(rf"node-\d: its image cannot be pulled: registry `{registry.host}`: answered 404", state.reason)


def test_a_cancel_ends_a_pull_that_waits_for_another(
    slurm: SlurmCluster, yard: Yard, noted: Environment, images_of_nodes: str
) -> None:
    digest = noted.image.rpartition(":")[2]
    images = Path(f"/proc/{slurm.up['node-1'].pid}/root{images_of_nodes}")
    lock = images / ".flocks" / digest
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        run = yard.submit(SAYS, **IN_IMAGE)
        yard.start_controller()
        yard.wait_for_file(run, "logs/launch.log")
        wait_until(lambda: "waiting for image" in yard.log(run, "launch"), "the node waits for who holds the lock")
        run.request_cancel()
        yard.wait_for_stage(run, "Canceled")
    wait_until(lambda: not slurm.jobs(), "its job is gone")
    wait_until(lambda: not yard.processes(run), "no process of the run is left")


def test_a_nodes_disk_that_is_full_is_named(slurm: SlurmCluster, yard: Yard, noted: Environment) -> None:
    settings = yard.workspace.root / "workspace.json"
    known = json.loads(settings.read_text())
    settings.write_text(json.dumps(known | {"node_images": str(slurm.small / "images")}))
    run = yard.run(SAYS, **IN_IMAGE)
    assert run.state().stage == "Failed"
    assert re.match(
        rf"node-1: its image cannot be pulled: image \w+: the disk of {slurm.small}/images is full",
        run.state().reason or "",
    )
    shutil.rmtree(slurm.small / "images")
