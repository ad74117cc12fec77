"""
A job's own Dockerfile: what it is built on, pinned by digest in the workspace until somebody moves it.

A name is pinned as `image: name` of a job is: one name stands for one image, whoever builds on it.
"""

import hashlib
import shutil
from pathlib import Path
from typing import NamedTuple

import msgspec

from tensoryard.environment import ImageSpec, Log
from tensoryard.environment.dockerfile_bases import Bases, bases, renamed
from tensoryard.environment.image import parse_reference
from tensoryard.environment.image_inputs import check_is_there, resolve, spec_key
from tensoryard.environment.image_records import Change, ImageRecords
from tensoryard.errors import JobError


class Pinned(NamedTuple):
    """
    A Dockerfile as it is built. key: of the image; number: greater whenever a pin has moved; base: of its last stage.

    names: what it is built on, by its digest, by the name in the file.
    """

    image: ImageSpec
    found: Bases
    number: int
    names: dict[str, str]

    @property
    def key(self) -> str:
        if not self.names:
            return spec_key(None, self.image)
        parts = [spec_key(None, self.image), *sorted(set(self.names.values()))]
        return hashlib.sha256(msgspec.json.encode(parts)).hexdigest()[:16]

    @property
    def base(self) -> str:
        return self.names.get(self.found.last, "")

    def write_context(self, folder: Path) -> None:
        """The job's source in a new folder, and in it the Dockerfile with digests for names."""
        shutil.copytree(self.image.folder, folder, symlinks=True)
        file = folder / self.image.dockerfile
        text = renamed(_text(self.image), self.found, self.names)
        file.unlink()
        file.write_text(text, encoding="utf-8", errors="surrogateescape")

    def check(self) -> None:
        """Raises NotFoundError when an image that it is built on is in its registry no longer."""
        for base in self.found.named:
            check_is_there(self.names[base.name], f"{self.image.dockerfile}:{base.line}: FROM", base.name)


def newest(image: ImageSpec, records: ImageRecords) -> int:
    """The `number` of a Dockerfile as it is pinned now."""
    names = {base.name for base in bases(_text(image), image.dockerfile).named}
    return sum(records.newest_pin(_key(name)) for name in names)


def pinned(image: ImageSpec, records: ImageRecords, log: Log, rebuild: bool) -> Pinned:
    """
    A Dockerfile as it is pinned, which is done now for what was not; rebuild: all of it anew.

    Raises JobError for a name that is none, NotFoundError for an image that is not there.
    """
    found = bases(_text(image), image.dockerfile)
    numbers, names = 0, {}
    for base in {base.name: base for base in found.named}.values():
        place = f"{image.dockerfile}:{base.line}: FROM"
        reference = parse_reference(base.name, place)
        digest = reference.digest
        if not digest:
            number = records.newest_pin(_key(base.name))
            if number and not rebuild:
                pin = records.pin(_key(base.name), number)
            else:
                number += 1
                pin = records.add_pin(_key(base.name), number, digest=resolve(reference, place))
            numbers += number
            digest = pin.digest
        names[base.name] = reference.at(digest)
        log(f"{base.name} is {names[base.name]}")
    return Pinned(image, found, numbers, names)


def update(image: ImageSpec, records: ImageRecords) -> tuple[Change, ...]:
    """What moved in what a Dockerfile is built on: each tag now stands for what it names in its registry."""
    moved = []
    found = bases(_text(image), image.dockerfile)
    for base in {base.name: base for base in found.named}.values():
        place = f"{image.dockerfile}:{base.line}: FROM"
        reference = parse_reference(base.name, place)
        if reference.digest:
            continue
        number = records.newest_pin(_key(base.name))
        before = records.pin(_key(base.name), number).digest if number else ""
        now = resolve(reference, place)
        if now != before:
            moved.append(Change(base.name, before, records.add_pin(_key(base.name), number + 1, digest=now).digest))
    return tuple(moved)


def _text(image: ImageSpec) -> str:
    try:
        return (Path(image.folder) / image.dockerfile).read_text(encoding="utf-8", errors="surrogateescape")
    except OSError as error:
        raise JobError(
            f"dockerfile: `{image.dockerfile}` cannot be read in the job's source: {error.strerror}"
        ) from None


def _key(name: str) -> str:
    return spec_key(None, ImageSpec(existing=name))
