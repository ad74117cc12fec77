"""
What a workspace knows of its images: what each spec was pinned to, and which image was built of it.

    environments/asked/<key of a spec>/<number>.json     the lock and base that it stands for; the newest is in force
    environments/images/<key of an image>/<number>.json  the image by its digest; the newest is in force

Numbered values that are put if absent: of two machines that pin or build at once both go on with what the first put.
"""

import socket
import time
from typing import NamedTuple, TypeVar

import msgspec

from tensoryard.environment import Environment
from tensoryard.environment.image import ImageInputs
from tensoryard.environment.resolve import pins
from tensoryard.errors import AlreadyExistsError, CorruptRecordError
from tensoryard.store import Store, keys

T = TypeVar("T")


class Pin(msgspec.Struct, frozen=True, kw_only=True):
    """
    What a spec stands for until somebody moves it.

    inputs: all that its image is made from, None for an image that is used as it is; digest: of that one, else "".
    """

    inputs: ImageInputs | None = None
    digest: str = ""
    host: str
    pinned_at: float


class Change(NamedTuple):
    """A package, or the base image, that a pin has moved; before, after: "" where it was or is not there."""

    what: str
    before: str
    after: str


class ImageRecords:
    """The records of images in a store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def newest_pin(self, key: str) -> int:
        """The number of the pin of a spec that is in force; 0 when there is none."""
        return self._newest(keys.environment_pins(key))

    def pin(self, key: str, number: int) -> Pin:
        """The pin of a spec with a number."""
        return self._read(keys.numbered(keys.environment_pins(key), number), Pin)

    def add_pin(self, key: str, number: int, inputs: ImageInputs | None = None, digest: str = "") -> Pin:
        """The pin that has a number now: this one, or another's who was first."""
        pin = Pin(inputs=inputs, digest=digest, host=socket.gethostname(), pinned_at=time.time())
        return self._put(keys.numbered(keys.environment_pins(key), number), pin, Pin)

    def image(self, key: str, repository: str) -> tuple[int, Environment | None]:
        """The number of the newest image of a key, and the image where it is in this repository."""
        number = self._newest(keys.environment_images(key))
        if not number:
            return 0, None
        found = self._read(keys.numbered(keys.environment_images(key), number), Environment)
        return number, found if found.image.partition("@")[0] == repository else None

    def add_image(self, number: int, environment: Environment) -> Environment:
        """The image that has a number now: this one, or another's who was first."""
        kept = msgspec.structs.replace(environment, unpacked="", spec=None)
        return self._put(keys.numbered(keys.environment_images(environment.hash), number), kept, Environment)

    def _newest(self, prefix: str) -> int:
        return max((keys.parse_numbered(name) or 0 for name in self._store.children(prefix)), default=0)

    def _put(self, key: str, value: T, kind: type[T]) -> T:
        try:
            self._store.put(key, msgspec.json.encode(value))
        except AlreadyExistsError:
            return self._read(key, kind)
        return value

    def _read(self, key: str, kind: type[T]) -> T:
        try:
            return msgspec.json.decode(self._store.read(key), type=kind)
        except msgspec.MsgspecError as error:
            raise CorruptRecordError(f"`{key}` cannot be read: {error}") from None


def changes(before: Pin, after: Pin) -> tuple[Change, ...]:
    """What moved between two pins: the base first, then the packages by name."""
    old, new = (pin.inputs.base if pin.inputs else pin.digest for pin in (before, after))
    moved = [Change("base image" if after.inputs else "image", *map(_digest, (old, new)))] if old != new else []
    locks = (pin.inputs.requirements if pin.inputs else "" for pin in (before, after))
    return (*moved, *moved_packages(*locks))


def moved_packages(before: str, after: str) -> tuple[Change, ...]:
    """The packages that two locks have in different versions, by name."""
    old, new = pins(before), pins(after)
    names = sorted(name for name in {*old, *new} if old.get(name) != new.get(name))
    return tuple(Change(name, old.get(name, ""), new.get(name, "")) for name in names)


def _digest(reference: str) -> str:
    return reference.rpartition("@")[2]
