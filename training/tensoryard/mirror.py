"""
What a run writes in its work folder, carried into a store that is no folder, where clients read it.

Nothing is remembered: how much of a log has been carried is what the store holds of it, so a controller that was
killed is gone on from.
"""

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from tensoryard.errors import StoreError, TensoryardError, UsageError, VerificationError
from tensoryard.run import RunRecord
from tensoryard.store import Entry, is_folder, keys
from tensoryard.store.parallel import each

# With a client that looks as often, a line is seen 3 s after it was written at the latest.
LOOK_SECONDS = 1.0
AWAY_SECONDS = 15.0
BLOCK_BYTES = 4 << 20
# An append blob takes 50,000 appends: for 5 hours of steady writing one a second, then half as many for every 3,000.
MANY_APPENDS, EASED_APPENDS = 20_000, 3_000


class Growing:
    """A file that is only ever added to. sent: how much of it the store holds, None until that is known."""

    def __init__(self, path: Path, key: str) -> None:
        self.path = path
        self.key = key
        self.sent: int | None = None
        self.appends = 0
        self.due_at = 0.0

    def pause_seconds(self) -> float:
        return LOOK_SECONDS * float(2 ** (max(0, self.appends - MANY_APPENDS) // EASED_APPENDS))


class _Seen(NamedTuple):
    inode: int
    size_bytes: int
    modified_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> "_Seen":
        return cls(status.st_ino, status.st_size, status.st_mtime_ns)


class Mirror:
    """
    Carries while it is open, in a thread of its own, and no more than a second or two behind.

    With a store that is a folder it does nothing: the run is worked on in the store itself.
    """

    def __init__(self, run: RunRecord, folder: Path) -> None:
        self.run = run
        self.folder = folder
        self.needed = not is_folder(run.store)
        self._growing: dict[Path, Growing] = {}
        self._records: dict[Path, _Seen] = {}
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._carry_on, name=f"{run.id} mirror")

    def __enter__(self) -> "Mirror":
        if self.needed:
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self.needed:
            return
        self._closing.set()
        self._thread.join()
        if isinstance(error, Exception) and not isinstance(error, StoreError):
            self.flush()  # what led to it

    def flush(self) -> None:
        """Returns when the store holds what logs, metrics and records held at the call. Raises StoreError."""
        if self.needed:
            with self._lock:
                self._carry(lambda file: True)

    def finish(self) -> list[str]:
        """
        Carry what is left once the tasks are over: the script's own files in ./logs. Raises StoreError.

        Returns what was left out and why, in words.
        """
        if not self.needed:
            return []
        self.flush()
        followed = self._growing.keys()
        left = [
            path
            for top in ("logs", "metrics")
            for here, _, names in os.walk(self.folder / top)
            for path in (Path(here, name) for name in sorted(names))
            if path not in followed and path.is_file() and not path.is_symlink()
        ]
        there = {
            entry.key: entry for top in ("logs/", "metrics/") for entry in self.run.store.list(self.run.key(top))
        }

        def carry(path: Path) -> str | None:
            name = path.relative_to(self.folder).as_posix()
            try:
                key = keys.check_key(self.run.key(name), "its name cannot be kept")
                keep_whole(self.run, key, path, there.get(key), path.stat())
            except (UsageError, ChangingError) as error:
                return f"{name!a} was left out: {error}"
            except OSError as error:
                return f"{name!a} was left out: {error.strerror}"
            return None

        return [said for said in each(self.run.store, carry, left) if said]

    def _carry_on(self) -> None:
        pause = LOOK_SECONDS
        while not self._closing.wait(pause):
            try:
                with self._lock:
                    self._carry(lambda file: time.monotonic() >= file.due_at)
                pause = LOOK_SECONDS
            except (TensoryardError, OSError) as error:
                pause = min(pause * 2, AWAY_SECONDS)
                print(f"{self.run.id}: {error}", file=sys.stderr, flush=True)

    def _carry(self, is_due: Callable[[Growing], bool]) -> None:
        grown = [file for file in self._followed() if is_due(file) and _size(file.path) not in (None, file.sent)]
        changed = [path for path in self._record_paths() if self._has_changed(path)]
        each(self.run.store, self._append, grown)
        each(self.run.store, self._replace, changed)

    def _followed(self) -> list[Growing]:
        names = ("preparing", "launch", *(task.name for task in self.run.job.tasks()))
        for path in (*(self.folder / f"logs/{name}.log" for name in names), *self.folder.glob("metrics/*.jsonl")):
            if path not in self._growing and path.is_file():
                self._growing[path] = Growing(path, self.run.key(path.relative_to(self.folder).as_posix()))
        return list(self._growing.values())

    def _append(self, file: Growing) -> None:
        store = self.run.store
        absent = False
        if file.sent is None:
            entry = store.stat(file.key)
            file.sent, absent = (entry.size_bytes, False) if entry else (0, True)
        try:
            with file.path.open("rb") as local:
                local.seek(file.sent)
                # A log that nothing was written to is a file of the run too.
                while (block := local.read(BLOCK_BYTES)) or absent:
                    store.append(file.key, block, at=file.sent)
                    absent = False
                    file.sent += len(block)
                    file.appends += 1
        except StoreError:
            file.sent = None  # whether it was added or not is seen in the store
            raise
        file.due_at = time.monotonic() + file.pause_seconds()

    def _record_paths(self) -> Iterator[Path]:
        launch = self.folder / "launch"
        for path in (launch / "run.sh", launch / "layout.json", launch / "slurm.json", launch / "end.json"):
            if path.exists():
                yield path
        yield from launch.glob("tf_config/*.json")
        yield from self.folder.glob("tasks/*.json")

    def _has_changed(self, path: Path) -> bool:
        try:
            return _Seen.of(path.stat()) != self._records.get(path)
        except FileNotFoundError:  # Slurm starts the run again, and what an attempt recorded is set aside
            return False

    def _replace(self, path: Path) -> None:
        try:
            seen, text = _Seen.of(path.stat()), path.read_bytes()
        except FileNotFoundError:
            return
        # Replaced, unlike all else of a run: a launch that came to nothing is rendered again for other ports.
        self.run.store.put(self.run.key(path.relative_to(self.folder).as_posix()), text, overwrite=True)
        self._records[path] = seen


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except FileNotFoundError:  # the script may clear its own logs away
        return None


class ChangingError(Exception):
    """Why a file cannot be kept."""


def keep_whole(run: RunRecord, key: str, path: Path, there: Entry | None, status: os.stat_result) -> Entry:
    """
    The entry of a file of a run that is over, kept under its key.

    there: what the store has, as a controller that was killed may have left it; status: of the file when its digest
    was taken. Raises ChangingError for a file that has been written to since, OSError for one that cannot be read.
    """
    path.open("rb").close()
    changing = ChangingError("something goes on writing to it")
    if there is None or there.size_bytes != status.st_size:
        try:
            there = run.store.put_file(key, path, overwrite=there is not None)
        except VerificationError:
            raise changing from None
    if _Seen.of(path.stat()) != _Seen.of(status) or there.size_bytes != status.st_size:
        raise changing
    return there
