"""Bytes between a store and this machine's disk, checked against the digest that was recorded for them."""

from collections.abc import Callable, Generator
from contextlib import closing, suppress
from pathlib import Path

from tensoryard.errors import AlreadyExistsError, NotFoundError, VerificationError
from tensoryard.store import Entry, Store, is_folder
from tensoryard.store.buffers import sha256_of
from tensoryard.store.disk import plain_errors
from tensoryard.store.keys import CONTENTS, content
from tensoryard.store.part import Part, check, write_whole

# Large enough that one request a chunk costs little, small enough for a node with little memory.
CHUNK_BYTES = 8 << 20
# Of one large value: these, the one that is written and what the memory of another leaves are all that it holds.
_AHEAD = 4
# What is smaller is checked before it is written.
SMALL_BYTES = 1 << 20
_TRIES = 5
HELD_BYTES = (_AHEAD + 2) * CHUNK_BYTES
# What is smaller is fetched again sooner than it is worth to keep the beginning of it.
RESUMED_FROM_BYTES = 64 << 20


def download(store: Store, key: str, path: Path, sha256: str | None = None, size_bytes: int | None = None) -> int:
    """
    The number of bytes written to path, which appears whole and checked or not at all.

    sha256 (hex) and size_bytes: as recorded, if they were. Folders on the way are made; a file at path is replaced.
    Raises NotFoundError when the key is absent, VerificationError when its bytes are not the recorded ones.
    """
    with plain_errors(path, "writing"):
        path.parent.mkdir(parents=True, exist_ok=True)
        with Part(path.parent) as part:
            _fill(part, key, chunks(store, key), size_bytes, lambda count: None)
            part.publish(path, key, size_bytes, sha256)
    return part.size_bytes


def fetch(
    store: Store, entry: Entry, path: Path, sha256: str | None, advance: Callable[[int], None], *, alone: bool = True
) -> str:
    """
    The digest in hex of a stored value that is now at path, as by `download`, but for a power cut soon after.

    advance: told of bytes as they are written; what it raises ends the download, and nothing is left of it.
    alone: whether few others are fetched meanwhile; then a large one comes by several requests side by side.
    """
    if entry.size_bytes < SMALL_BYTES:
        return _fetch_small(store, entry, path, sha256, advance)
    begun = sha256 if entry.size_bytes >= RESUMED_FROM_BYTES else None
    with plain_errors(path, "writing"):
        path.parent.mkdir(parents=True, exist_ok=True)
        with Part(path.parent, begun) as part:
            there = part.size_bytes
            advance(there)
            if alone and not is_folder(store) and entry.size_bytes > CHUNK_BYTES:
                pieces = chunks(store, entry.key, seen=entry, start=there)
            else:
                pieces = store.stream(entry.key, there, entry.etag)
            _fill(part, entry.key, pieces, entry.size_bytes, advance)
            try:
                return part.publish(path, entry.key, entry.size_bytes, sha256, sync=False)
            except VerificationError:
                if not there:
                    raise
                advance(-part.size_bytes)  # the disk lost some of what was there
    return fetch(store, entry, path, sha256, advance, alone=alone)


def _fetch_small(store: Store, entry: Entry, path: Path, sha256: str | None, advance: Callable[[int], None]) -> str:
    """The same for what is checked before any of it is written."""
    import hashlib

    data = b"".join(store.stream(entry.key, 0, entry.etag))
    digest = hashlib.sha256(data).hexdigest()
    check(entry.key, entry.size_bytes, len(data), sha256, digest)
    advance(len(data))
    with plain_errors(path, "writing"):
        for _ in range(_TRIES):
            try:
                write_whole(str(path), data)
            except FileNotFoundError:  # the folder is not there yet, or another download took the part for a dead one
                path.parent.mkdir(parents=True, exist_ok=True)
            else:
                return digest
        write_whole(str(path), data)
    return digest


def _fill(
    part: Part,
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
    store: Store, key: str, size_bytes: int | None = None, *, start: int = 0, seen: Entry | None = None
) -> Generator[memoryview, None, None]:
    """
    The bytes of a key in order, from start on, `CHUNK_BYTES` at a time.

    size_bytes: if it is known; it spares a request. seen: the value that they shall be of, all of them, where what is
    read must not even have been appended to. Raises NotFoundError when the key is absent, VerificationError when it
    was replaced meanwhile.
    """
    if not is_folder(store) and (seen is not None or size_bytes is None or size_bytes >= CHUNK_BYTES):
        yield from _read_ahead(store, key, start, seen)
        return
    while chunk := store.view(key, start, CHUNK_BYTES):
        yield chunk
        start += len(chunk)
        if len(chunk) < CHUNK_BYTES:
            return


def _read_ahead(store: Store, key: str, first: int, seen: Entry | None) -> Generator[memoryview, None, None]:
    """The same over a network, where one request after the other would leave most of it idle."""
    from collections import deque
    from concurrent.futures import Future, ThreadPoolExecutor

    entry = seen or store.stat(key)
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
    if seen is None and (entry.size_bytes <= CHUNK_BYTES or key.startswith(CONTENTS)):
        return
    after = store.stat(key)
    if after is None or (after.etag != entry.etag and (seen is not None or after.size_bytes <= entry.size_bytes)):
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
    with plain_errors(path, "reading"), path.open("rb", buffering=0) as file:
        return sha256_of(file)


def keep_file(store: Store, path: Path) -> tuple[str, Entry]:
    """
    (digest in hex, entry) of a file's bytes, which are kept once under their digest.

    Raises VerificationError when the file changed while it was read.
    """
    with plain_errors(path, "reading"):
        before = path.stat()
    digest = sha256_file(path)
    kept = kept_content(store, digest)
    if kept is not None:
        return digest, kept
    try:
        entry = store.put_file(content(digest), path)
    except AlreadyExistsError:
        return keep_file(store, path)
    with plain_errors(path, "reading"):
        after = path.stat()
    if (before.st_mtime_ns, before.st_size) != (after.st_mtime_ns, after.st_size):
        # Bytes that may not be those of the digest; not what another has put there since.
        store.delete(entry.key, etag=entry.etag)
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
        check(key, size_bytes, entry.size_bytes, sha256, found)
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
