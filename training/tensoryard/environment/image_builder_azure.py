"""Images that Azure's registry builds itself; all else is as `ImageBuilder` does it."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from tensoryard.environment import Log
from tensoryard.environment.buildah import Program
from tensoryard.environment.image_builder import ImageBuilder
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

    def _built(self, key: str, build: Callable[[Program, Path], None], log: Log) -> tuple[str, Path]:
        built = _Built(self._tasks)
        with tempfile.TemporaryDirectory(prefix=f".building-{key}-", dir=self._images) as aside:
            build(built, Path(aside))
        if not built.digest:
            raise EnvironmentBuildError(f"image {key}: nothing was built")
        return built.digest, Path()


class _Built:
    """Remembers what was built."""

    def __init__(self, tasks: "AcrTasks") -> None:
        self._tasks = tasks
        self.digest = ""

    def build(self, key: str, context: Path, log: Log, file: str = "Dockerfile") -> None:
        self.digest = self._tasks.build(key, context, log, file)


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
