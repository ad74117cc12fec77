"""
Pulls a run's image onto the node that it runs on, once for all runs there; started by launch/pull_image.py.

How far it is stands in launch/pulling/<node>.json of the run, and why it failed in launch/end.json. Whoever ends the
run by that file ends the pull too.
"""

import http.client
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, cast

import msgspec

from tensoryard.end_record import decide_end, end_path
from tensoryard.environment import interruption
from tensoryard.environment.image_folders import ImageFolders, short
from tensoryard.environment.image_noted import Pull
from tensoryard.environment.in_use import given
from tensoryard.errors import TensoryardError
from tensoryard.registry.oci_client import BrokenRequestError, Client
from tensoryard.registry.oci_manifest import Place
from tensoryard.text import size

OLD_DAYS = 30
UNPACKED = 4  # bytes on the disk for one that is sent: two to four times as many
_TELL_S = 2.0


class RunEndedError(Exception):
    """The run was ended while its image was pulled."""


class Counted:
    """An image in a registry, read with every byte counted. told: is given how many there were so far."""

    def __init__(self, client: Client, told: Callable[[int], None]) -> None:
        self._client = client
        self._told = told
        self._done = 0

    def manifest(self, digest: str) -> bytes:
        return self._client.manifest(digest)

    def open_blob(self, digest: str) -> IO[bytes]:
        return cast("IO[bytes]", _Read(self._client.open_blob(digest), self._count))

    def _count(self, found: int) -> None:
        self._done += found
        self._told(self._done)


class _Read:
    def __init__(self, file: IO[bytes], count: Callable[[int], None]) -> None:
        self._file = file
        self._count = count

    def read(self, count: int = -1) -> bytes:
        try:
            found = self._file.read(count)
        except (OSError, http.client.HTTPException) as error:
            raise BrokenRequestError(f"the registry stopped in the middle of a layer: {error}") from None
        self._count(len(found))
        return found

    def __enter__(self) -> "_Read":
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()


def main() -> int:
    run_dir = Path(os.environ["TYARD_RUN_DIR"])
    node = os.environ.get("SLURMD_NODENAME") or os.uname().nodename
    told = _Telling(run_dir / "launch" / "pulling" / f"{node}.json")
    try:
        with interruption.checked_by(_ended_look(run_dir)):
            pulled(run_dir, told)
    except RunEndedError:
        return 1
    except (TensoryardError, OSError) as error:
        said = error.message if isinstance(error, TensoryardError) else str(error)
        reason = f"{node}: its image cannot be pulled: {said}"
        print(reason, flush=True)
        decide_end(str(run_dir), f"pull-{node}", {"outcome": "failed", "reason": reason})
        return 1
    return 0


def pulled(run_dir: Path, told: "_Telling") -> Path:
    """The folder of a run's image on this node, which from now on the run has."""
    layout: dict[str, Any] = msgspec.json.decode((run_dir / "launch" / "layout.json").read_bytes())
    pull = msgspec.json.decode((run_dir / "environment" / "pull.json").read_bytes(), type=Pull)
    cache = Path(layout["image"]["on_node"])
    cache.mkdir(parents=True, exist_ok=True)
    images = ImageFolders(cache, lambda name: cache / ".flocks" / name)
    told.total = pull.size_bytes
    # Another run's pull may make room just now, by an image that no run had yet.
    while (found := images.find(pull.digest)) is None or not _had(found, run_dir):
        for gone in images.prune(OLD_DAYS, free_bytes=UNPACKED * pull.size_bytes):
            _say(f"removed image {short(gone.folder.name)}, which nobody uses: {size(gone.own_bytes)}")
        client = Client(Place(pull.registry, pull.repository, pull.digest))
        images.unpack(Counted(client, told), pull.digest, _say)
    told(pull.size_bytes, last=True)
    return found


def _had(image: Path, run_dir: Path) -> bool:
    """Whether an image is there, and stays there until the run has ended."""
    given(image, run_dir)
    return (image / "image.json").exists()


class _Telling:
    """Writes how many bytes of how many are there, no oftener than every two seconds: each time is an event."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._at = 0.0
        self.total = 0

    def __call__(self, done: int, last: bool = False) -> None:
        if not last and time.monotonic() - self._at < _TELL_S:
            return
        self._at = time.monotonic()
        draft = self._path.with_suffix(".draft")
        draft.write_bytes(msgspec.json.encode({"done": done, "total": self.total}))
        draft.replace(self._path)


def _ended_look(run_dir: Path) -> Callable[[], None]:
    path, looked_at = Path(end_path(str(run_dir))), 0.0

    def look() -> None:
        nonlocal looked_at
        if time.monotonic() - looked_at >= interruption.LOOK_SECONDS:
            looked_at = time.monotonic()
            if path.exists():
                raise RunEndedError

    return look


def _say(line: str) -> None:
    print(f"{os.uname().nodename}: {line}", flush=True)
