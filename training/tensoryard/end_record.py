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

# With less than this free, what a script's failure looks like to itself is beside the point.
FULL_BYTES = 1 << 20


def decide_end(run_dir: str, writer: str, facts: dict[str, Any]) -> None:
    """
    Decide the outcome of a run's tasks in launch/end.json, unless somebody has.

    writer: unlike that of any other process that may decide now. On a disk that has no space at all the file
    is empty, which says failed.
    """
    path = os.path.join(run_dir, "launch", "end.json")
    draft = f"{path}.{writer}"
    try:
        write_json(run_dir, draft, {**facts, "at": time.time()})
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


def write_json(run_dir: str, path: str, facts: dict[str, Any]) -> None:
    """Write a record; on a full disk the space that launch/reserve has kept for this is used."""
    try:
        with open(path, "w", encoding="utf-8") as file:
            json.dump(facts, file)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(os.path.join(run_dir, "launch", "reserve"))
        with open(path, "w", encoding="utf-8") as file:
            json.dump(facts, file)


def is_full(path: str) -> bool:
    """Whether the disk that holds a path has no space left to speak of."""
    try:
        disk = os.statvfs(path)
    except OSError:
        return False
    return disk.f_bavail * disk.f_frsize < FULL_BYTES or (disk.f_files > 0 and disk.f_favail == 0)
