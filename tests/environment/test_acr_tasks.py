"""Builds in Azure's registry, by answers as its documents have them: it was never seen itself."""

import multiprocessing
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from services.acr_tasks import DIGEST, Tasks
from services.base_image import push_image
from services.images import SIX, variant
from tensoryard.environment import ImageSpec, Log, interruption
from tensoryard.environment.acr_tasks import AcrTasks, TasksRegistry
from tensoryard.environment.buildah import Buildah
from tensoryard.environment.image_builder_azure import AzureImageBuilder, tasks_of
from tensoryard.environment.image_environment import REPOSITORY
from tensoryard.environment.image_folders import files_of
from tensoryard.environment.venv import VenvBuilder
from tensoryard.errors import EnvironmentBuildError, UsageError
from tensoryard.registry.oci_manifest import Place
from tensoryard.settings import Settings
from tensoryard.store.file import FileStore

pytestmark = pytest.mark.xdist_group("images")  # which shares their base
KEY = "0123456789abcdef"


@pytest.fixture
def azure() -> Tasks:
    return Tasks()


@pytest.fixture
def tasks(azure: Tasks) -> AcrTasks:
    registry = TasksRegistry("s", "g", "dev")
    return AcrTasks(registry, "team/environments", azure, azure.transport, wait=lambda seconds: None)


@pytest.fixture
def context(tmp_path: Path) -> Path:
    folder = tmp_path / "context"
    (folder / "wheel").mkdir(parents=True)
    (folder / "Dockerfile").write_text("FROM base\nCOPY a b\n")
    (folder / "wheel" / "a.whl").write_bytes(b"wheel")
    return folder


def test_the_registry_builds_what_it_is_sent_and_says_the_digest(
    azure: Tasks, tasks: AcrTasks, context: Path
) -> None:
    said: list[str] = []
    assert tasks.build(KEY, context, said.append) == DIGEST
    assert azure.files == {"Dockerfile": b"FROM base\nCOPY a b\n", "wheel": b"", "wheel/a.whl": b"wheel"}
    image = f"$Registry/team/environments:{KEY}"
    assert azure.task == {
        "version": "v1.1.0",
        "steps": [
            {"build": f"-t {image} -f Dockerfile .", "env": ["DOCKER_BUILDKIT=1"], "timeout": 7200},
            {"push": [image]},
        ],
    }
    # Each line once, and whole, though they came in pieces.
    assert said[1:] == [
        "building in dev as run ca1",
        "Step 1/2 : FROM base",
        "Step 2/2 : COPY a b",
        "Successfully built",
    ]
    assert not any("sig=" in line for line in said)


def test_a_build_that_fails_says_its_last_lines(azure: Tasks, tasks: AcrTasks, context: Path) -> None:
    azure.statuses[-1] = "Failed"
    azure.log[-1] += b"ERROR: no such package\n"
    with pytest.raises(EnvironmentBuildError) as caught:
        tasks.build(KEY, context, print)
    assert "run ca1 of `dev` is Failed: failed during run, err: exit status 1; it says:" in caught.value.message
    assert caught.value.message.endswith("ERROR: no such package")


def test_a_canceled_build_is_canceled_there(azure: Tasks, tasks: AcrTasks, context: Path) -> None:
    class CanceledError(Exception):
        pass

    def look() -> None:
        if ("GET", "ca1") in azure.asked:
            raise CanceledError

    with interruption.checked_by(look), pytest.raises(CanceledError):
        tasks.build(KEY, context, print)
    assert azure.asked[-1] == ("POST", "cancel")


def test_what_azure_refuses_is_said_with_the_rights_that_it_takes(
    azure: Tasks, tasks: AcrTasks, context: Path
) -> None:
    azure.refuse = (403, "AuthorizationFailed")
    with pytest.raises(EnvironmentBuildError, match=r"refused to build: .*may not do that") as caught:
        tasks.build(KEY, context, print)
    assert caught.value.hint is not None
    assert "scheduleRun/action" in caught.value.hint
    with pytest.raises(EnvironmentBuildError, match="dockerfile: got `a b`"):
        tasks.build(KEY, context, print, "a b")


