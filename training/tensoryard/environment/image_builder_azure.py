"""
Images that Azure's registry builds itself; all else is as `ImageBuilder` does it.

A build goes on there when whoever asked for it is killed, and is then found by the next one that wants the image.
"""

import shutil
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from tensoryard.environment import Log
from tensoryard.environment.image_builder import LEFT_SECONDS, ImageBuilder
from tensoryard.environment.image_builds import Build
from tensoryard.environment.image_environment import REPOSITORY
from tensoryard.environment.venv import VenvBuilder
from tensoryard.errors import EnvironmentBuildError, UsageError
from tensoryard.store import Store

if TYPE_CHECKING:
    from tensoryard.environment.acr_tasks import AcrTasks
    from tensoryard.settings import Settings


class AzureImageBuilder(ImageBuilder):
    """tasks: builds images into the registry."""

    def __init__(self, venvs: VenvBuilder, registry: str, store: Store, on_nodes: bool, tasks: "AcrTasks") -> None:
        super().__init__(venvs, registry, store, on_nodes)
        self._tasks = tasks

    def _built(self, key: str, build: Build, log: Log, anew: bool) -> tuple[str, Path]:
        self._sweep()
        begun = self._begun(key, anew)
        at = begun or Path(tempfile.mkdtemp(prefix=f".building-{key}-", dir=self._images))
        built = _Built(self._tasks, at)
        try:
            if begun:
                return self._tasks.follow(key, _run_in(begun), log), Path()
            build(built, at)
        finally:
            shutil.rmtree(at, ignore_errors=True)
        if not built.digest:
            raise EnvironmentBuildError(f"image {key}: nothing was built")
        return built.digest, Path()

    def _check_push(self, key: str) -> None:
        """It is the registry that pushes."""

    def _begun(self, key: str, anew: bool) -> Path | None:
        """The folder of a build that a killed builder has left at work, or done; others of this image are removed."""
        found = None
        for left in self._images.glob(f".building-{key}-*"):  # whose lock is ours
            of_use = (left / "anew").exists() >= anew and (run := _run_in(left)) and self._tasks.is_of_use(run)
            if of_use and found is None:
                found = left
            else:
                shutil.rmtree(left, ignore_errors=True)
        return found

    def _is_over(self, left: Path) -> bool:
        return time.time() - left.stat().st_mtime > LEFT_SECONDS


class _Built:
    """Remembers what was built, and in a folder what is."""

    def __init__(self, tasks: "AcrTasks", at: Path) -> None:
        self._tasks = tasks
        self._at = at
        self.digest = ""

    def build(self, key: str, context: Path, log: Log, file: str = "Dockerfile", *, anew: bool = False) -> None:
        """The registry has no layers of earlier builds at hand, so each is built anew."""
        if anew:
            (self._at / "anew").touch()

        def begun(run: str) -> None:
            (self._at / "run.draft").write_text(run)
            (self._at / "run.draft").rename(self._at / "run")

        self.digest = self._tasks.build(key, context, log, file, begun)


def _run_in(folder: Path) -> str:
    """The id of the run that was begun in a folder, "" where none was."""
    with suppress(FileNotFoundError):
        return (folder / "run").read_text()
    return ""


def tasks_of(settings: "Settings") -> "AcrTasks":
    """The registry's own builder. Raises UsageError where images are not pushed to the registry of the workspace."""
    azure = settings.azure
    host, _, path = settings.images_below.partition("/")
    if azure is None or host != azure.registry.login_server:
        raise UsageError(
            f"workspace.json: image_builder: got `acr-tasks`, but images go to `{host or 'no registry'}`",
            hint="only the registry of a workspace on Azure builds images; leave `image_builder` out",
        )
    from azure.identity import DefaultAzureCredential

    from tensoryard.environment.acr_tasks import AcrTasks, TasksRegistry

    registry = TasksRegistry(azure.subscription_id, azure.resource_group, azure.registry.name)
    repository = f"{path}/{REPOSITORY}".lstrip("/")
    return AcrTasks(registry, repository, DefaultAzureCredential(additionally_allowed_tenants=[azure.tenant_id]))
