"""The builder of every environment: each spec goes to the builder of what it asks for."""

from functools import cached_property
from typing import TYPE_CHECKING

from tensoryard.environment import Environment, EnvironmentBuilder, EnvironmentSpec, Log
from tensoryard.environment.venv import Pruned, VenvBuilder, chosen

if TYPE_CHECKING:
    from tensoryard.environment.image_builder import ImageBuilder


class BuilderByRuntime:
    """Virtual environments and images; see `EnvironmentBuilder`. registry: as `ImageBuilder` takes it."""

    def __init__(self, registry: str = "", venvs: VenvBuilder | None = None) -> None:
        self.venvs = venvs or VenvBuilder()
        self.registry = registry

    @cached_property
    def images(self) -> "ImageBuilder":
        from tensoryard.environment.image_builder import ImageBuilder

        return ImageBuilder(self.venvs, self.registry)

    def find(self, spec: EnvironmentSpec) -> Environment | None:
        return self._of(spec).find(spec)

    def ensure(self, spec: EnvironmentSpec, log: Log, rebuild: bool = False) -> Environment:
        return self._of(spec).ensure(spec, log, rebuild)

    def lock(self, environment: Environment) -> str:
        return (self.images if environment.image else self.venvs).lock(environment)

    def list(self) -> list[Environment]:
        """Every finished environment, the newest first."""
        found = [*self.venvs.list(), *(self.images.list() if self._has_images() else ())]
        return sorted(found, key=lambda environment: -environment.created_at)

    def show(self, wanted: str) -> Environment:
        """The environment with a hash, or with one that begins so, or the newest with this name."""
        return chosen(self.list(), wanted)

    def prune(self, unused_days: float | None = 30, dry_run: bool = True) -> tuple[Pruned, ...]:
        """As `VenvBuilder.prune`, images too. Those in a registry stay there."""
        images = self.images.prune(unused_days, dry_run) if self._has_images() else ()
        return (*self.venvs.prune(unused_days, dry_run), *images)

    def _has_images(self) -> bool:
        return (self.venvs.cache / "images").is_dir()

    def _of(self, spec: EnvironmentSpec) -> EnvironmentBuilder:
        return self.images if spec.image else self.venvs
