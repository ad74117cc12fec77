"""Bytes between a store and this machine's disk, checked against the digest that was recorded for them."""

import fcntl
import os
from collections.abc import Callable, Container, Generator
from contextlib import closing, suppress
from io import FileIO
from pathlib import Path

from tensoryard.errors import AlreadyExistsError, NotFoundError, VerificationError
from tensoryard.store import Entry, Store, is_folder
from tensoryard.store.disk import plain_errors
from tensoryard.store.keys import CONTENTS, content

# Large enough that one request a chunk costs little, small enough for a node with little memory.
CHUNK_BYTES = 8 << 20
# Of one large value: these, the one that is written and what the memory of another leaves are all that it holds.
_AHEAD = 4
HELD_BYTES = (_AHEAD + 2) * CHUNK_BYTES
# What is smaller is fetched again sooner than it is worth to keep the beginning of it.
RESUMED_FROM_BYTES = 64 << 20
_REREAD_BYTES = 1 << 20
PART_PREFIX = ".tyard-part-"


def download(store: Store, key: str, path: Path, sha256: str | None = None, size_bytes: int | None = None) -> int:
    """
    The number of bytes written to path, which appears whole and checked or not at all.

    sha256 (hex) and size_bytes: as recorded, if they were. Folders on the way are made; a file at path is replaced.
    Raises NotFoundError when the key is absent, VerificationError when its bytes are not the recorded ones.
    """
    with plain_errors(path, "writing"):
        path.parent.mkdir(parents=True, exist_ok=True)
        with _Part(path.parent) as part:
            _fill(part, key, chunks(store, key), size_bytes, lambda count: None)
            part.publish(path, key, size_bytes, sha256)
    return part.size_bytes


def fetch(store: Store, entry: Entry, path: Path, sha256: str | None, advance: Callable[[int], None]) -> str:
    """
    The digest in hex of a stored value that is now at path, as by `download`; large ones come in pieces at once.

    advance: told of bytes as they are written; what it raises ends the download, and nothing is left of it.
    """
    begun = sha256 if entry.size_bytes >= RESUMED_FROM_BYTES else None
    with plain_errors(path, "writing"):
        path.parent.mkdir(parents=True, exist_ok=True)
        with _Part(path.parent, begun) as part:
            there = part.size_bytes
            advance(there)
            pieces = chunks(store, entry.key, entry.size_bytes, start=there)
            _fill(part, entry.key, pieces, entry.size_bytes, advance)
            try:
                return part.publish(path, entry.key, entry.size_bytes, sha256)
            except VerificationError:
                if not there:
                    raise
                advance(-part.size_bytes)  # the disk lost some of what was there
    return fetch(store, entry, path, sha256, advance)


