"""
How the tasks of a run end is decided once, in launch/end.json: by a task, or by who watches it.

Standard library only: it lies beside `rank.py` on the node.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

RECORD_BYTES = 4096
# With less than this free, what a script's failure looks like to itself is beside the point.
FULL_BYTES = 1 << 20


def end_path(run_dir: str) -> str:
    return os.path.join(run_dir, "launch", "end.json")


def decide_end(run_dir: str, writer: str, facts: dict[str, Any]) -> None:
    """
    Decide the outcome of a run's tasks in launch/end.json, unless somebody has.

    writer: unlike that of any other process that may decide now. On a disk that has no space at all the file
    is blank, which says failed.
    """
    path = end_path(run_dir)
    draft = f"{path}.{writer}"
    try:
        write_json(draft, {**facts, "at": time.time()})
    except OSError as error:
        print(f"{path}: {error}", file=sys.stderr)
    try:
        os.link(draft, path)
    except FileExistsError:
        pass
    except OSError as error:
        print(f"{path}: {error}", file=sys.stderr)
    with contextlib.suppress(OSError):
        os.unlink(draft)


def reserve(path: str) -> None:
    """Take the space of a record now, for the script may have filled the disk when it is to be written."""
    with contextlib.suppress(OSError), open(path, "wb") as file:
        file.write(b" " * RECORD_BYTES)


def write_json(path: str, facts: dict[str, Any]) -> None:
    """Write a record, over the blanks of `reserve` where there are any: blanks at its end do no harm to JSON."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT, 0o644)
    with open(handle, "wb") as file:
        file.write(json.dumps(facts).encode())


def is_full(path: str) -> bool:
    """Whether the disk that holds a path has no space left to speak of."""
    try:
        disk = os.statvfs(path)
    except OSError:
        return False
    return disk.f_bavail * disk.f_frsize < FULL_BYTES or (disk.f_files > 0 and disk.f_favail == 0)


def oom_kills() -> int:
    """How often this kernel has killed for memory since it started; 0 where it does not say."""
    try:
        with open("/proc/vmstat", encoding="ascii") as file:
            return next((int(line.split()[1]) for line in file if line.startswith("oom_kill ")), 0)
    except OSError:
        return 0
