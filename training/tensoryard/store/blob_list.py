"""Listings of a container: in the order of keys, page by page."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from itertools import islice
from typing import Any

from azure.core.exceptions import ResourceNotFoundError
from azure.storage.blob import BlobClient

from tensoryard.store import Entry
from tensoryard.store.blob_account import BlobAccount, Clients
from tensoryard.store.blob_errors import is_key, persist

_PAGE = 5000
_SOME = 10


def entries(clients: Clients, container: str, prefix: str, start_after: str) -> Iterator[Entry]:
    """
    Entries of a container whose names begin with prefix, those after start_after, in the order of their names.

    An account with a hierarchical namespace lists what is in `a/` before `a-1`: there all are read, then sorted.
    Raises the SDK's errors.
    """
    pages = _pages(clients, container, prefix, start_after)
    first = next(pages, [])
    second = next(pages, None)
    if second is None:
        yield from sorted(first)
    elif hierarchical(clients, container, (entry.key for entry in (*first, *second))):
        found = {entry.key: entry for page in (first, second, *pages) for entry in page}
        yield from (found[key] for key in sorted(found))
    else:
        yield from first
        yield from second
        for page in pages:
            yield from page


def keys(clients: Clients, container: str, prefix: str, start_after: str, at_once: int) -> Iterator[str]:
    """
    The same, the names alone, at_once of them by a request: a tenth of what the whole entries cost. Raises likewise.

    An account with a hierarchical namespace has folders among them: there only the entries tell.
    """
    token: str | None = None
    asked = False
    while True:

        def fetch(unsure: bool, token: str | None = token) -> tuple[list[str], str | None]:
            # Azure begins with that very name; an older service begins with the first of all.
            found = clients.container(container).list_blob_names(
                name_starts_with=prefix or None, start_from=start_after or None, results_per_page=at_once
            )
            pages = found.by_page(token)
            return [str(name) for name in next(pages, iter(()))], getattr(pages, "continuation_token", None)

        page, token = persist(clients.patience, fetch)
        if not asked:
            asked = True
            # Where folders come first, what comes after start_after can be before it in the service's order.
            if hierarchical(clients, container, page or (some(clients, container, prefix) if start_after else ())):
                yield from (entry.key for entry in entries(clients, container, prefix, start_after))
                return
        yield from (name for name in page if name > start_after and ours(clients.account, container, name))
        if not token:
            return


def names(clients: Clients, container: str, prefix: str) -> list[str]:
    """Names directly below a prefix; those with more below them end in "/". Raises the SDK's errors."""
    fast = clients.fast(container)
    if fast is not None:
        import obstore
        from obstore.exceptions import BaseError

        try:
            found = obstore.list_with_delimiter(fast, prefix or None)
            return [
                *(f"{below.rstrip('/')[len(prefix) :]}/" for below in found["common_prefixes"]),
                *(one["path"][len(prefix) :] for one in found["objects"]),
            ]
        except (BaseError, OSError, ValueError):
            pass

    def walk(unsure: bool) -> list[str]:
        walked = clients.container(container).walk_blobs(name_starts_with=prefix or None, results_per_page=_PAGE)
        return [str(one.name)[len(prefix) :] for one in walked]

    return persist(clients.patience, walk)


def beside(clients: Clients, container: str, prefix: str) -> list[str]:
    """Keys that have tags beside them; prefix: `.tags/` and that of the keys. Raises the SDK's errors."""

    def fetch(unsure: bool) -> list[str]:
        return list(clients.container(container).list_blob_names(name_starts_with=prefix, results_per_page=_PAGE))

    return [name.partition("/")[2] for name in persist(clients.patience, fetch)]


def is_directory(metadata: Mapping[str, str] | None) -> bool:
    """Whether what has a blob's name is a folder, as accounts with a hierarchical namespace keep them."""
    return bool(metadata) and any(
        name.lower() == "hdi_isfolder" and value == "true" for name, value in (metadata or {}).items()
    )


def hierarchical(clients: Clients, container: str, names: Iterable[str]) -> bool:
    """
    Whether the account has a hierarchical namespace; False where no blob is left to tell.

    names: of blobs in the container. Raises the SDK's errors. Azure answers questions about the account only to its
    key, but on such accounts, and no others, it tells every reader of a blob whether that is a file or a folder.
    Source: https://learn.microsoft.com/rest/api/storageservices/get-blob-properties
    """
    if clients.hierarchical is not None:
        return clients.hierarchical
    for name in names:
        blob = clients.container(container).get_blob_client(name)
        told: dict[str, str] = {}

        def ask(unsure: bool, blob: BlobClient = blob, told: dict[str, str] = told) -> None:
            blob.get_blob_properties(raw_response_hook=lambda answer: told.update(answer.http_response.headers))

        with suppress(ResourceNotFoundError):  # removed since it was listed
            persist(clients.patience, ask)
            clients.hierarchical = any(header.lower() == "x-ms-resource-type" for header in told)
            return clients.hierarchical
    return False


def some(clients: Clients, container: str, prefix: str = "") -> list[str]:
    """Names of a few blobs, folders of a hierarchical namespace too; empty where there are none."""

    def fetch(unsure: bool) -> list[str]:
        listed = clients.container(container).list_blob_names(name_starts_with=prefix or None, results_per_page=_SOME)
        return [str(name) for name in islice(listed, _SOME)]

    return persist(clients.patience, fetch)


def _pages(clients: Clients, container: str, prefix: str, start_after: str) -> Iterator[list[Entry]]:
    def wanted(key: str) -> bool:
        return key > start_after and key.startswith(prefix)

    after = start_after
    # obstore's prefixes are whole folders.
    fast = clients.fast(container) if not prefix or prefix.endswith("/") else None
    if fast is not None:
        import obstore
        from obstore.exceptions import BaseError

        try:
            for chunk in obstore.list(fast, prefix or None, offset=after or None, chunk_size=_PAGE):
                page = [
                    Entry(one["path"], one["size"], (one["e_tag"] or "").strip('"'), one["last_modified"].timestamp())
                    for one in chunk
                ]
                after = page[-1].key if page else after
                yield [entry for entry in page if wanted(entry.key) and ours(clients.account, container, entry.key)]
            return
        except (BaseError, OSError, ValueError):  # whatever it is: the SDK meets it too, or does not
            if after != start_after and hierarchical(clients, container, [after]):
                after = start_after  # what is listed last there need not be the last of all keys
    token: str | None = None
    while True:

        def fetch(unsure: bool, token: str | None = token) -> tuple[list[Entry], str | None]:
            listed = clients.container(container).list_blobs(
                name_starts_with=prefix or None, include=["metadata"], results_per_page=_PAGE
            )
            pages = listed.by_page(token)
            page = [_entry(one) for one in next(pages, iter(())) if not is_directory(one.metadata)]
            return page, getattr(pages, "continuation_token", None)

        page, token = persist(clients.patience, fetch)
        yield [
            entry
            for entry in page
            if entry.key > after and wanted(entry.key) and ours(clients.account, container, entry.key)
        ]
        if not token:
            return


def _entry(found: Any) -> Entry:
    return Entry(str(found.name), int(found.size), str(found.etag).strip('"'), found.last_modified.timestamp())


def ours(account: BlobAccount, container: str, name: str) -> bool:
    """Whether a blob is a key of this store; others may keep blobs beside, and tags have theirs in `.tags/`."""
    return account.container_of(name) == container and is_key(name)
