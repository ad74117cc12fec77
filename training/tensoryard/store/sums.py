"""
The digests of the datastore's files, noted when they were written or read whole, so that nobody reads them again.

A note holds for one ETag: a file that anybody replaced since has no digest until it is read. Notes are an index
that can be thrown away: what is unknown is read. A store in a folder needs none, as reading there costs little.
"""

import hashlib
import time
from collections.abc import Iterable
from contextlib import suppress
from threading import Lock

import msgspec

from tensoryard.errors import NotFoundError, StoreError
from tensoryard.store import Entry, Store, is_folder, keys
from tensoryard.store.transfer import sha256_key

# What a kill can cost: so much is read once more by the next transfer.
_AT_MOST = 500
_AT_LEAST_EVERY_S = 2.0
# Lines that say nothing any more, before they are written anew without those; and more of them than of the others.
_USELESS = 10_000
_TRIES = 3


class Sum(msgspec.Struct, frozen=True, kw_only=True):
    """A line of the notes. sha256: in hex, of the bytes that had this etag."""

    key: str
    size_bytes: int
    etag: str
    sha256: str


class Sums:
    """
    The digests of files below some paths of the datastore. Safe between threads.

    paths: of files; a download's are what a listing gave. Nothing is read until `load`.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self.kept = not is_folder(store)
        self._known: dict[str, Sum] = {}
        self._waiting: list[Sum] = []
        self._noted_at = time.monotonic()
        self._lock = Lock()
        self._writing = Lock()
        self._number: dict[str, int] = {}

    def load(self, paths: Iterable[str]) -> None:
        """Read what was noted for these paths. What cannot be read is unknown."""
        if not self.kept:
            return
        for top in sorted({_top(path) for path in paths}):
            with suppress(StoreError):
                for _ in range(_TRIES):
                    try:
                        self._load(top)
                        break
                    except NotFoundError:  # another wrote the notes anew since they were listed
                        continue

    def known(self, entry: Entry) -> str | None:
        """The digest of a stored file in hex, if it was noted for these very bytes."""
        found = self._known.get(entry.key)
        return found.sha256 if found and (found.etag, found.size_bytes) == (entry.etag, entry.size_bytes) else None

    def of(self, entry: Entry) -> str:
        """The digest of a stored file in hex; one that is not known is read. Raises NotFoundError when it is gone."""
        known = self.known(entry)
        if known:
            return known
        digest = sha256_key(self.store, entry.key)
        self.note(entry, digest, sure=False)
        return digest

    def note(self, entry: Entry, sha256: str, *, sure: bool = True) -> None:
        """
        Keep a digest.

        sure: whether the bytes certainly had the entry's etag; else it is asked for whether they still do.
        """
        if not self.kept or (not sure and self.store.stat(entry.key) != entry):
            return
        line = Sum(key=entry.key, size_bytes=entry.size_bytes, etag=entry.etag, sha256=sha256)
        with self._lock:
            self._known[entry.key] = line
            self._waiting.append(line)
            now = time.monotonic()
            if len(self._waiting) < _AT_MOST and now - self._noted_at < _AT_LEAST_EVERY_S:
                return
            self._noted_at = now
        self.flush()

    def flush(self) -> None:
        """Write what was noted. A store that refuses it loses nothing but time."""
        with self._writing:
            with self._lock:
                waiting, self._waiting = self._waiting, []
            by_top: dict[str, list[Sum]] = {}
            for line in waiting:
                by_top.setdefault(_top(line.key.removeprefix(keys.DATA)), []).append(line)
            for top, lines in by_top.items():
                with suppress(StoreError):
                    newest = self._newest(top)
                    try:
                        self._append(top, newest, lines)
                    except StoreError:  # an append blob takes 50,000 appends; then the next one is begun
                        self._append(top, newest + 1, lines)

    def _load(self, top: str) -> None:
        decoder = msgspec.json.Decoder(Sum)
        found: dict[str, Sum] = {}
        read = 0
        logs = [entry.key for entry in self.store.list(keys.data_sums(_digest(top)))]
        for log in logs:
            self._number[top] = keys.parse_data_sums(log) or 0
            for text in self.store.read(log).splitlines():
                read += 1
                with suppress(msgspec.DecodeError):
                    line = decoder.decode(text)
                    found[line.key] = line
        self._known |= found
        if read - len(found) > max(_USELESS, len(found)):
            # Whoever else notes something now loses it, and reads those files once more.
            self._append(top, self._number[top] + 1, found.values())
            for log in logs:
                self.store.delete(log)

    def _newest(self, top: str) -> int:
        """The number of the last of a folder's logs."""
        if top not in self._number:
            logs = [keys.parse_data_sums(entry.key) or 0 for entry in self.store.list(keys.data_sums(_digest(top)))]
            self._number[top] = max(logs, default=0)
        return self._number[top]

    def _append(self, top: str, number: int, lines: Iterable[Sum]) -> None:
        data = b"".join(msgspec.json.encode(line) + b"\n" for line in lines)
        self.store.append(keys.data_sums(_digest(top), number), data)
        self._number[top] = number


def _top(path: str) -> str:
    """The folder of the datastore whose files are noted together."""
    return path.partition("/")[0] if "/" in path else ""


def _digest(top: str) -> str:
    return hashlib.sha256(top.encode()).hexdigest()[:32]
