"""What a recipe was locked to; the key of what is asked and the hash of what is built."""

import hashlib

import msgspec

from tensoryard.environment.interpreter import Interpreter, this_platform
from tensoryard.environment.spec import Recipe, without_comment

_FORMAT = 1  # raise it when the same lock would be built into different contents


class CondaRecord(msgspec.Struct, frozen=True, kw_only=True):
    """
    One conda package of a solve, complete: it is installed again without asking the channel for its index.

    url, file, sha256: its archive and the digest of it; index: its entry in the channel's index, as JSON text.
    """

    name: str
    version: str
    channel: str
    url: str
    file: str
    sha256: str
    md5: str | None
    size_bytes: int | None
    index: str


class Lock(msgspec.Struct, frozen=True, kw_only=True):
    """What a recipe was locked to. requirements: the text for uv; conda: empty without conda packages."""

    recipe: Recipe
    requirements: str
    conda: tuple[CondaRecord, ...] = ()
    locked_at: float

    @property
    def packages(self) -> str:
        """Every package of it, pip's and conda's, as `resolve.pins` reads them."""
        return self.requirements + "".join(f"{record.name}=={record.version}\n" for record in self.conda)


def recipe_key(wanted: Recipe, on: str | None = None) -> str:
    """16 hex digits over what is asked, comments left out, and the platform it is for: None for this machine's."""
    entries = tuple(without_comment(entry) for entry in wanted.requirements)
    plain = msgspec.structs.replace(wanted, requirements=entries, free_bytes=0, name="")
    text = msgspec.json.encode(plain) + (this_platform() if on is None else on).encode()
    return hashlib.sha256(text).hexdigest()[:16]


def content_hash(lock: Lock, interpreter: Interpreter, wheel_key: str) -> str:
    """16 hex digits over everything that shapes an environment; wheel_key: of Horovod's wheel, "" without it."""
    digests = sorted(f"{record.url} {record.sha256}" for record in lock.conda)
    parts = [_FORMAT, lock.requirements, interpreter, this_platform(), wheel_key, digests]
    return hashlib.sha256(msgspec.json.encode(parts)).hexdigest()[:16]
