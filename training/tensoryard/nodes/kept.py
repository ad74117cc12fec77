"""
Files that the programs of a cluster keep. Slurm runs these as its own user, and a person may run one as root: what
root leaves in the folder is the folder's owner's, or Slurm's programs could not open it any more.
"""

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any


@contextlib.contextmanager
def opened(path: Path) -> Iterator[int]:
    """A file to lock: made where there is none, open for reading at least. Gives its descriptor."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except PermissionError:  # somebody else's, which can be locked all the same
        descriptor = os.open(path, os.O_RDONLY)
    try:
        _leave(path)
        yield descriptor
    finally:
        os.close(descriptor)


def append(path: Path, text: str) -> None:
    """Add to a file, made where there is none. Raises OSError."""
    with path.open("a", encoding="utf-8") as file:
        file.write(text)
    _leave(path)


def read(path: Path) -> dict[str, Any]:
    """What was written there of nodes, by their names; nothing where there is no such file."""
    with contextlib.suppress(OSError, ValueError):
        return dict(json.loads(path.read_text()))
    return {}


def write(path: Path, known: Mapping[str, Any]) -> None:
    """Replace what is known of nodes, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(f".{os.getpid()}")
    draft.write_text(json.dumps(known, sort_keys=True))
    _leave(draft)
    draft.replace(path)


def _leave(path: Path) -> None:
    if os.geteuid() == 0:
        owner = path.parent.stat()
        os.chown(path, owner.st_uid, owner.st_gid)
