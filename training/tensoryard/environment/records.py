"""What a cache folder holds of locks and environments: written whole, and read back or said to be damaged."""

import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import msgspec

from tensoryard.environment import Environment
from tensoryard.environment.lock import Lock
from tensoryard.errors import CorruptRecordError, EnvironmentBuildError, NotFoundError

T = TypeVar("T")


def check_writable(cache: Path) -> None:
    """Raises EnvironmentBuildError when nothing can be put into a cache."""
    try:
        for name in ("environments", "flocks", "locks"):
            (cache / name).mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=cache / name).close()
    except OSError as error:
        raise EnvironmentBuildError(
            f"`{cache}`: environments cannot be kept there: {os.strerror(error.errno or 0).lower()}",
            hint="set TYARD_CACHE to a folder that you may write to",
        ) from error


def write(path: Path, data: bytes) -> None:
    """Put a whole file in place: a reader sees the old one or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}-{os.getpid()}-{time.monotonic_ns()}")
    aside.write_bytes(data)
    aside.replace(path)


def read_lock(path: Path) -> Lock:
    """A lock. Raises FileNotFoundError, and CorruptRecordError for one that a disk or a person damaged."""
    return _decoded(path, Lock)


def read_environment(folder: Path) -> Environment:
    """The environment in a folder, which may have been moved since. Raises as `read_lock`."""
    found = _decoded(folder / "environment.json", Environment)
    return msgspec.structs.replace(found, python=str(folder / "venv" / "bin" / "python"))


def last_used(folder: Path) -> float:
    """When an environment was used last, in seconds since the epoch."""
    try:
        return (folder / "used").stat().st_mtime
    except FileNotFoundError:
        return folder.stat().st_mtime


def sizes(folder: Path) -> tuple[int, int]:
    """Bytes of all files below a folder, and of those that have no other name elsewhere."""
    total = own = 0
    for parent, _, files in os.walk(folder):
        for name in files:
            status = os.lstat(os.path.join(parent, name))  # noqa: PTH118 - 20,000 files, a Path each costs a second
            total += status.st_size
            own += status.st_size if status.st_nlink == 1 else 0
    return total, own


def chosen(known: Sequence[Environment], wanted: str) -> Environment:
    """Of environments, the newest first, the one that `VenvBuilder.show` means by a text. Raises NotFoundError."""
    found = [one for one in known if wanted and one.hash.startswith(wanted)]
    if len(found) > 1:
        raise NotFoundError(f"{len(found)} environments begin with `{wanted}`: give more of the hash")
    if not found:
        found = [one for one in known if one.name == wanted][:1]
    if not found:
        raise absent(wanted)
    return found[0]


def absent(environment_hash: str) -> NotFoundError:
    return NotFoundError(
        f"environment `{environment_hash}` is not on this machine", hint="`tyard env list` shows those that are"
    )


def _decoded(path: Path, kind: type[T]) -> T:
    data = path.read_bytes()
    try:
        return msgspec.json.decode(data, type=kind)
    except ValueError as error:
        raise CorruptRecordError(f"`{path}` cannot be read: {error}") from None