def test_a_run_that_was_begun_before_is_followed_to_its_end(azure: Tasks, tasks: AcrTasks, context: Path) -> None:
    begun: list[str] = []
    tasks.build(KEY, context, print, begun=begun.append)
    assert begun == ["ca1"]
    said: list[str] = []
    assert tasks.follow(KEY, "ca1", said.append) == DIGEST
    assert said[0] == "going on with run ca1 of dev"
    assert tasks.is_of_use("ca1")
    azure.statuses[-1] = "Failed"
    assert not tasks.is_of_use("ca1")


class ByBuildah:
    """In the place of Azure: what it builds is in the registry too."""

    def __init__(self, storage: Path, registry: str) -> None:
        self.built: list[str] = []
        self._storage, self._registry = storage, registry

    def build(self, key: str, context: Path, log: Log, file: str, begun: Callable[[str], object]) -> str:
        self.built.append(key)
        begun("ca1")
        Buildah(self._storage).build(key, context, log, file)
        return Buildah(self._storage).push(key, Place(self._registry, REPOSITORY, key), log)

    def follow(self, key: str, run: str, log: Log) -> str:
        log(f"followed {run}")
        return push_image(f"{self._registry}/{REPOSITORY}:{key}", variant([], b"built meanwhile\n"))

    def is_of_use(self, run: str) -> bool:
        return run == "ca1"


def test_what_the_registry_built_is_unpacked_and_found_again(
    context: Path, image_registry: str, tmp_path: Path
) -> None:
    (context / "Dockerfile").write_text("FROM scratch\nCOPY wheel/a.whl /srv/\n")
    image = ImageSpec(dockerfile="Dockerfile", context="c" * 64, folder=str(context))
    azures: Any = ByBuildah(tmp_path / "buildah", image_registry)

    def builder(machine: str) -> AzureImageBuilder:
        cache = VenvBuilder(tmp_path / machine)
        return AzureImageBuilder(cache, image_registry, FileStore(tmp_path / "store"), False, azures)

    made = builder("one").ensure_recipe(SIX, image, print)
    found = files_of(Path(made.unpacked)).find("/srv/a.whl")
    assert found is not None
    assert Path(found).read_bytes() == b"wheel"
    assert builder("two").ensure_recipe(SIX, image, print).image == made.image
    assert azures.built == [made.hash]


def test_a_build_whose_controller_was_killed_is_gone_on_with(
    context: Path, image_registry: str, tmp_path: Path
) -> None:
    (context / "Dockerfile").write_text("FROM scratch\nCOPY wheel/a.whl /srv/again\n")
    image = ImageSpec(dockerfile="Dockerfile", context="d" * 64, folder=str(context))
    azures: Any = ByBuildah(tmp_path / "buildah", image_registry)
    builder = AzureImageBuilder(
        VenvBuilder(tmp_path / "head"), image_registry, FileStore(tmp_path / "store"), False, azures
    )
    child = multiprocessing.get_context("fork").Process(
        target=lambda: builder.ensure_recipe(
            SIX, image, lambda line: os._exit(9) if line.startswith("STEP 1") else None
        )
    )
    child.start()
    child.join()
    assert child.exitcode == 9
    Buildah(tmp_path / "buildah").clear()  # Azure's machine is none of the builder's
    said: list[str] = []
    made = builder.ensure_recipe(SIX, image, said.append)
    found = files_of(Path(made.unpacked)).find("/etc/this-is")
    assert Path(found or "").read_text() == "built meanwhile\n"
    assert "followed ca1" in said
    assert azures.built == []  # here; it was the other process that had it built
    assert [*(tmp_path / "head" / "images").glob(".*")] == []


def test_the_setting_is_for_the_registry_of_a_workspace_on_azure() -> None:
    with pytest.raises(UsageError, match=r"image_builder: got `acr-tasks`, but images go to `r\.example\.org`"):
        tasks_of(Settings(image_registry="r.example.org", image_builder="acr-tasks"))
