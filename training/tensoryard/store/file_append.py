"""
Which bytes of a file that is appended to are whole.

The kernel copies what is written page by page, and a kill between two pages leaves half of a record. Where that can
happen the file is told beforehand, in an attribute that goes and stays with it.
"""

import errno
import os
import sys
from contextlib import suppress

# The smallest there is; what lies in one is written whole or not at all.
_PAGE_BYTES = 4096
_NOTE = "user.tyard.append"


def _note(fd: int, start: int, size_bytes: int) -> None:
    """Note on a file that so many bytes come next, if a kill could leave some of them."""
    if sys.platform == "linux" and start // _PAGE_BYTES != (start + size_bytes - 1) // _PAGE_BYTES:
        with suppress(OSError):  # a disk that keeps no attributes
            os.setxattr(fd, _NOTE, b"%d %d" % (start, start + size_bytes))


def whole_bytes(fd: int, size_bytes: int) -> int:
    """How many bytes of a file are whole; what is after them a killed writer left, or one is about to complete."""
    if sys.platform == "linux":
        with suppress(OSError):
            start, end = map(int, os.getxattr(fd, _NOTE).split())
            if start < size_bytes < end:
                return start
    return size_bytes


def add(fd: int, start: int, data: bytes) -> int:
    """Write at the end of a file, which is at start, all of it or nothing; returns start."""
    _note(fd, start, len(data))
    try:
        if os.write(fd, data) != len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    except OSError:
        os.ftruncate(fd, start)
        raise
    return start
