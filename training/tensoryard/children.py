"""
The processes that a supervisor starts: their signals, their ends, those that lost their parent.

Standard library only: it lies beside `rank.py` on the node.
"""

from __future__ import annotations

import contextlib
import os
import signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal between the first and the last has no name
        return f"signal {number}"


def wake_on(*numbers: int) -> int:
    """A file descriptor that becomes readable when one of these signals arrives, holding its number."""
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    os.set_blocking(writing, False)
    for number in numbers:
        signal.signal(number, lambda number, frame: None)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    return reading


def told_to_stop(wakeup: int) -> int:
    """The signal that asks this process to stop, or 0."""
    try:
        return next((number for number in os.read(wakeup, 4096) if number != signal.SIGCHLD), 0)
    except BlockingIOError:
        return 0


def reap(pid: int | None) -> tuple[bool, int, Any]:
    """
    (whether pid is gone, its status, its resource usage); reaps orphans of the script on the way.

    pid: None asks whether no child is left at all.
    """
    while True:
        try:
            found, status, usage = os.wait4(-1, os.WNOHANG)
        except ChildProcessError:
            return True, 0, None
        if found and found == pid:
            return True, status, usage
        if not found:
            return False, 0, None


def children() -> list[int]:
    """
    Processes whose parent is this one. On Linux orphans of the script are among them, so none is out of reach
    for long: neither one in a session of its own nor one with another environment.
    """
    own = os.getpid()
    found = []
    for name in filter(str.isdigit, os.listdir("/proc") if os.path.isdir("/proc") else ()):
        with contextlib.suppress(OSError), open(f"/proc/{name}/stat", "rb") as file:
            # The command's name in parentheses may hold anything, parentheses too.
            if int(file.read().rpartition(b")")[2].split()[1]) == own:
                found.append(int(name))
    return found


def send(pid: int, number: int) -> bool:
    """Whether there was a process, or a group under its negative number, to signal."""
    # macOS refuses with PermissionError when only zombies are left.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)
        return True
    return False
