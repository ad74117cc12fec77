"""Bytes between a store and this machine's disk, checked against the digest that was recorded for them."""

import fcntl
import os
from collections.abc import Callable, Generator
from contextlib import closing, suppress
from pathlib import Path
from typing import BinaryIO

from tensoryard.errors import AlreadyExistsError, NotFoundError, VerificationError
from tensoryard.store import Entry, Store, is_folder
from tensoryard.store.disk import plain_errors
from tensoryard.store.keys import content

# Large enough that one request a chunk costs little, small enough for a node with little memory.
CHUNK_BYTES = 8 << 20
# Of one large value: their 64 MiB are all that a download holds.
_AHEAD = 8
PART_PREFIX = ".tyard-part-"


def download(store: Store, key: str, path: Path, sha256: str | None = None, size_bytes: int | None = None) -> int:
    """
    The number of bytes written to path, which appears whole and checked or not at all.

    sha256 (hex) and size_bytes: as recorded, if they were. Folders on the way are made; a file at path is replaced.
    Raises NotFoundError when the key is absent, VerificationError when its bytes are not the recorded ones.
    """
    return _write(key, path, chunks(store, key), sha256, size_bytes, lambda count: None)[0]


def fetch(store: Store, entry: Entry, path: Path, sha256: str | None, advance: Callable[[int], None]) -> str:
    """
    The digest in hex of a stored value that is now at path, as by `download`; large ones come in pieces at once.

    advance: told of bytes as they are written; what it raises ends the download, and nothing is left of it.
    """
    pieces = chunks(store, entry.key, entry.size_bytes)
    return _write(entry.key, path, pieces, sha256, entry.size_bytes, advance)[1]


def remove_parts(folder: Path) -> None:
    """Remove what downloads that were killed left in a folder; those of others that go on are theirs."""
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(PART_PREFIX) and entry.is_file(follow_symlinks=False):
                with suppress(OSError), Path(entry.path).open("rb") as part:
                    fcntl.flock(part, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    Path(entry.path).unlink()


def _write(
    key: str,
    path: Path,
    pieces: Generator[bytes, None, None],
    sha256: str | None,
    size_bytes: int | None,
    advance: Callable[[int], None],
) -> tuple[int, str]:
    import hashlib

    digest = hashlib.sha256()
    written = 0
    part = path.parent / f"{PART_PREFIX}{os.urandom(8).hex()}"
    with plain_errors(path, "writing"), closing(pieces):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with part.open("xb", buffering=0) as file:
                with suppress(OSError):  # a disk without locks
                    fcntl.flock(file, fcntl.LOCK_EX)
                for chunk in pieces:
                    written += len(chunk)
                    if size_bytes is not None and written > size_bytes:
                        break
                    digest.update(chunk)
                    _write_all(file, chunk)
                    advance(len(chunk))
                os.fsync(file.fileno())
                _check(key, size_bytes, written, sha256, digest.hexdigest())
                part.replace(path)
        finally:
            with suppress(OSError):
                part.unlink()
    return written, digest.hexdigest()


def chunks(store: Store, key: str, size_bytes: int | None = None) -> Generator[bytes, None, None]:
    """
    The bytes of a key in order, `CHUNK_BYTES` at a time.

    size_bytes: if it is known; it spares a request. Raises NotFoundError when the key is absent.
    """
    if not is_folder(store) and (size_bytes is None or size_bytes >= CHUNK_BYTES):
        yield from _read_ahead(store, key)
        return
    offset = 0
    while chunk := store.read(key, offset, CHUNK_BYTES):
        yield chunk
        offset += len(chunk)
        if len(chunk) < CHUNK_BYTES:
            return


def _read_ahead(store: Store, key: str) -> Generator[bytes, None, None]:
    """The same over a network, where one request after the other would leave most of it idle."""
    from collections import deque
    from concurrent.futures import Future, ThreadPoolExecutor

    entry = store.stat(key)
    if entry is None:
        raise NotFoundError(f"`{key}`: is not in the store")
    waiting: deque[Future[bytes]] = deque()
    pool = ThreadPoolExecutor(_AHEAD, "tyard-read")
    try:
        for start in range(0, entry.size_bytes, CHUNK_BYTES):
            length = min(CHUNK_BYTES, entry.size_bytes - start)
            waiting.append(pool.submit(store.read, key, start, length))
            if len(waiting) == _AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
    if entry.size_bytes > CHUNK_BYTES:
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
    kept = store.stat(key)
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


def keep_key(store: Store, key: str, sha256: str, size_bytes: int) -> Entry:
    """
    The entry under its digest of a value that is already in the store, copied there unless it was before.

    Raises NotFoundError when key is absent, VerificationError when its bytes are not those of the digest.
    """
    kept = store.stat(content(sha256))
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


def _write_all(file: BinaryIO, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]


def _check(key: str, size_bytes: int | None, written: int, sha256: str | None, digest: str) -> None:
    if size_bytes is not None and written != size_bytes:
        at_least = "at least " if written > size_bytes else ""
        raise VerificationError(f"`{key}`: got {at_least}{written} bytes, recorded were {size_bytes}")
    if sha256 is not None and digest != sha256:
        raise VerificationError(f"`{key}`: got sha256 {digest}, recorded was {sha256}")
