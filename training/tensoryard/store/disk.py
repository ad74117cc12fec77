"""What a disk refuses, in words that a user can act on."""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager

from tensoryard.errors import NotFoundError, StoreError, UsageError, VerificationError

HINTS = {
    errno.EACCES: "ask the owner of the folder for access, or use a folder of your own",
    errno.EROFS: "the disk is mounted read-only: use a folder on one that can be written",
    errno.ENOSPC: "free some space on that disk (`df -h` shows how full it is) and try again",
    errno.EDQUOT: "free some of your quota on that disk and try again",
    errno.EFBIG: "a limit on file sizes is set for this process: see `ulimit -f`",
    errno.ENOLCK: "this disk has no locks: use a workspace on a local disk, NFS, or Lustre mounted with `-o flock`",
    errno.ENOSYS: "this disk lacks what a workspace needs, locks and hard links: use one on a local or NFS disk",
    errno.EMFILE: "this process has too many files open: see `ulimit -n`",
}
HINTS[errno.EPERM] = HINTS[errno.EACCES]


@contextmanager
def plain_errors(path: str | os.PathLike[str], doing: str) -> Iterator[None]:
    """
    A block in which every OSError becomes a StoreError that names the path and what to do.

    doing: the verb of the message, such as "writing".
    """
    try:
        yield
    except OSError as error:
        code = error.errno or 0
        raise StoreError(
            f"`{os.fspath(path)}`: {doing} failed: {os.strerror(code).lower()}", HINTS.get(code)
        ) from error


def check_unchanged(source: int, seen: os.stat_result, path: str | os.PathLike[str]) -> None:
    """Raises VerificationError when an open file was written to since it was seen."""
    now = os.fstat(source)
    if (now.st_mtime_ns, now.st_size) != (seen.st_mtime_ns, seen.st_size):
        raise VerificationError(
            f"`{os.fspath(path)}`: changed while it was read, so nothing was written",
            "wait until nothing writes to it, and try again",
        )


def open_file(path: str | os.PathLike[str]) -> int:
    """
    A descriptor to read a file by that is to be kept in a store.

    Raises NotFoundError when it is absent, UsageError when it is no ordinary file, StoreError when it cannot be read.
    """
    try:
        # Without O_NONBLOCK a pipe would wait for its writer.
        source = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        raise NotFoundError(f"`{path}`: there is no such file") from None
    except OSError as error:
        raise StoreError(f"`{path}`: reading it failed: {os.strerror(error.errno or 0)}") from None
    mode = os.fstat(source).st_mode
    if stat.S_ISREG(mode):
        return source
    os.close(source)
    what = "a folder" if stat.S_ISDIR(mode) else "no ordinary file"
    raise UsageError(f"`{path}`: is {what}, a file is needed")
