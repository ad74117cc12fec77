"""The builder of every environment: each spec goes to the builder of what it asks for."""

from functools import cached_property
from typing import TYPE_CHECKING

from tensoryard.environment import Environment, EnvironmentBuilder, EnvironmentSpec, Log
from tensoryard.environment.records import chosen
from tensoryard.environment.spec import recipe
from tensoryard.environment.venv import Pruned, VenvBuilder

if TYPE_CHECKING:
    from tensoryard.environment.image_builder import ImageBuilder
    from tensoryard.environment.image_records import Change
    from tensoryard.workspace import Workspace


class BuilderByRuntime:
    """
    Virtual environments and images; see `EnvironmentBuilder`.

    workspace: whose registry and store its images are in, None for this machine's cache alone; on_nodes: as
    `ImageBuilder` takes it; partition: of nodes that build, where jobs of a cluster do.
    """

    def __init__(
        self,
        workspace: "Workspace | None" = None,
        venvs: VenvBuilder | None = None,
        on_nodes: bool = False,
        partition: str = "",
    ) -> None:
        self.venvs = venvs or VenvBuilder()
        self._on_nodes = on_nodes
        self._partition = partition
        self._workspace = workspace

    @cached_property
    def images(self) -> "ImageBuilder":
        from tensoryard.environment.image_builder import ImageBuilder

        workspace = self._workspace
        if workspace is None:
            return ImageBuilder(self.venvs)
        settings = workspace.settings()
        if settings.image_builder == "acr-tasks":
            from tensoryard.environment.image_builder_azure import AzureImageBuilder, tasks_of

            tasks = tasks_of(settings)
            return AzureImageBuilder(self.venvs, settings.images_below, workspace.store, self._on_nodes, tasks)
        if settings.image_builder == "job":
            from tensoryard.environment.image_builder_job import JobImageBuilder

            return JobImageBuilder(
                self.venvs, settings.images_below, workspace.store, self._on_nodes, self._partition
            )
        return ImageBuilder(self.venvs, settings.images_below, workspace.store, self._on_nodes)

    def find(self, spec: EnvironmentSpec) -> Environment | None:
        return self._of(spec).find(spec)

    def ensure(self, spec: EnvironmentSpec, log: Log, rebuild: bool = False) -> Environment:
        return self._of(spec).ensure(spec, log, rebuild)

    def update(self, spec: EnvironmentSpec, log: Log) -> "tuple[Change, ...]":
        """What moved in what a spec stands for: newest packages, the base image of this day. Builds nothing."""
        from tensoryard.environment.image_records import Pin, changes, moved_packages
        from tensoryard.environment.own_dockerfile import update

        if spec.image is None:
            return moved_packages(*self.venvs.update(recipe(spec), log))
        if spec.image.dockerfile:
            return update(spec.image, self.images.records)
        before, after = self.images.update(recipe(spec), spec.image, log)
        return changes(before or Pin(host="", pinned_at=0.0), after)

    def lock(self, environment: Environment) -> str:
        return (self.images if environment.image else self.venvs).lock(environment)

    def list(self) -> list[Environment]:
        """Every finished environment, the newest first."""
        found = [*self.venvs.list(), *(self.images.list() if self._has_images() else ())]
        return sorted(found, key=lambda environment: -environment.created_at)

    def show(self, wanted: str) -> Environment:
        """The environment with a hash, or with one that begins so, or the newest with this name."""
        return chosen(self.list(), wanted)

    def prune(self, unused_days: float | None = 30, dry_run: bool = True, free_bytes: int = 0) -> tuple[Pruned, ...]:
        """As `VenvBuilder.prune`, images too. Those in a registry stay there."""
        images = self.images.prune(unused_days, dry_run, free_bytes) if self._has_images() else ()
        return (*self.venvs.prune(unused_days, dry_run, free_bytes), *images)

    def _has_images(self) -> bool:
        return (self.venvs.cache / "images").is_dir()

    def _of(self, spec: EnvironmentSpec) -> EnvironmentBuilder:
        return self.images if spec.image else self.venvs
