"""Values written whole: by one request where they are small, by blocks side by side where they are not."""

import hashlib
import os
import secrets
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Condition, Event
from typing import Any, Literal

from azure.core import MatchConditions
from azure.core.exceptions import HttpResponseError, ResourceExistsError, ResourceModifiedError
from azure.storage.blob import BlobBlock, BlobClient

from tensoryard.errors import StoreError
from tensoryard.store import Entry, Sent
from tensoryard.store.blob_account import Clients
from tensoryard.store.blob_errors import code_of, is_taken, persist, taken
from tensoryard.store.buffers import Body, filled
from tensoryard.store.disk import check_unchanged, open_file

# By one request, and from memory: fewer round trips, and its retries cost no more than those of the blocks in flight.
WHOLE_BYTES = 64 << 20
# Of what is larger, blocks of 8 MiB: 8 at a time fill a fast link, and their 64 MiB are all that an upload holds.
BLOCK_BYTES = 8 << 20
SIDE_BY_SIDE = 8
_MOST_BLOCKS = 50_000
# What is larger may take longer on a slow line than any other request.
_LARGE_BYTES = 1 << 20
# Blocks; what is smaller is sent again sooner than it is asked for.
_RESUMED_FROM = 8
# Who finds the key taken after an answer got lost knows its own value by this.
_NONCE = "tyardnonce"
# Each lost to another writer of the same key, who was done first.
_TRIES = 20


def put_bytes(
    clients: Clients, key: str, data: bytes, *, overwrite: bool, tags: dict[str, str] | None = None
) -> Entry:
    """The entry of the value that was written. Raises AlreadyExistsError, else the SDK's errors."""
    return _put(clients, key, data, secrets.token_hex(8), overwrite=overwrite, tags=tags)


def _put_whole(clients: Clients, key: str, data: memoryview, *, overwrite: bool) -> Entry:
    """
    The same for the files of a folder; the entry's time is this machine's, to the second.

    A request of the SDK takes 2 ms of a core, and one of obstore 0.3 ms.
    """
    nonce = secrets.token_hex(8)
    entry = _put_fast(clients, key, data, nonce, overwrite)
    return entry or _put(clients, key, bytes(data), nonce, overwrite=overwrite, unsure=True)


def put_file(clients: Clients, key: str, path: Path, *, overwrite: bool, sent: Sent | None = None) -> Entry:
    """The entry of the value that now holds a file's bytes; see `Store.put_file`."""
    source = open_file(path)
    try:
        status = os.fstat(source)
        if status.st_size <= WHOLE_BYTES:
            with filled(source, path, 0, status.st_size, sent) as data:
                check_unchanged(source, status, path)
                return _put_whole(clients, key, data, overwrite=overwrite)
        for _ in range(_TRIES):
            whole = _put_blocks(clients, key, source, path, status, overwrite, sent)
            if whole is not None:
                return whole
            sent = None  # what is sent once more was told of
    finally:
        os.close(source)
    raise StoreError(f"`{key}`: others replaced it {_TRIES} times while it was written")


def entry_of(key: str, size_bytes: int, answer: Any) -> Entry:
    """An entry from what the SDK returns of a write or of properties."""
    return Entry(key, size_bytes, str(answer["etag"]).strip('"'), answer["last_modified"].timestamp())


def _put(
    clients: Clients,
    key: str,
    data: bytes,
    nonce: str,
    *,
    overwrite: bool,
    tags: dict[str, str] | None = None,
    unsure: bool = False,
) -> Entry:
    """unsure: whether a request with this nonce may have been carried out before."""
    blob = clients.blob(key)
    about: dict[str, Any] = {"overwrite": overwrite, "metadata": {_NONCE: nonce}, "tags": tags or None}

    def send(again: bool) -> Entry:
        try:
            written = blob.upload_blob(data, length=len(data), **about)
        except (ResourceExistsError, ResourceModifiedError) as error:
            return _own(blob, key, nonce, unsure or again, error, overwrite)
        return entry_of(key, len(data), written)

    return persist(clients.patience, send)


def _put_fast(clients: Clients, key: str, data: memoryview, nonce: str, overwrite: bool) -> Entry | None:
    """The entry; None where obstore was not told that it is written, which it may be all the same."""
    fast = clients.fast(clients.account.container_of(key), large=len(data) > _LARGE_BYTES)
    if fast is None:
        return None
    import obstore
    from obstore.exceptions import BaseError

    mode: Literal["create", "overwrite"] = "overwrite" if overwrite else "create"
    try:
        done = obstore.put(fast, key, data, mode=mode, use_multipart=False, attributes={_NONCE: nonce})
    except (BaseError, OSError, ValueError):  # taken, forbidden, no answer: the SDK finds out
        return None
    etag = done["e_tag"]
    return Entry(key, len(data), etag.strip('"'), float(int(time.time()))) if etag else None


