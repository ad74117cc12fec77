"""Images built on a node of a real Slurm, by a job of its own, and pushed from here."""

import multiprocessing
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from launching import all_processes, wait_until
from services.images import SIX
from services.slurm import SlurmCluster
from tensoryard.environment import Environment, ImageSpec, interruption
from tensoryard.environment.buildah import runroot
from tensoryard.environment.image_builder_job import JobImageBuilder
from tensoryard.environment.image_environment import REPOSITORY
from tensoryard.environment.image_folders import files_of
from tensoryard.environment.venv import VenvBuilder
from tensoryard.errors import EnvironmentBuildError
from tensoryard.registry.oci_client import Client
from tensoryard.registry.oci_manifest import Place
from tensoryard.store.file import FileStore


def asked(folder: Path, dockerfile: str) -> ImageSpec:
    folder.mkdir(exist_ok=True)
    (folder / "Dockerfile").write_text(dockerfile)
    (folder / "greeting").write_text("hello")
    return ImageSpec(dockerfile="Dockerfile", context=re.sub(r"\W", "", dockerfile), folder=str(folder))


class CanceledError(Exception):
    pass


@pytest.fixture
def node_tmp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where nodes build."""
    (tmp_path / "node").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "node"))
    return tmp_path / "node"


@pytest.fixture
def builder(slurm: SlurmCluster, image_registry: str, node_tmp: Path, tmp_path: Path) -> JobImageBuilder:
    cache = VenvBuilder(tmp_path / "cache")
    return JobImageBuilder(cache, image_registry, FileStore(tmp_path / "store"), False, "main")


def left_behind(builder: JobImageBuilder) -> list[str]:
    return [path.name for path in (builder.cache / "images").glob(".*")]


def left_on_nodes(slurm: SlurmCluster, node_tmp: Path) -> list[str]:
    """Secrets, containers, mounts and processes of builds."""
    found = [path.name for path in node_tmp.rglob("secrets-*")]
    (storage,) = node_tmp.glob("tensoryard-builds-*/buildah")
    places = ["--root", str(storage / "storage"), "--runroot", str(runroot(storage))]
    argv = ["buildah", *places, "containers", "--quiet"]
    found += subprocess.run(argv, capture_output=True, text=True, check=True).stdout.split()
    for node in slurm.up.values():
        found += [line for line in Path(f"/proc/{node.pid}/mounts").read_text().splitlines() if str(node_tmp) in line]
    return found + [command for _, command, _ in all_processes() if str(node_tmp) in command]


def waiting(folder: Path) -> ImageSpec:
    """An image whose build waits for ever, with a shell of this machine's."""
    image = asked(folder, 'FROM scratch\nCOPY root /\nRUN ["/bin/sh", "-c", "echo it waits; exec /bin/sleep 600"]\n')
    for program in ("/bin/sh", "/bin/sleep"):
        said = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
        for path in (program, *re.findall(r"(/\S+) \(0x", said)):
            copy = folder / "root" / path.lstrip("/")
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, copy)
    return image


def test_a_node_builds_what_the_head_pushes(
    slurm: SlurmCluster, builder: JobImageBuilder, image_registry: str, tmp_path: Path
) -> None:
    said: list[str] = []
    image = asked(tmp_path / "context", "FROM scratch\nCOPY greeting /srv/\n")
    made: Environment = builder.ensure_recipe(SIX, image, said.append)

    found = files_of(Path(made.unpacked)).find("/srv/greeting")
    assert found is not None
    assert Path(found).read_text() == "hello"
    assert (
        made.image == f"{image_registry}/{REPOSITORY}@{Client(Place(image_registry, REPOSITORY, made.hash)).tagged()}"
    )
    # As it is built, in the order in which it happened.
    steps = [line for line in said if line.startswith(("building image", "STEP", "pushing"))]
    assert re.fullmatch(rf"building image {made.hash} from Dockerfile", steps[0])
    assert re.fullmatch(rf"building image {made.hash} as Slurm's job \d+", steps[1])
    assert steps[2:] == [
        "STEP 1/2: FROM scratch",
        "STEP 2/2: COPY greeting /srv/",
        f"pushing image {made.hash} to {image_registry}/{REPOSITORY}:{made.hash}",
    ]
    assert slurm.jobs() == []
    assert left_behind(builder) == []


def test_a_build_that_fails_there_is_told_here(slurm: SlurmCluster, builder: JobImageBuilder, tmp_path: Path) -> None:
    image = asked(tmp_path / "context", "FROM scratch\nCOPY nothing /srv/\n")
    with pytest.raises(EnvironmentBuildError, match=r"Slurm's job \d+ could not build it; it says:") as caught:
        builder.ensure_recipe(SIX, image, print)
    assert "nothing" in caught.value.message
    assert left_behind(builder) == []


