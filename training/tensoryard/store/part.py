# A small file takes 0.1 ms of the processor, and with pathlib a third more.
# ruff: noqa: PTH105, PTH108, PTH120
"""What is fetched, on its way to a file of this machine: it has its name once it is whole and checked."""

import fcntl
import os
from collections.abc import Container
from contextlib import suppress
from io import FileIO
from pathlib import Path
from threading import Lock

from tensoryard.errors import VerificationError
from tensoryard.store.buffers import aligned

PART_PREFIX = ".tyard-part-"
_REREAD_BYTES = 1 << 20
# Linux puts what is written at once into pages as large as that: 8 MiB a write took ten times the processor's time of
# these where a virtual machine had given its large free pages back to its host. It is in the cache still, too.
_PIECE_BYTES = 256 << 10
# By folder: Linux makes the names in it one after the other and has the others spin meanwhile, on another core.
_naming: tuple[Lock, ...] = ()


def _new_locks() -> None:
    global _naming
    _naming = tuple(Lock() for _ in range(64))


_new_locks()
os.register_at_fork(after_in_child=_new_locks)  # a thread of the parent may have held one


def remove_parts(folder: Path, keep: Container[str] = ()) -> None:
    """
    Remove what downloads that were killed left in a folder; those of others that go on are theirs.

    keep: digests in hex of the files that are fetched next, the beginnings of which are used.
    """
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            name = entry.name.removeprefix(PART_PREFIX)
            if name != entry.name and name not in keep and entry.is_file(follow_symlinks=False):
                with suppress(OSError), Path(entry.path).open("rb") as part:
                    fcntl.flock(part, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    Path(entry.path).unlink()


def write_whole(path: str, data: bytes) -> None:
    """Write bytes to a file that has them at once. Raises FileNotFoundError where its folder is not there."""
    folder = os.path.dirname(path)
    part = f"{folder}/{PART_PREFIX}{os.urandom(8).hex()}"
    naming = _naming[hash(folder) % len(_naming)]
    with naming:
        fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(fd, view) :]
        finally:
            os.close(fd)  # where a disk on a network says what it could not write
        with naming:
            os.replace(part, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(part)
        raise


class Part:
    """
    A file that becomes another once it is whole; gone when the block is left, unless sha256 names what it begins.

    sha256: of what it shall be, in hex: the next part of that digest in this folder begins where this one ended.
    size_bytes: how much of it is there.
    """

    def __init__(self, folder: Path, sha256: str | None = None) -> None:
        import hashlib

        self._digest = hashlib.sha256()
        self.size_bytes = 0
        self._path = folder / f"{PART_PREFIX}{sha256}"
        begun = _taken(self._path) if sha256 else None
        self._kept = begun is not None
        if begun is None:
            self._path = folder / f"{PART_PREFIX}{os.urandom(8).hex()}"
            self._file = self._path.open("xb", buffering=0)
            with suppress(OSError):  # a disk without locks
                fcntl.flock(self._file, fcntl.LOCK_EX)
            return
        self._file = begun
        with aligned(_REREAD_BYTES) as memory, memoryview(memory) as view:
            while count := begun.readinto(view):
                with view[:count] as piece:
                    self._digest.update(piece)
                self.size_bytes += count

    def __enter__(self) -> "Part":
        return self

    def __exit__(self, *failure: object) -> None:
        if not self._kept:
            with suppress(OSError):
                self._path.unlink()
        self._file.close()

    def add(self, data: bytes | memoryview) -> None:
        view = memoryview(data)
        while view:
            piece = view[:_PIECE_BYTES]
            written = self._file.write(piece)
            self._digest.update(piece[:written])
            self.size_bytes += written
            view = view[written:]

    def publish(self, path: Path, key: str, size_bytes: int | None, sha256: str | None, *, sync: bool = True) -> str:
        """
        The digest in hex of what is at path now. Raises VerificationError, and then the part is no use.

        sync: whether it has to be on the disk by then, and not only on its way there.
        """
        digest = self._digest.hexdigest()
        try:
            check(key, size_bytes, self.size_bytes, sha256, digest)
        except VerificationError:
            self._kept = False
            raise
        if sync:
            os.fsync(self._file.fileno())
        else:
            os.close(os.dup(self._file.fileno()))  # a disk on a network says at a close what it could not write
        self._path.replace(path)
        self._kept = True
        return digest


def _taken(path: Path) -> FileIO | None:
    """A part that another download began, or a new one; None while somebody is at it."""
    file = path.open("a+b", buffering=0)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Whoever was at it may have given it its final name.
        if os.path.samestat(path.stat(), os.fstat(file.fileno())):
            file.seek(0)
            return file
    except OSError:  # or a disk without locks
        pass
    file.close()
    return None


def check(key: str, size_bytes: int | None, written: int, sha256: str | None, digest: str) -> None:
    if size_bytes is not None and written != size_bytes:
        at_least = "at least " if written > size_bytes else ""
        raise VerificationError(f"`{key}`: got {at_least}{written} bytes, recorded were {size_bytes}")
    if sha256 is not None and digest != sha256:
        raise VerificationError(f"`{key}`: got sha256 {digest}, recorded was {sha256}")
