"""One builder at a time, between threads and processes, and free again when a builder dies."""

import contextlib
import fcntl
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from tensoryard.environment import Log, interruption


@contextlib.contextmanager
def held(path: Path, what: str, log: Log) -> Iterator[bool]:
    """
    Hold the lock of a file while the block runs; gives whether another held it first.

    what: what the other is doing, as in "waiting for <what> by process 4182 on host". The kernel lets go of
    the lock when its holder ends, however it ends.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+", encoding="utf-8") as file:
        waited = False
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waited = True
            file.seek(0)
            log(f"waiting for {what} by {file.read().strip() or 'another process'}")
            while not _taken(file):
                interruption.look()
                time.sleep(interruption.LOOK_SECONDS)
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        file.flush()
        yield waited


@contextlib.contextmanager
def shared(path: Path, what: str, log: Log) -> Iterator[None]:
    """Hold the lock of a file with others who hold it so; `alone` then finds that somebody does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+", encoding="utf-8") as file:
        if not _taken(file, fcntl.LOCK_SH):
            log(f"waiting for {what}")
            while not _taken(file, fcntl.LOCK_SH):
                interruption.look()
                time.sleep(interruption.LOOK_SECONDS)
        yield


@contextlib.contextmanager
def alone(path: Path) -> Iterator[bool]:
    """Whether nobody else holds the lock of a file, which is then held while the block runs."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+", encoding="utf-8") as file:
        yield _taken(file)


def _taken(file: IO[str], how: int = fcntl.LOCK_EX) -> bool:
    with contextlib.suppress(BlockingIOError):
        fcntl.flock(file, how | fcntl.LOCK_NB)
        return True
    return False


def is_held(path: Path) -> bool:
    """Whether some process holds the lock of a file right now."""
    try:
        with path.open("a+", encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        return False
    return False
