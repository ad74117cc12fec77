# As in file.py: with pathlib this takes a third longer.
# ruff: noqa: PTH103, PTH105, PTH108, PTH110, PTH112, PTH120, PTH123, PTH208
"""
Tags of a folder's values: a JSON file beside each key, which is the truth, and a log a folder, to find them by.

A line of a log says which tags a key has, or is about to have as a value of one ETag. It is there before they are, so
that a writer that is killed leaves a line too many and never one too few. Lines are added under a lock and never
taken away; what they say is looked up. A log that is not there is written anew from the files beside the keys.
"""

import errno
import fcntl
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress

from tensoryard.errors import StoreError, UsageError
from tensoryard.store.disk import plain_errors

# Both begin as no key may. No key has a backslash, so that a log is never where a folder has to be.
_SIDE = ".tags"
_LOGS = ".tags-log"
_LOG = "\\log"
_COMPLETE = "\\complete"
_TRIES = 50

Temporary = Callable[[], tuple[str, int]]


class Tags:
    """
    The tags of a store in a folder.

    root: the store's folder; temporary: makes an empty file on its disk and returns path and descriptor;
    etag: of a key, None when it is absent.
    """

    def __init__(self, root: str, temporary: Temporary, etag: Callable[[str], str | None]) -> None:
        self._side = f"{root}/{_SIDE}"
        self._logs = f"{root}/{_LOGS}"
        self._temporary = temporary
        self._etag = etag
        self._complete = False

    def of(self, key: str) -> dict[str, str]:
        """The tags of a key; empty when it has none, or none that can be read."""
        return self._read(key) or {}

    def note(self, key: str, tags: Mapping[str, str], etag: str) -> None:
        """Make a key be found by tags; with those that a value of this etag is written with, before it is."""
        folder = os.path.dirname(key)
        with plain_errors(f"{self._side}/{key}", "writing tags"):
            self._make_complete()
            self._append(folder, _line(key, tags, etag))

    def put(self, key: str, tags: Mapping[str, str]) -> None:
        """Write down what was noted."""
        path = f"{self._side}/{key}"
        with plain_errors(path, "writing tags"):
            self._write(path, json.dumps(dict(tags), ensure_ascii=False).encode())

    def forget(self, key: str) -> None:
        """Remove the tags of a value that another without tags has replaced."""
        path = f"{self._side}/{key}"
        with plain_errors(path, "writing tags"), suppress(FileNotFoundError, NotADirectoryError):
            os.unlink(path)

    def find(self, tags: Mapping[str, str], prefix: str) -> Iterator[str]:
        """See `Store.find_by_tags`. Raises UsageError when there is no tag to look for."""
        if not tags:
            raise UsageError("find_by_tags: got no tags, one is needed at least")
        folder, _, start = prefix.rpartition("/")
        found: dict[str, set[str]] = {}
        with plain_errors(self._logs, "searching tags"):
            try:
                self._make_complete()
                if not os.path.isdir(f"{self._logs}/{folder}"):
                    self._rebuild(folder)
            except OSError:  # somebody else's store, whose log is not there
                found = {key: set() for key in self._all(folder, start)}
            else:
                for path in _below(f"{self._logs}/{folder}", start):
                    for key, etag in _matching(path, tags):
                        found.setdefault(key, set()).add(etag)
        for key in sorted(found):
            if key.startswith(prefix) and self._has(key, tags, found[key]):
                yield key

    def _has(self, key: str, tags: Mapping[str, str], etags: set[str]) -> bool:
        there = self._etag(key)
        kept = self._read(key)
        # Without any the writer was killed after the value and before its tags.
        return there is not None and (there in etags if kept is None else tags.items() <= kept.items())

    def _read(self, key: str) -> dict[str, str] | None:
        path = f"{self._side}/{key}"
        with plain_errors(path, "reading tags"):
            try:
                with open(path, "rb") as file:
                    found = json.loads(file.read())
            except (FileNotFoundError, NotADirectoryError):
                return None
            except ValueError:  # an index that cannot be read is no index
                return {}
        return {str(k): str(v) for k, v in found.items()} if isinstance(found, dict) else {}

    def _all(self, folder: str, start: str) -> Iterator[str]:
        """Every key that has tags below a folder, in a part whose name begins with start."""
        for name in _names(f"{self._side}/{folder}"):
            if name.startswith(start):
                key = f"{folder}/{name}" if folder else name
                if os.path.isdir(f"{self._side}/{key}"):
                    yield from self._all(key, "")
                else:
                    yield key

    def _make_complete(self) -> None:
        """Log what has tags already, unless that was done once for this store."""
        if self._complete or os.path.exists(f"{self._logs}/{_COMPLETE}"):
            self._complete = True
            return
        if not os.path.isdir(os.path.dirname(self._logs)):  # an empty store is not made by a search
            return
        self._rebuild("")
        self._write(f"{self._logs}/{_COMPLETE}", b"")
        self._complete = True

    def _rebuild(self, folder: str) -> None:
        """Make the logs that are not there for keys that have tags in a folder and below it."""
        below: set[str] = set()
        for key in self._all(folder, ""):
            below.add(os.path.dirname(key))
        for one in sorted(below):
            self._append(one, b"")

    def _append(self, folder: str, line: bytes) -> None:
        path = f"{self._logs}/{folder}/{_LOG}" if folder else f"{self._logs}/{_LOG}"
        for _ in range(_TRIES):
            try:
                fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
            except FileNotFoundError:
                os.makedirs(os.path.dirname(path), exist_ok=True)
                continue
            try:
                fcntl.flock(fd, fcntl.LOCK_EX)
                before = os.fstat(fd)
                if before.st_nlink == 0:  # another took its place while this waited for its turn
                    continue
                if before.st_size == 0:
                    self._begin(folder, path)
                    continue
                try:
                    if os.write(fd, line) != len(line):
                        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                except OSError:
                    os.ftruncate(fd, before.st_size)
                    raise
                fcntl.flock(fd, fcntl.LOCK_UN)
                os.fsync(fd)
                return
            finally:
                os.close(fd)
        raise StoreError(f"`{path}`: vanished {_TRIES} times while it was written")

    def _begin(self, folder: str, path: str) -> None:
        """Write a folder's log, whole, from the tags beside its keys; it may not be the only one that was lost."""
        lines = [b"\n"]
        for name in _names(f"{self._side}/{folder}"):
            key = f"{folder}/{name}" if folder else name
            if os.path.isdir(f"{self._side}/{key}"):
                self._rebuild(key)
            else:
                lines.append(_line(key, self.of(key), ""))
        self._write(path, b"".join(lines))

    def _write(self, path: str, data: bytes) -> None:
        temporary, fd = self._temporary()
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(fd, view) :]
            os.fsync(fd)
            for _ in range(_TRIES):
                try:
                    os.replace(temporary, path)
                    return
                except FileNotFoundError:  # a folder that `delete` removes once it is empty
                    with suppress(FileNotFoundError, FileExistsError):
                        os.makedirs(os.path.dirname(path), exist_ok=True)
            raise StoreError(f"`{path}`: its folder vanished {_TRIES} times while it was written")
        finally:
            os.close(fd)
            with suppress(OSError):
                os.unlink(temporary)


