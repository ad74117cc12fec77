"""Versions sent to OCI registries as ModelPack artifacts, their bytes straight from the store."""

import threading
from collections.abc import Callable, Iterator
from typing import NamedTuple

from tensoryard.errors import NotFoundError, VerificationError
from tensoryard.registry.oci_client import TRIES, BrokenRequestError, Client, wait
from tensoryard.registry.oci_manifest import Place, config_bytes, digest, digest_of, manifest_bytes
from tensoryard.registry.records import FileRecord, ModelVersion, check_files, tree_digest
from tensoryard.store import Store
from tensoryard.store.transfer import CHUNK_BYTES, chunks

# A file of one chunk costs round trips, and a larger one the line: only the former gain by company.
_SMALL_AT_ONCE = 4


class Pushed(NamedTuple):
    """
    What a push did.

    digest: of the manifest; sent and there: files that were uploaded and that the registry had; replaced: the digest
    that the tag named before, or None when it named none or this one.
    """

    place: Place
    digest: str
    sent: int
    there: int
    replaced: str | None


def push(store: Store, version: ModelVersion, place: Place) -> Pushed:
    """
    Sends a version's files, then its manifest under the tag: a push that breaks leaves no tag, and can be made again.

    Files that the registry has are not sent. Each is checked while it is read.
    Raises NotFoundError or VerificationError for stored bytes that are not the recorded ones, StoreError for what the
    registry refuses.
    """
    files = check_files(version.files)
    reference = f"{version.name}:{version.version}"
    if tree_digest(files) != version.tree_digest:
        raise VerificationError(f"`{reference}`: its list of files was changed after registration")
    config = config_bytes(version)
    manifest = manifest_bytes(version, config)
    client = Client(place, push=True)
    before = client.tagged()
    if before == digest_of(manifest):
        return Pushed(place, before, 0, len(files), None)
    by_digest = {file.sha256: file for file in files}
    try:
        sent = _send_all(store, client, list(by_digest.values()))
    except (NotFoundError, VerificationError) as error:
        hint = f"`tyard models verify {reference}` lists every file that is not as registered"
        raise type(error)(f"`{reference}`: cannot be pushed: {error.message}", error.hint or hint) from None
    if not client.has_blob(digest_of(config)):
        upload(client, digest_of(config), lambda: iter([config]))
    client.put_manifest(manifest)
    return Pushed(place, digest_of(manifest), sent, len(files) - sent, before)


def _send_all(store: Store, client: Client, files: list[FileRecord]) -> int:
    """How many files had to be sent."""
    from concurrent.futures import ThreadPoolExecutor

    stop = threading.Event()

    def send(file: FileRecord) -> bool:
        if stop.is_set() or client.has_blob(digest(file)):
            return False
        try:
            upload(client, digest(file), lambda: _checked(store, file))
        except BaseException:
            stop.set()
            raise
        return True

    small = [file for file in files if file.size_bytes <= CHUNK_BYTES]
    large = [file for file in files if file.size_bytes > CHUNK_BYTES]
    with ThreadPoolExecutor(_SMALL_AT_ONCE, "tyard-push") as pool:
        sent = sum(pool.map(send, small))
    return sent + sum(send(file) for file in large)


def upload(client: Client, blob: str, read: Callable[[], Iterator[bytes]]) -> None:
    """
    Sends one blob in chunks, at most two of them in memory.

    From its start again when an answer is lost: the registry has thrown away or will what it had of an upload.
    """
    for attempt in range(1, TRIES + 1):
        try:
            location = client.start_upload()
            start = 0
            last = b""
            for chunk in read():
                if last:
                    location = client.send_chunk(location, start, last)
                    start += len(last)
                last = chunk
            if start:
                location = client.send_chunk(location, start, last)
                last = b""
            # A small file goes with the end of its upload: two requests in all.
            client.end_upload(location, blob, last)
            return
        except BrokenRequestError:
            if client.has_blob(blob):  # only the last answer was lost
                return
            if attempt == TRIES:
                raise
            wait(attempt)


def _checked(store: Store, file: FileRecord) -> Iterator[bytes]:
    """The bytes of a file; the last of them come only if all are the recorded ones."""
    import hashlib

    whole = hashlib.sha256()
    count = 0
    last = b""
    for chunk in chunks(store, file.key, file.size_bytes):
        if last:
            yield last
        whole.update(chunk)
        count += len(chunk)
        last = bytes(chunk)
    if count != file.size_bytes or whole.hexdigest() != file.sha256:
        raise VerificationError(f"`{file.path}`: `{file.key}` has other bytes than were recorded")
    yield last
