"""What a node does to have the image of a run: pulls it once, tells how far it is, keeps its disk free of others."""

import json
import os
import shutil
import time
from pathlib import Path

import pytest

from services.base_image import push_image
from services.small_images import layer
from tensoryard.end_record import end_path
from tensoryard.environment import Environment, node_pull
from tensoryard.environment.image_noted import NotedImages
from tensoryard.environment.sbom import bill_of_materials
from tensoryard.errors import NotFoundError
from tensoryard.registry.oci_client import Client
from tensoryard.registry.oci_manifest import Place
from tensoryard.scheduler.slurm_pulls import pulling

pytestmark = pytest.mark.xdist_group("images")  # they share a registry
DAY_S = 86400


def a_run(tmp_path: Path, registry: str, name: str, *layers: bytes) -> Path:
    """A run whose image is in the registry, prepared for nodes that keep images in `node`."""
    digest = push_image(f"{registry}/pulls:{name}", list(layers))
    noted = NotedImages(tmp_path / "noted", lambda flock: tmp_path / "flocks" / flock)
    noted.folder.mkdir(exist_ok=True)
    run = tmp_path / "runs" / name
    (run / "launch" / "pulling").mkdir(parents=True)
    (run / "environment").symlink_to(noted.unpack(Client(Place(registry, "pulls", digest)), digest, print))
    layout = {"image": {"mounts": [], "variables": [], "on_node": str(tmp_path / "node")}}
    (run / "launch" / "layout.json").write_text(json.dumps(layout))
    (run / "launch" / "pull_image.py").touch()
    return run


def pull(run: Path, monkeypatch: pytest.MonkeyPatch, node: str = "node-1") -> int:
    monkeypatch.setenv("TYARD_RUN_DIR", str(run))
    monkeypatch.setenv("SLURMD_NODENAME", node)
    return node_pull.main()


def on_node(tmp_path: Path, run: Path) -> Path:
    return tmp_path / "node" / (run / "environment").readlink().name


def test_an_image_is_pulled_once_and_by_layers_that_are_missing(
    tmp_path: Path, image_registry: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    below = layer(("etc/this-is", b"the base"))
    first = a_run(tmp_path, image_registry, "first", below, layer(("one", b"1")))
    second = a_run(tmp_path, image_registry, "second", below, layer(("two", b"2")))
    assert pulling(first) == "image: nodes begin to pull it"
    assert pull(first, monkeypatch) == 0
    assert (on_node(tmp_path, first) / "layers" / "1" / "one").read_bytes() == b"1"
    assert "unpacking 2 of 2 layers" in capsys.readouterr().out
    assert pull(second, monkeypatch) == 0
    assert "unpacking 1 of 2 layers" in capsys.readouterr().out
    assert pull(first, monkeypatch) == 0
    assert "unpacking" not in capsys.readouterr().out
    assert pulling(first).startswith("image: node-1 ")
    (first / "launch" / "pulling" / "done").touch()
    assert pulling(first) == ""


def test_an_image_that_another_run_removes_at_this_moment_is_pulled_again(
    tmp_path: Path, image_registry: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = a_run(tmp_path, image_registry, "removed", layer(("one", b"1")))
    assert pull(run, monkeypatch) == 0
    give, given = node_pull.given, []

    def gives_too_late(image: Path, run_dir: Path) -> None:
        if not given:
            shutil.rmtree(image)
        given.append(image)
        give(image, run_dir)

    monkeypatch.setattr(node_pull, "given", gives_too_late)
    assert pull(run, monkeypatch) == 0
    assert (on_node(tmp_path, run) / "layers" / "0" / "one").read_bytes() == b"1"


def test_who_asks_what_is_inside_is_told_where_it_is(tmp_path: Path, image_registry: str) -> None:
    run = a_run(tmp_path, image_registry, "noted", layer(("noted", b"-")))
    environment = Environment(
        hash="0" * 16,
        name="noted",
        python="python",
        python_version="",
        tensorflow="",
        lock_sha256="",
        image="r/i@sha256:0",
        unpacked=str((run / "environment").readlink()),
    )
    with pytest.raises(NotFoundError, match="its files are on the nodes that run it, not here"):
        bill_of_materials(environment, "", "1")


def test_a_node_says_how_far_the_last_of_them_is(tmp_path: Path) -> None:
    folder = tmp_path / "launch" / "pulling"
    folder.mkdir(parents=True)
    assert pulling(tmp_path) == ""  # a run that pulls nothing
    (tmp_path / "launch" / "pull_image.py").touch()
    for node, done in (("node-1", 514_000_000), ("node-2", 412_000_000), ("node-10", 500_000_000)):
        (folder / f"{node}.json").write_text(json.dumps({"done": done, "total": 514_000_000}))
    assert pulling(tmp_path) == "image: node-2 412.0 MB of 514.0 MB; 1 of 3 nodes have it"


def test_what_nobody_has_used_for_long_goes_when_the_next_image_comes(
    tmp_path: Path, image_registry: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [a_run(tmp_path, image_registry, name, layer((name, b"-"))) for name in ("held", "old", "new", "next")]
    held, old, new, following = runs
    for run in (held, old, new):
        assert pull(run, monkeypatch) == 0
    for run, days in ((held, 90), (old, 31), (new, 29)):
        at = time.time() - days * DAY_S
        os.utime(on_node(tmp_path, run) / "used", (at, at))
    # That run has ended; the other may come back to its image, whenever it was used.
    (old / "environment").rename(old / "was")
    assert pull(following, monkeypatch) == 0
    there = [on_node(tmp_path, run).exists() for run in (held, new, following)]
    assert there == [True, True, True]
    assert not (tmp_path / "node" / (old / "was").readlink().name).exists()
    assert "removed image" in capsys.readouterr().out

    # With too little room even what was used yesterday goes, but never what a run has.
    (new / "environment").rename(new / "was")
    monkeypatch.setattr(node_pull, "UNPACKED", 10**12)
    last = a_run(tmp_path, image_registry, "last", layer(("last", b"-")))
    assert pull(last, monkeypatch) == 0
    assert on_node(tmp_path, held).exists()
    assert on_node(tmp_path, last).exists()
    assert not (tmp_path / "node" / (new / "was").readlink().name).exists()


def test_what_cannot_be_pulled_ends_the_run_with_its_node(
    tmp_path: Path, image_registry: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = a_run(tmp_path, image_registry, "gone", layer(("gone", b"-")))
    told = (run / "environment").readlink() / "pull.json"
    told.write_text(json.dumps(json.loads(told.read_text()) | {"repository": "elsewhere"}))
    assert pull(run, monkeypatch, "node-7") == 1
    end = json.loads(Path(end_path(str(run))).read_text())
    assert end["outcome"] == "failed"
    assert end["reason"].startswith(f"node-7: its image cannot be pulled: registry `{image_registry}`: ")


def test_a_run_that_was_ended_pulls_no_further(
    tmp_path: Path, image_registry: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = a_run(tmp_path, image_registry, "ended", layer(("ended", b"-")))
    Path(end_path(str(run))).write_text('{"outcome": "canceled"}')
    assert pull(run, monkeypatch) == 1
    assert not on_node(tmp_path, run).exists()
    assert not list((tmp_path / "node").rglob(".unpacking-*"))
