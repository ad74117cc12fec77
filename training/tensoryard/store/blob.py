"""
The store on blob storage: a blob's name is the whole key, in the container that the key's first part names.

Safe between processes and machines: Azure decides who wrote a key first and in which order appends lie. A request
without an answer is tried again, and what it may have done is looked up: nothing is lost and nothing is there twice.
"""

import heapq
import sys
from collections.abc import Callable, Generator, Iterator, Mapping
from functools import partial
from pathlib import Path

from azure.core.exceptions import HttpResponseError, ResourceNotFoundError

from tensoryard.errors import UsageError
from tensoryard.store import Entry, Sent, blob_copy, blob_list, blob_read, blob_upload
from tensoryard.store.blob_account import BlobAccount, Clients, Patience, only_if
from tensoryard.store.blob_append import Appends
from tensoryard.store.blob_errors import CONTRIBUTOR, absent, code_of, is_taken, missing_container, persist, plain
from tensoryard.store.blob_index import Index
from tensoryard.store.keys import check_key


def _to_stderr(message: str) -> None:
    print(message, file=sys.stderr)


class BlobStore:
    """
    A store in the containers of a storage account, which `pulumi up` made.

    patience: how long a request is tried; warn: called with one sentence for what works, but less well.
    """

    def __init__(
        self, account: BlobAccount, patience: Patience | None = None, warn: Callable[[str], None] = _to_stderr
    ) -> None:
        self.account = account
        self._clients = Clients(account, patience or Patience())
        self._index = Index(self._clients, warn)
        self._appends = Appends(self._clients, lambda *part: bytes(self._read(*part)), self._appended)

    def __repr__(self) -> str:
        return f"BlobStore({self.account.endpoint!r})"

    def put(self, key: str, data: bytes, *, overwrite: bool = False, tags: Mapping[str, str] | None = None) -> Entry:
        """See `Store.put`."""
        self._appends.forget(check_key(key))
        with plain(self.account, key, "writing", CONTRIBUTOR):
            write = partial(blob_upload.put_bytes, self._clients, key, data, overwrite=overwrite)
            return self._index.tagged(key, tags, write) if tags else write()

    def put_file(self, key: str, path: Path, *, overwrite: bool = False, sent: Sent | None = None) -> Entry:
        """See `Store.put_file`. Raises NotFoundError when there is no such file, UsageError when it is a folder."""
        self._appends.forget(check_key(key))
        with plain(self.account, key, "writing", CONTRIBUTOR):
            return blob_upload.put_file(self._clients, key, path, overwrite=overwrite, sent=sent)

    def copy(self, source: str, target: str, *, etag: str | None = None) -> Entry:
        """See `Store.copy`. The storage account copies; no byte comes here."""
        check_key(source)
        self._appends.forget(check_key(target))
        with plain(self.account, target, "copying", CONTRIBUTOR):
            return blob_copy.copy(self._clients, source, target, etag)

    def append(self, key: str, data: bytes, *, at: int | None = None) -> int:
        """See `Store.append`. Of at most 100 MiB, 50,000 times a key: the limits of append blobs."""
        check_key(key)
        with plain(self.account, key, "appending", CONTRIBUTOR):
            return self._appends.append(key, data, at)

    def claim(self, key: str, data: bytes, most_bytes: int) -> int | None:
        """See `Store.claim`."""
        check_key(key)
        with plain(self.account, key, "appending", CONTRIBUTOR):
            return self._appends.claim(key, data, most_bytes)

    def read(self, key: str, offset: int = 0, length: int | None = None) -> bytes:
        """See `Store.read`. All of it is of one moment: it is one request."""
        check_key(key)
        with plain(self.account, key, "reading"):
            return bytes(self._read(key, offset, length))

    def view(self, key: str, offset: int, length: int) -> memoryview:
        """See `Store.view`."""
        check_key(key)
        with plain(self.account, key, "reading"):
            return memoryview(self._read(key, offset, length))

    def stream(self, key: str, offset: int, etag: str) -> Generator[memoryview, None, None]:
        """See `Store.stream`."""
        check_key(key)
        with plain(self.account, key, "reading"):
            yield from blob_read.stream(self._clients, key, offset, etag)

    def stat(self, key: str) -> Entry | None:
        """See `Store.stat`."""
        check_key(key)
        with plain(self.account, key, "reading"):
            return self._stat(key)

    def list(self, prefix: str, *, start_after: str = "") -> Iterator[Entry]:
        """See `Store.list`. Page by page, as the iteration goes; blobs whose names are no keys are left out."""
        _check_prefix(prefix)
        found = [
            blob_list.entries(self._clients, container, prefix, start_after)
            for container in self.account.containers_of(prefix)
        ]
        with plain(self.account, prefix, "listing"):
            yield from heapq.merge(*found)

    def list_keys(self, prefix: str, *, start_after: str = "", at_once: int = 5000) -> Iterator[str]:
        """See `Store.list_keys`."""
        _check_prefix(prefix)
        found = [
            blob_list.keys(self._clients, container, prefix, start_after, at_once)
            for container in self.account.containers_of(prefix)
        ]
        with plain(self.account, prefix, "listing"):
            yield from heapq.merge(*found)

    def children(self, prefix: str) -> Iterator[str]:
        """See `Store.children`."""
        if prefix and not prefix.endswith("/"):
            raise UsageError(f"prefix: got `{prefix}`, it ends in `/`")
        _check_prefix(prefix)
        found: set[str] = set()
        with plain(self.account, prefix, "listing"):
            for container in self.account.containers_of(prefix):
                for name in blob_list.names(self._clients, container, prefix):
                    key = f"{prefix}{name}"
                    if blob_list.ours(self.account, container, key.removesuffix("/")):
                        found.add(name)
        yield from sorted(found)

    def tags(self, key: str) -> dict[str, str]:
        """See `Store.tags`."""
        return self._index.tags(check_key(key))

    def set_tags(self, key: str, tags: Mapping[str, str]) -> None:
        """See `Store.set_tags`. Raises NotFoundError when the key is absent."""
        self._index.set_tags(check_key(key), tags)

    def find_by_tags(self, tags: Mapping[str, str], prefix: str = "") -> Iterator[str]:
        """See `Store.find_by_tags`. Raises UsageError when there is no tag to look for."""
        _check_prefix(prefix)
        if not tags:
            raise UsageError("find_by_tags: got no tags, one is needed at least")
        yield from self._index.find(tags, prefix)

    def touch(self, key: str) -> bool:
        """See `Store.touch`. Metadata that others set are lost: writing some is what makes the etag new."""
        blob = self._clients.blob(check_key(key))
        with plain(self.account, key, "writing", CONTRIBUTOR):
            try:
                persist(self._clients.patience, lambda unsure: blob.set_blob_metadata({"tyardtouched": "1"}))
            except ResourceNotFoundError as error:
                if missing_container(error):
                    raise
                return False
        return True

    def delete(self, key: str, *, etag: str | None = None) -> bool:
        """See `Store.delete`."""
        self._appends.forget(check_key(key))
        only = {} if etag is None else only_if(etag)

        def remove(unsure: bool) -> None:
            self._clients.blob(key).delete_blob(delete_snapshots="include", **only)

        with plain(self.account, key, "deleting", CONTRIBUTOR):
            try:
                persist(self._clients.patience, remove)
            except ResourceNotFoundError as error:
                if missing_container(error):
                    raise
            except HttpResponseError as error:
                if etag and is_taken(error):
                    return self._stat(key) is None
                # A folder of a hierarchical namespace, which is no key.
                if code_of(error) != "DirectoryIsNotEmpty":
                    raise
        return True

    def local_path(self, key: str) -> Path | None:
        """None: blob storage is no folder."""
        return None

    def _stat(self, key: str) -> Entry | None:
        blob = self._clients.blob(key)
        try:
            found = persist(self._clients.patience, lambda unsure: blob.get_blob_properties())
        except ResourceNotFoundError as error:
            if missing_container(error):
                raise
            self._appends.know_absent(key)
            return None
        if blob_list.is_directory(found.metadata):
            return None
        if str(getattr(found.blob_type, "value", found.blob_type)) == "AppendBlob":
            self._appends.know(key, int(found.size))
        return blob_upload.entry_of(key, int(found.size), found)

    def _appended(self, key: str) -> int | None:
        found = self._stat(key)
        return None if found is None else found.size_bytes

    def _read(self, key: str, offset: int, length: int | None) -> bytes | memoryview:
        if length == 0:
            if self._stat(key) is None:
                raise absent(key)
            return b""
        return blob_read.read(self._clients, key, offset, length)


def _check_prefix(prefix: str) -> None:
    folder = prefix.rpartition("/")[0]
    if prefix.startswith("/") or folder:
        check_key(folder, "prefix")
