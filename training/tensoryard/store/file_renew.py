# As in file.py: with pathlib this takes a third longer.
# ruff: noqa: PTH105, PTH108, PTH116, PTH123
"""
A file's date made new, and a file removed only while it is the one that was seen.

Both hold a lock on the file itself, so of a clean-up and of someone who goes on using the file one comes first and
the other finds out.
"""

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress


def renew(path: str, temporary: Callable[[], tuple[str, int]]) -> bool:
    """
    Whether a file was there, which is dated now.

    temporary: makes an empty file on the same disk and returns its path and descriptor.
    """
    with _locked(path) as fd:
        if fd is None:
            return False
        try:
            os.utime(fd)
        except PermissionError:  # another user's, who alone may date it: a file of our own takes its place
            aside, copy = temporary()
            try:
                with open(fd, "rb", closefd=False) as source, open(copy, "wb") as target:
                    shutil.copyfileobj(source, target)
                    target.flush()
                    os.fsync(copy)
                os.replace(aside, path)
            finally:
                with suppress(FileNotFoundError):
                    os.unlink(aside)
        return True


def remove_seen(path: str, is_seen: Callable[[os.stat_result], bool]) -> bool:
    """Whether a file is gone: it is removed if it is still the one that was seen."""
    with _locked(path) as fd:
        if fd is None:
            return True
        if not is_seen(os.fstat(fd)):
            return False
        os.unlink(path)
        return True


@contextmanager
def _locked(path: str) -> Iterator[int | None]:
    """The descriptor of a file that nobody else renews or removes now; None where there is no file."""
    while True:
        try:
            # NFS locks only what is open for writing.
            fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            yield None
            return
        except PermissionError:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            try:
                named = os.stat(path)
            except FileNotFoundError:
                yield None
                return
            if os.path.samestat(named, os.fstat(fd)):
                yield fd
                return
        finally:
            os.close(fd)
