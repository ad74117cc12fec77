"""Memory for what is on its way, used again: new memory costs the processor as much as sending what is in it."""

import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO
from threading import Lock

from tensoryard.errors import StoreError
from tensoryard.store import Sent

# Read and then handed on so much at a time: it is in the processor's cache still.
_PIECE_BYTES = 1 << 20
# What is smaller the allocator keeps itself.
_KEPT_FROM_BYTES = 128 << 10

_lock = Lock()
_free: list[mmap.mmap] = []
_used = 0


class Body:
    """Bytes that the SDK sends from where they lie, as often as it tries: of anything but bytes it makes a copy."""

    def __init__(self, data: memoryview) -> None:
        self._data = data

    def __len__(self) -> int:
        return len(self._data)

    def __iter__(self) -> Iterator[memoryview]:
        yield self._data


@contextmanager
def filled(source: int, path: object, start: int, length: int, sent: Sent | None = None) -> Iterator[memoryview]:
    """
    A block with length bytes of an open file from start on, in memory that is another's afterwards.

    path: as messages name the file; sent: given the bytes as they are read.
    Raises StoreError when the file ends before.
    """
    with _taken(length) as memory, memoryview(memory) as whole, whole[:length] as view:
        done = 0
        while done < length:
            with view[done : done + _PIECE_BYTES] as rest:
                count = os.preadv(source, [rest], start + done)
                if not count:
                    raise StoreError(
                        f"`{path}`: became shorter while it was read",
                        "wait until nothing writes to it, and try again",
                    )
                if sent:
                    with rest[:count] as piece:
                        sent(piece)
            done += count
        yield view


def sha256_of(file: FileIO) -> str:
    """The digest in hex of what is left of a file, which was opened without a buffer."""
    import hashlib

    digest = hashlib.sha256()
    with aligned(_PIECE_BYTES) as memory, memoryview(memory) as view:
        while count := file.readinto(view):
            with view[:count] as piece:
                digest.update(piece)
    return digest.hexdigest()


@contextmanager
def kept() -> Iterator[None]:
    """A block after which memory is given up, and not before, for who is about to send many files."""
    global _used
    with _lock:
        _used += 1
    try:
        yield
    finally:
        with _lock:
            _used -= 1
            if not _used:
                _free.clear()


@contextmanager
def _taken(length: int) -> Iterator[bytearray | mmap.mmap]:
    """Memory of at least this length."""
    if length < _KEPT_FROM_BYTES:
        yield bytearray(length)
        return
    with kept():
        with _lock:
            memory = _free.pop() if _free else None
        if memory is None or len(memory) < length:
            memory = aligned(length)
        try:
            yield memory
        finally:
            with _lock:
                _free.append(memory)


def aligned(length: int) -> mmap.mmap:
    """
    Memory that begins with a page.

    The allocator's begins 16 bytes behind one where it is large. Of all places that is what `rep movsb` of AMD's
    Zen 3 and 4 is slow for: to read a GiB into it takes the kernel 0.5 s, and 0.15 s into a page.
    """
    return mmap.mmap(-1, length, mmap.MAP_PRIVATE)
