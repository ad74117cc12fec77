"""Memory for what is on its way, used again: new memory costs the processor as much as sending what is in it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

from tensoryard.errors import StoreError
from tensoryard.store import Sent

# Read and then handed on so much at a time: it is in the processor's cache still.
_PIECE_BYTES = 1 << 20
# What is smaller the allocator keeps itself.
_KEPT_FROM_BYTES = 128 << 10

_lock = Lock()
_free: list[bytearray] = []
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
def _taken(length: int) -> Iterator[bytearray]:
    """Memory of at least this length."""
    with kept():
        with _lock:
            memory = _free.pop() if _free and length >= _KEPT_FROM_BYTES else bytearray()
        if len(memory) < length:
            memory = bytearray(length)
        try:
            yield memory
        finally:
            if len(memory) >= _KEPT_FROM_BYTES:
                with _lock:
                    _free.append(memory)
