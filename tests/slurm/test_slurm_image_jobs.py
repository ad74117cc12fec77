"""Images built on a node of a real Slurm, by a job of its own, and pushed from here."""

import re
from pathlib import Path

import pytest

from launching import wait_until
from services.images import SIX
from services.slurm import SlurmCluster
from tensoryard.environment import Environment, ImageSpec, interruption
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


@pytest.fixture
def builder(slurm: SlurmCluster, image_registry: str, tmp_path: Path) -> JobImageBuilder:
    cache = VenvBuilder(tmp_path / "cache")
    return JobImageBuilder(cache, image_registry, FileStore(tmp_path / "store"), False, "main")


def left_behind(builder: JobImageBuilder) -> list[str]:
    return [path.name for path in (builder.cache / "images").glob(".*")]


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
    class CanceledError(Exception):
        pass

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
