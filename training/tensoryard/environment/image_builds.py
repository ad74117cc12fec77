"""One build of an image by whatever builds: what it is made from, what its failure means, how much disk it takes."""

from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, Protocol

from tensoryard.environment import Log
from tensoryard.environment.buildah import DiskFullError, Program
from tensoryard.environment.image import ImageInputs, parse_reference
from tensoryard.environment.image_inputs import check_is_there, place_of
from tensoryard.environment.image_unpack import described
from tensoryard.environment.own_dockerfile import Pinned
from tensoryard.environment.resolve import naming_entries
from tensoryard.errors import EnvironmentBuildError, TensoryardError
from tensoryard.registry.oci_client import Client
from tensoryard.text import size


class Build(Protocol):
    """A build that is to be done."""

    def __call__(self, tool: Program, aside: Path) -> None:
        """Do it in a folder for it alone. Raises EnvironmentBuildError, and DiskFullError of its kind."""
        ...

    def needs(self) -> str:
        """How much disk it is known to take, in words; "" where nothing is known."""
        ...


class OursBuild(NamedTuple):
    """
    Of our own Dockerfile.

    entries: of the job, which a failure names; write_context: into a new folder; anew: without layers of earlier
    builds.
    """

    inputs: ImageInputs
    entries: tuple[str, ...]
    write_context: Callable[[ImageInputs, Path, Log], None]
    log: Log
    anew: bool

    def __call__(self, tool: Program, aside: Path) -> None:
        inputs = self.inputs
        self.log(f"building image {inputs.key} ({inputs.name}) on {inputs.base_name}")
        self.write_context(inputs, aside / "context", self.log)
        try:
            tool.build(inputs.key, aside / "context", self.log, anew=self.anew)
        except DiskFullError:
            raise
        except EnvironmentBuildError as error:
            check_is_there(inputs.base, "base_image", inputs.base_name)
            raise naming_entries(error, self.entries) from None

    def needs(self) -> str:
        return _needs([self.inputs.base], 0)


class TheirsBuild(NamedTuple):
    """Of a job's own Dockerfile; anew: without layers of earlier builds."""

    own: Pinned
    log: Log
    anew: bool

    def __call__(self, tool: Program, aside: Path) -> None:
        own, file = self.own, self.own.image.dockerfile
        self.log(f"building image {own.key} from {file}")
        own.write_context(aside / "context")
        try:
            tool.build(own.key, aside / "context", self.log, file, anew=self.anew)
        except DiskFullError:
            raise
        except EnvironmentBuildError:
            own.check()
            raise

    def needs(self) -> str:
        files = (path for path in Path(self.own.image.folder).rglob("*") if path.is_file())
        return _needs({*self.own.names.values()}, sum(path.stat().st_size for path in files))


def _needs(bases: Iterable[str], source_bytes: int) -> str:
    packed = 0
    for base in bases:
        place = place_of(parse_reference(base, "FROM"))
        with suppress(TensoryardError):  # the disk is what is told of, not the registry
            packed += sum(layer.size_bytes for layer in described(Client(place), place.tag).layers)
    known = [f"what it is built on is {size(packed)} packed, two to four times that unpacked"] if packed else []
    known += [f"its source is {size(source_bytes)}"] if source_bytes else []
    return f"it needs more than {size(packed + source_bytes)}: {', and '.join(known)}" if known else ""
