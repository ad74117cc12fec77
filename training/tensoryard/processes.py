"""Processes of this machine, found by what their environment holds: it follows them wherever they fork to."""

import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path


def carrying(variable: str) -> Iterator[tuple[int, str]]:
    """
    (process id, value) of every other process that we may look at and whose environment holds a variable.

    Nothing on a system without /proc/PID/environ, such as macOS. Source: proc(5).
    """
    mark = os.fsencode(variable) + b"="
    for entry in Path("/proc").glob("[0-9]*/environ"):
        pid = int(entry.parent.name)
        if pid == os.getpid():
            continue
        with suppress(OSError):
            for item in entry.read_bytes().split(b"\0"):
                if item.startswith(mark):
                    yield pid, os.fsdecode(item[len(mark) :])


def is_there(pid: int) -> bool:
    """Whether a process with this id runs."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def is_beside(pid: int) -> bool:
    """Whether a process is in this one's namespace of process ids, in which its own number for others is ours too."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/ns/pid").readlink() == Path("/proc/self/ns/pid").readlink()
    return False


def kill(pids: set[int]) -> int:
    """
    How many of these processes were still there and have been killed.

    All are stopped first: none sees another die and goes on to act on it, as a supervisor would for its script.
    """
    killed = 0
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for pid in pids:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, number)
                killed += number == signal.SIGKILL
    return killed
