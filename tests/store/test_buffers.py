"""Memory for what is on its way: where it lies, and whose it is."""

import ctypes
import hashlib
import mmap
import os
from collections.abc import Callable
from pathlib import Path

from tensoryard.store.buffers import aligned, filled, sha256_of

Processes = Callable[[int, Callable[[int], None]], list[int]]


def test_a_large_piece_of_a_file_is_read_to_the_beginning_of_a_page(tmp_path: Path) -> None:
    """Sixteen bytes behind it some processors take three times as long."""
    (tmp_path / "large").write_bytes(os.urandom(1 << 20))
    with (tmp_path / "large").open("rb") as file, filled(file.fileno(), "large", 0, 1 << 20) as data:
        here = ctypes.c_char.from_buffer(data)
        assert ctypes.addressof(here) % mmap.PAGESIZE == 0
        del here


def test_what_a_forked_process_puts_there_is_not_seen_by_its_parent(processes: Processes) -> None:
    with aligned(4096) as memory:
        memory[:2] = b"us"

        def write(index: int) -> None:
            memory[:2] = b"me"

        assert processes(2, write) == [0, 0]
        assert memory[:2] == b"us"


def test_the_digest_of_a_file_is_that_of_all_its_bytes(tmp_path: Path) -> None:
    for size_bytes in (0, 1, (3 << 20) + 7):
        data = os.urandom(size_bytes)
        (tmp_path / "file").write_bytes(data)
        with (tmp_path / "file").open("rb", buffering=0) as file:
            assert sha256_of(file) == hashlib.sha256(data).hexdigest()
