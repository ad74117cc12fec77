"""Images that are built anew though they are there, and those of a job's own Dockerfile by the commands of `env`."""

import json
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from cli_runner import Tyard
from launching import Yard, in_a_folder
from tensoryard.cli.env import env
from tensoryard.environment import Environment, ImageSpec
from tensoryard.environment.image_builder import ImageBuilder
from tensoryard.environment.spec import Recipe
from tensoryard.environment.venv import VenvBuilder
from tensoryard.store.file import FileStore
from tensoryard.submit import submit

pytestmark = pytest.mark.xdist_group("images")  # one worker makes what they share
OWN = "FROM scratch\nCOPY Dockerfile /srv/\nLABEL of=rebuild\n"


@pytest.fixture
def builder(images: ImageBuilder, image_registry: str, tmp_path: Path) -> ImageBuilder:
    return ImageBuilder(VenvBuilder(images.cache), f"{image_registry}/rebuild", FileStore(tmp_path / "store"))


@pytest.mark.parametrize("whose", ["ours", "the job's own"])
def test_an_image_is_built_anew_without_the_layers_of_the_first_time(
    builder: ImageBuilder, base_image: str, tmp_path: Path, whose: str
) -> None:
    (tmp_path / "Dockerfile").write_text(OWN)
    own = ImageSpec(dockerfile="Dockerfile", context="rebuilt", folder=str(tmp_path))
    wanted = ImageSpec(base=base_image) if whose == "ours" else own

    def made(said: list[str], rebuild: bool) -> Environment:
        return builder.ensure_recipe(Recipe(name="bare", python="3.11"), wanted, said.append, rebuild)

    first = made([], False)
    said: list[str] = []
    again = made(said, True)
    assert again.image != first.image
    assert any(line.startswith("STEP 2") for line in said)
    assert not any("Using cache" in line for line in said)
    assert made([], False) == again


@in_a_folder
def test_a_run_that_is_to_have_its_image_anew_has_it_once(yard: Yard, builder: ImageBuilder) -> None:
    source = yard.source("")
    (source / "Dockerfile").write_text(OWN)
    first = yard.submit("", dockerfile="Dockerfile")
    again = submit(yard.workspace, first.job, print, rebuild=True)
    yard.controller(builder=builder).serve()
    pins = [run.image() for run in (first, again)]
    assert pins[0]
    assert pins[1]
    assert pins[0].image != pins[1].image
    assert not again.state().facts["environment"]["cached"]


def test_a_rebuild_is_asked_for_by_run_and_by_resubmit(cli: Tyard) -> None:
    (cli.folder / "Dockerfile").write_text(OWN)
    cli.run("", code=3, dockerfile="Dockerfile")
    cli("runs", "resubmit", "1", code=3)
    cli("runs", "resubmit", "1", "--rebuild", code=3)
    cli("run", "job.yaml", "--rebuild", code=3)
    images = [json.loads(cli("runs", "show", str(run), "--json"))["environment"]["image"] for run in (1, 2, 3, 4)]
    assert images[0] == images[1]
    assert len({*images[1:]}) == 3


@in_a_folder
def test_what_env_builds_of_a_job_with_a_dockerfile_is_what_its_run_has(
    yard: Yard, images: ImageBuilder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TYARD_CACHE", str(images.cache))
    monkeypatch.setenv("TYARD_WORKSPACE", str(yard.workspace.root))
    source = yard.source("")
    (source / "Dockerfile").write_text(f"{OWN}COPY data /srv/\n")
    (source / "data").write_text("mine\n")
    (source / ".tyardignore").write_text("*.tmp\n")
    job = {"experiment": "test", "entry_script": "train.py", "dockerfile": "Dockerfile"}
    (source / "job.yaml").write_bytes(msgspec.json.encode(job))

    def tyard_env(*arguments: str) -> str:
        return CliRunner().invoke(env, arguments, catch_exceptions=False, standalone_mode=False).stdout.strip()

    built = tyard_env("build", str(source / "job.yaml"))
    (source / "left.tmp").touch()  # no part of a run's source
    assert tyard_env("build", str(source / "job.yaml")) == built
    assert json.loads(tyard_env("show", str(source / "job.yaml"), "--json"))["image"] == built
    run = yard.submit("", dockerfile="Dockerfile")
    yard.controller(builder=ImageBuilder(VenvBuilder(images.cache), "", yard.workspace.store)).serve()
    environment = run.state().facts["environment"]
    assert (environment["image"], environment["cached"]) == (built, True)