def _line(key: str, tags: Mapping[str, str], etag: str) -> bytes:
    # The break comes first: half a line, of a disk that was full, ends there.
    return b"\n" + json.dumps({"key": key, "etag": etag, "tags": dict(tags)}, separators=(",", ":")).encode()


def _matching(path: str, tags: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """(key, ETag) of the lines of a log that have every tag; only those with the rarest of them are read."""
    try:
        with open(path, "rb") as file:
            data = file.read()
    except FileNotFoundError:
        return
    pairs = [json.dumps({name: value}, separators=(",", ":"))[1:-1].encode() for name, value in tags.items()]
    rarest = min(pairs, key=data.count)
    at = data.find(rarest)
    while at != -1:
        end = data.find(b"\n", at)
        line = data[data.rfind(b"\n", 0, at) + 1 : end if end != -1 else len(data)]
        try:
            found = json.loads(line)
            if tags.items() <= found["tags"].items():
                yield str(found["key"]), str(found["etag"])
        except (ValueError, KeyError, TypeError, AttributeError):
            pass
        at = data.find(rarest, end) if end != -1 else -1


def _below(folder: str, start: str) -> Iterator[str]:
    """Paths of a folder's log and of those below it, in a part whose name begins with start."""
    for name in _names(folder):
        path = f"{folder}/{name}"
        if name == _LOG:
            yield path
        elif name.startswith(start) and name != _COMPLETE:
            yield from _below(path, "")


def _names(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return []
