"""The builder of every environment: each spec goes to the builder of what it asks for."""

from functools import cached_property
from typing import TYPE_CHECKING

from tensoryard.environment import Environment, EnvironmentBuilder, EnvironmentSpec, Log
from tensoryard.environment.venv import VenvBuilder

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

    def _of(self, spec: EnvironmentSpec) -> EnvironmentBuilder:
        return self.images if spec.image else self.venvs