def remove_parts(folder: Path, keep: Container[str] = ()) -> None:
    """
    Remove what downloads that were killed left in a folder; those of others that go on are theirs.

    keep: digests in hex of the files that are fetched next, the beginnings of which are used.
    """
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            name = entry.name.removeprefix(PART_PREFIX)
            if name != entry.name and name not in keep and entry.is_file(follow_symlinks=False):
                with suppress(OSError), Path(entry.path).open("rb") as part:
                    fcntl.flock(part, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    Path(entry.path).unlink()


class _Part:
    """
    A file that becomes another once it is whole; gone when the block is left, unless sha256 names what it begins.

    sha256: of what it shall be, in hex: the next part of that digest in this folder begins where this one ended.
    size_bytes: how much of it is there.
    """

    def __init__(self, folder: Path, sha256: str | None = None) -> None:
        import hashlib

        self._digest = hashlib.sha256()
        self.size_bytes = 0
        self._path = folder / f"{PART_PREFIX}{sha256}"
        begun = _taken(self._path) if sha256 else None
        self._kept = begun is not None
        if begun is None:
            self._path = folder / f"{PART_PREFIX}{os.urandom(8).hex()}"
            self._file = self._path.open("xb", buffering=0)
            with suppress(OSError):  # a disk without locks
                fcntl.flock(self._file, fcntl.LOCK_EX)
            return
        self._file = begun
        buffer = bytearray(_REREAD_BYTES)
        while count := begun.readinto(buffer):
            self._digest.update(memoryview(buffer)[:count])
            self.size_bytes += count

    def __enter__(self) -> "_Part":
        return self

    def __exit__(self, *failure: object) -> None:
        if not self._kept:
            with suppress(OSError):
                self._path.unlink()
        self._file.close()

    def add(self, data: bytes | memoryview) -> None:
        self._digest.update(data)
        view = memoryview(data)
        while view:
            view = view[self._file.write(view) :]
        self.size_bytes += len(data)

    def publish(self, path: Path, key: str, size_bytes: int | None, sha256: str | None) -> str:
        """The digest in hex of what is at path now. Raises VerificationError, and then the part is no use."""
        digest = self._digest.hexdigest()
        try:
            _check(key, size_bytes, self.size_bytes, sha256, digest)
        except VerificationError:
            self._kept = False
            raise
        os.fsync(self._file.fileno())
        self._path.replace(path)
        self._kept = True
        return digest


def _taken(path: Path) -> FileIO | None:
    """A part that another download began, or a new one; None while somebody is at it."""
    file = path.open("a+b", buffering=0)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Whoever was at it may have given it its final name.
        if os.path.samestat(path.stat(), os.fstat(file.fileno())):
            file.seek(0)
            return file
    except OSError:  # or a disk without locks
        pass
    file.close()
    return None


def _fill(
    part: _Part,
    key: str,
    pieces: Generator[memoryview, None, None],
    size_bytes: int | None,
    advance: Callable[[int], None],
) -> None:
    with closing(pieces):
        for piece in pieces:
            part.add(piece)
            if size_bytes is not None and part.size_bytes > size_bytes:
                return
            advance(len(piece))


def chunks(
    store: Store, key: str, size_bytes: int | None = None, *, start: int = 0
) -> Generator[memoryview, None, None]:
    """
    The bytes of a key in order, from start on, `CHUNK_BYTES` at a time.

    size_bytes: if it is known; it spares a request. Raises NotFoundError when the key is absent.
    """
    if not is_folder(store) and (size_bytes is None or size_bytes >= CHUNK_BYTES):
        yield from _read_ahead(store, key, start)
        return
    while chunk := store.view(key, start, CHUNK_BYTES):
        yield chunk
        start += len(chunk)
        if len(chunk) < CHUNK_BYTES:
            return


def _read_ahead(store: Store, key: str, first: int) -> Generator[memoryview, None, None]:
    """The same over a network, where one request after the other would leave most of it idle."""
    from collections import deque
    from concurrent.futures import Future, ThreadPoolExecutor

    entry = store.stat(key)
    if entry is None:
        raise NotFoundError(f"`{key}`: is not in the store")
    waiting: deque[Future[memoryview]] = deque()
    pool = ThreadPoolExecutor(_AHEAD, "tyard-read")
    try:
        for start in range(first, entry.size_bytes, CHUNK_BYTES):
            length = min(CHUNK_BYTES, entry.size_bytes - start)
            waiting.append(pool.submit(store.view, key, start, length))
            if len(waiting) == _AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
    # Contents under their digest never change; who goes on using them gives them a new etag.
    if entry.size_bytes > CHUNK_BYTES and not key.startswith(CONTENTS):
        after = store.stat(key)
        if after is None or (after.etag != entry.etag and after.size_bytes <= entry.size_bytes):
            hint = "wait until nothing writes to it, and try again"
            raise VerificationError(f"`{key}`: was replaced while it was read", hint)


def sha256_key(store: Store, key: str) -> str:
    """The digest of a stored value, in hex. Raises NotFoundError when the key is absent."""
    import hashlib

    digest = hashlib.sha256()
    for chunk in chunks(store, key):
        digest.update(chunk)
    return digest.hexdigest()


def sha256_file(path: Path) -> str:
    """The digest of a file on this machine, in hex. Raises StoreError when it cannot be read."""
    import hashlib

    with plain_errors(path, "reading"), path.open("rb", buffering=0) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def keep_file(store: Store, path: Path) -> tuple[str, Entry]:
    """
    (digest in hex, entry) of a file's bytes, which are kept once under their digest.

    Raises VerificationError when the file changed while it was read.
    """
    with plain_errors(path, "reading"):
        before = path.stat()
    digest = sha256_file(path)
    key = content(digest)
    kept = kept_content(store, digest)
    if kept is not None:
        return digest, kept
    try:
        entry = store.put_file(key, path)
    except AlreadyExistsError:
        return keep_file(store, path)
    with plain_errors(path, "reading"):
        after = path.stat()
    if (before.st_mtime_ns, before.st_size) != (after.st_mtime_ns, after.st_size):
        store.delete(key)  # bytes that may not be those of the digest
        hint = "wait until nothing writes to it, and try again"
        raise VerificationError(f"`{path}`: changed while it was copied into the store", hint)
    return digest, entry


def kept_content(store: Store, sha256: str) -> Entry | None:
    """The entry of contents that are in the store, which no clean-up removes for a day from now; None without."""
    return store.stat(content(sha256)) if store.touch(content(sha256)) else None


def keep_key(store: Store, key: str, sha256: str, size_bytes: int) -> Entry:
    """
    The entry under its digest of a value that is already in the store, copied there unless it was before.

    Raises NotFoundError when key is absent, VerificationError when its bytes are not those of the digest.
    """
    kept = kept_content(store, sha256)
    if kept is not None:
        return kept
    local = store.local_path(key)
    if local is not None:
        found, entry = keep_file(store, local)
        _check(key, size_bytes, entry.size_bytes, sha256, found)
        return entry
    import tempfile

    with plain_errors(tempfile.gettempdir(), "writing"), tempfile.TemporaryDirectory(prefix="tyard-") as folder:
        # By way of a private file, so that what is checked is what is kept.
        path = Path(folder) / "content"
        download(store, key, path, sha256, size_bytes)
        with suppress(AlreadyExistsError):
            return store.put_file(content(sha256), path)
    kept = store.stat(content(sha256))
    if kept is None:
        raise NotFoundError(f"`{content(sha256)}`: was removed while it was copied", "try again")
    return kept


def _check(key: str, size_bytes: int | None, written: int, sha256: str | None, digest: str) -> None:
    if size_bytes is not None and written != size_bytes:
        at_least = "at least " if written > size_bytes else ""
        raise VerificationError(f"`{key}`: got {at_least}{written} bytes, recorded were {size_bytes}")
    if sha256 is not None and digest != sha256:
        raise VerificationError(f"`{key}`: got sha256 {digest}, recorded was {sha256}")