def test_a_build_that_waits_says_so_and_goes_when_it_is_canceled(
    slurm: SlurmCluster, builder: JobImageBuilder, tmp_path: Path
) -> None:
    slurm.run("sbatch", "--nodes=3", "--exclusive", "--wrap=sleep 600", f"--output={tmp_path}/out")
    wait_until(lambda: "RUNNING" in slurm.jobs()[0], "all nodes are taken")
    said: list[str] = []

    def look() -> None:
        if any("waits: " in line for line in said):
            raise CanceledError

    image = asked(tmp_path / "context", "FROM scratch\nCOPY greeting /never/\n")
    with interruption.checked_by(look), pytest.raises(CanceledError):
        builder.ensure_recipe(SIX, image, said.append)
    wait_until(lambda: len(slurm.jobs()) == 1, "the job of the build is gone")
    assert left_behind(builder) == []


def test_a_build_that_is_canceled_midway_leaves_nothing_on_its_node(
    slurm: SlurmCluster, builder: JobImageBuilder, node_tmp: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UV_INDEX_URL", "http://user:secret@127.0.0.1:9/simple")
    said: list[str] = []

    def look() -> None:
        if "it waits" in said:
            raise CanceledError

    with interruption.checked_by(look), pytest.raises(CanceledError):
        builder.ensure_recipe(SIX, waiting(tmp_path / "context"), said.append)
    wait_until(lambda: slurm.jobs() == [], "the job of the build is gone")
    assert left_on_nodes(slurm, node_tmp) == []
    assert left_behind(builder) == []


def test_what_a_killed_build_left_on_its_node_the_next_one_takes_down(
    slurm: SlurmCluster, builder: JobImageBuilder, node_tmp: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ASK_SECONDS", "GONE_SECONDS"):
        monkeypatch.setattr(f"tensoryard.environment.image_builder_job.{name}", 0.2)
    monkeypatch.setenv("UV_INDEX_URL", "http://user:secret@127.0.0.1:9/simple")
    left: list[str] = []

    def kill(line: str) -> None:
        if line == "it waits":
            left.extend(left_on_nodes(slurm, node_tmp))
            slurm.run("scancel", "--signal=KILL", "--full", slurm.jobs()[0].split()[0])

    with pytest.raises(EnvironmentBuildError, match=r"Slurm's job \d+"):
        builder.ensure_recipe(SIX, waiting(tmp_path / "context"), kill)
    assert [line for line in left if line.startswith("secrets-")]
    assert [line for line in left if "/merged" in line]
    builder.ensure_recipe(SIX, asked(tmp_path / "other", "FROM scratch\nCOPY greeting /srv/\n"), print)
    assert left_on_nodes(slurm, node_tmp) == []


def test_a_build_whose_node_is_taken_is_begun_anew(
    slurm: SlurmCluster, builder: JobImageBuilder, node_tmp: Path, tmp_path: Path
) -> None:
    """As the watcher of a Spot machine does; the build gets a TERM, and has failed by that."""
    said: list[str] = []

    def log(line: str) -> None:
        said.append(line)
        if line == "it waits":
            (context,) = builder.cache.glob("images/.building-*/context")
            (context / "Dockerfile").write_text("FROM scratch\nCOPY greeting /srv/\n")
            slurm.run("scontrol", "requeue", slurm.jobs()[0].split()[0])

    made = builder.ensure_recipe(SIX, waiting(tmp_path / "context"), log)
    assert files_of(Path(made.unpacked)).find("/srv/greeting")
    assert said.count("it waits") == 1
    assert left_on_nodes(slurm, node_tmp) == []
    assert left_behind(builder) == []


@pytest.mark.parametrize("meanwhile", ["waits", "ends"])
def test_a_job_whose_controller_was_killed_is_gone_on_with(
    slurm: SlurmCluster, builder: JobImageBuilder, tmp_path: Path, meanwhile: str
) -> None:
    image = asked(tmp_path / "context", f"FROM scratch\nCOPY greeting /{meanwhile}/\n")
    taken = slurm.run(
        "sbatch", "--parsable", "--nodes=3", "--exclusive", "--wrap=sleep 600", "--output=/dev/null"
    ).strip()
    wait_until(lambda: "RUNNING" in slurm.jobs()[0], "all nodes are taken")

    def build() -> None:
        builder.ensure_recipe(SIX, image, lambda line: os._exit(9) if "waits: " in line else None)

    child = multiprocessing.get_context("fork").Process(target=build)
    child.start()
    child.join()
    assert child.exitcode == 9
    (first,) = (job for job in slurm.jobs() if taken not in job)
    said: list[str] = []
    if meanwhile == "ends":
        slurm.run("scancel", taken)
        wait_until(lambda: [*builder.cache.glob("images/.building-*/ended")] != [], "it has built")

    def log(line: str) -> None:
        said.append(line)
        if line.startswith("going on") and meanwhile == "waits":
            slurm.run("scancel", taken)

    made = builder.ensure_recipe(SIX, image, log)
    assert files_of(Path(made.unpacked)).find(f"/{meanwhile}/greeting")
    named = f", Slurm's job {first.split()[0]}" if meanwhile == "waits" else ""
    assert f"going on with the build of image {made.hash}{named}" in said
    assert not any(line.startswith("building image") for line in said)
    assert left_behind(builder) == []