def _put_blocks(
    clients: Clients,
    key: str,
    source: int,
    path: Path,
    seen: os.stat_result,
    overwrite: bool,
    sent: Sent | None,
) -> Entry | None:
    """
    The entry; None when the blocks were lost, as another writer of the key was done first.

    seen: what the file is; nothing is seen of one that was written to since.
    """
    size_bytes = seen.st_size
    blob = clients.blob(key)
    if not overwrite and persist(clients.patience, lambda unsure: blob.exists()):
        raise taken(key)
    nonce = secrets.token_hex(8)
    block_bytes = max(BLOCK_BYTES, -(-size_bytes // _MOST_BLOCKS))
    names = _names(seen, block_bytes)
    there = _left_there(clients, blob) if len(names) > _RESUMED_FROM else {}

    done = 0
    turn, failed = Condition(), Event()

    def stage(number: int) -> None:
        nonlocal done
        start = number * block_bytes
        with filled(source, path, start, min(block_bytes, size_bytes - start)) as data:
            if there.get(names[number]) != len(data):
                body: Any = Body(data)
                persist(clients.patience, lambda unsure: blob.stage_block(names[number], body, len(body)))
            with turn:
                turn.wait_for(lambda: done == number or failed.is_set())
                if sent and not failed.is_set():
                    sent(data)
                done += 1
                turn.notify_all()

    def stage_or_fail(number: int) -> None:
        try:
            if not failed.is_set():
                stage(number)
        except BaseException:
            failed.set()
            with turn:
                turn.notify_all()
            raise

    pool = ThreadPoolExecutor(SIDE_BY_SIDE, "tyard-upload")
    try:
        for one in [pool.submit(stage_or_fail, number) for number in range(len(names))]:
            one.result()
    except BaseException:
        failed.set()
        raise
    finally:
        with turn:
            turn.notify_all()
        pool.shutdown(cancel_futures=True)

    check_unchanged(source, seen, path)
    condition: dict[str, Any] = {} if overwrite else {"match_condition": MatchConditions.IfMissing}

    def commit(unsure: bool) -> Entry | None:
        try:
            blocks = [BlobBlock(block_id=name) for name in names]
            written = blob.commit_block_list(blocks, metadata={_NONCE: nonce}, **condition)
        except (ResourceExistsError, ResourceModifiedError) as error:
            return _own(blob, key, nonce, unsure, error, overwrite)
        except HttpResponseError as error:
            if code_of(error) != "InvalidBlockList":
                raise
            return None
        return entry_of(key, size_bytes, written)

    return persist(clients.patience, commit)


def _own(blob: BlobClient, key: str, nonce: str, unsure: bool, error: HttpResponseError, overwrite: bool) -> Entry:
    """The entry of a key that is taken, if it was taken by this very write."""
    if overwrite or not is_taken(error):
        raise error
    if unsure:
        found = blob.get_blob_properties()
        if (found.metadata or {}).get(_NONCE) == nonce:
            return entry_of(key, int(found.size), found)
    raise taken(key) from None


def _names(seen: os.stat_result, block_bytes: int) -> list[str]:
    """
    Names of a file's blocks, which nobody gives to other bytes: two writers of one key never mix theirs.

    The same again for a file that nothing was written to since, so that a second call finds what the first one sent.
    """
    about = (
        os.uname().nodename,
        seen.st_dev,
        seen.st_ino,
        seen.st_mtime_ns,
        seen.st_ctime_ns,
        seen.st_size,
        block_bytes,
    )
    digest = hashlib.sha256(repr(about).encode()).hexdigest()[:16]
    return [f"{digest}{number:08d}" for number in range(-(-seen.st_size // block_bytes))]


def _left_there(clients: Clients, blob: BlobClient) -> dict[str, int]:
    """Sizes of the blocks by name that an upload left which was not done; the service keeps them for a week."""
    try:
        _, waiting = persist(clients.patience, lambda unsure: blob.get_block_list("uncommitted"))
    except HttpResponseError:  # there is no such blob; whatever else it is, staging a block meets it too
        return {}
    return {str(block.id): int(block.size) for block in waiting}
