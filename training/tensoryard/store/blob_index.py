"""
Index tags of blobs; where an account has none, a JSON blob below `.tags/` beside each key that has tags.

Accounts with a hierarchical namespace have no index tags. There a search reads what lies below a prefix.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol

from azure.core.exceptions import HttpResponseError, ResourceNotFoundError

from tensoryard.store import Entry, blob_list
from tensoryard.store.blob_account import Clients
from tensoryard.store.blob_errors import (
    TAGS,
    absent,
    code_of,
    explained,
    missing_container,
    persist,
    plain,
)
from tensoryard.store.blob_tags import decoded_tags, encoded_tags, question

_SIDE = ".tags/"
# The second is the answer to a write with tags where there is a hierarchical namespace; tags alone, and a search by
# them, are called an invalid query there, as the search is on any account when it is worded wrongly.
_NO_TAGS = {"BlobTagsNotSupportedForAccountType", "FeatureNotYetSupportedForHierarchicalNamespaceAccounts"}
_NO_SUCH_QUERY = "InvalidQueryParameterValue"


class Write(Protocol):
    def __call__(self, *, tags: dict[str, str] | None = None) -> Entry: ...


class Index:
    """The tags of one account. warn: called once with what this account, or this person, cannot do."""

    def __init__(self, clients: Clients, warn: Callable[[str], None]) -> None:
        self._clients = clients
        self._account = clients.account
        self._warn = warn
        self._beside = False
        self._told = False

    def tagged(self, key: str, tags: Mapping[str, str], write: Write) -> Entry:
        """The entry of a value written with its tags. Raises the SDK's errors."""
        coded = encoded_tags(key, tags)
        if not self._beside:
            try:
                return write(tags=coded)
            except HttpResponseError as error:
                if code_of(error) == "AuthorizationPermissionMismatch":
                    return self._untagged(key, write, error)
                if not self._has_none(error):
                    raise
        entry = write()
        self._set_beside(key, entry.etag, coded)
        return entry

    def tags(self, key: str) -> dict[str, str]:
        with plain(self._account, key, "reading tags", TAGS):
            if not self._beside:
                blob = self._clients.blob(key)
                try:
                    return decoded_tags(persist(self._clients.patience, lambda unsure: blob.get_blob_tags()))
                except ResourceNotFoundError as error:
                    raise self._absent(key, error) from None
                except HttpResponseError as error:
                    if not self._has_none(error):
                        raise
            return decoded_tags(self._tags_beside(key, self._etag(key)))

    def set_tags(self, key: str, tags: Mapping[str, str]) -> None:
        coded = encoded_tags(key, tags)
        with plain(self._account, key, "writing tags", TAGS):
            if not self._beside:
                blob = self._clients.blob(key)
                try:
                    persist(self._clients.patience, lambda unsure: blob.set_blob_tags(coded))
                    return
                except ResourceNotFoundError as error:
                    raise self._absent(key, error) from None
                except HttpResponseError as error:
                    if not self._has_none(error):
                        raise
            self._set_beside(key, self._etag(key), coded)

    def find(self, tags: Mapping[str, str], prefix: str) -> Iterator[str]:
        coded = encoded_tags(prefix, tags)
        found: list[str] = []
        with plain(self._account, prefix, "searching tags", TAGS):
            for container in self._account.containers_of(prefix):
                names = None if self._beside else self._search(container, coded)
                if names is None:
                    names = self._search_beside(container, coded, prefix)
                found += [name for name in names if name.startswith(prefix)]
        yield from sorted(found)

    def _search(self, container: str, coded: Mapping[str, str]) -> list[str] | None:
        """Names by the account's own index; None where it has none."""

        def ask(unsure: bool) -> list[str]:
            found = self._clients.container(container).find_blobs_by_tags(question(coded))
            return [str(one.name) for one in found]

        try:
            names = persist(self._clients.patience, ask)
        except HttpResponseError as error:
            there = blob_list.some(self._clients, container) if code_of(error) == _NO_SUCH_QUERY else None
            if there == []:  # no blob to tell whether it is the account or the search, and none to find
                return []
            if self._has_none(error, searched=container, names=there or ()):
                return None
            raise
        return [name for name in names if blob_list.ours(self._account, container, name)]

    def _untagged(self, key: str, write: Write, error: HttpResponseError) -> Entry:
        """Without its tags when only they are forbidden: the record is the truth and they are not."""
        entry = write()
        self._tell(
            f"`{key}`: written, but not indexed, so a search may not find it",
            explained(self._account, key, "writing tags", TAGS, error).hint,
        )
        return entry

    def _has_none(self, error: HttpResponseError, searched: str = "", names: Sequence[str] = ()) -> bool:
        """
        Whether an error says that the account has no index tags; then they are kept beside from now on.

        searched: the container that was searched, if it was a search that failed; names: of some of its blobs.
        """
        code = code_of(error)
        if code not in _NO_TAGS and (
            code != _NO_SUCH_QUERY or (searched and not blob_list.hierarchical(self._clients, searched, names))
        ):
            return False
        self._beside = True
        self._tell(
            f"the storage account `{self._account.name}` has a hierarchical namespace, which has no index tags: "
            "a search reads what lies below its prefix",
            None,
        )
        return True

    def _tell(self, message: str, hint: str | None) -> None:
        if not self._told:
            self._told = True
            self._warn(f"{message}\n\nhint: {hint}" if hint else message)

    def _absent(self, key: str, error: ResourceNotFoundError) -> Exception:
        return error if missing_container(error) else absent(key)

    def _etag(self, key: str) -> str:
        blob = self._clients.blob(key)
        try:
            found = persist(self._clients.patience, lambda unsure: blob.get_blob_properties())
        except ResourceNotFoundError as error:
            raise self._absent(key, error) from None
        return str(found.etag).strip('"')

    def _set_beside(self, key: str, etag: str, coded: Mapping[str, str]) -> None:
        # With the value's etag: what a killed writer or a delete leaves behind is nobody's tags.
        data = json.dumps({"etag": etag, "tags": dict(coded)}).encode()
        blob = self._clients.container(self._account.container_of(key)).get_blob_client(f"{_SIDE}{key}")
        persist(self._clients.patience, lambda unsure: blob.upload_blob(data, overwrite=True))

    def _tags_beside(self, key: str, etag: str) -> dict[str, str]:
        blob = self._clients.container(self._account.container_of(key)).get_blob_client(f"{_SIDE}{key}")
        try:
            found = json.loads(persist(self._clients.patience, lambda unsure: blob.download_blob().readall()))
            return dict(found["tags"]) if found["etag"] == etag else {}
        except ResourceNotFoundError:
            return {}
        except (ValueError, KeyError, TypeError):  # an index that cannot be read is no index
            return {}

    def _search_beside(self, container: str, coded: Mapping[str, str], prefix: str) -> list[str]:
        from concurrent.futures import ThreadPoolExecutor

        etags = {entry.key: entry.etag for entry in blob_list.entries(self._clients, container, prefix, "")}
        tagged = [key for key in blob_list.beside(self._clients, container, f"{_SIDE}{prefix}") if key in etags]
        with ThreadPoolExecutor(16, "tyard-tags") as pool:
            found = pool.map(lambda key: coded.items() <= self._tags_beside(key, etags[key]).items(), tagged)
            return [key for key, is_it in zip(tagged, found, strict=True) if is_it]
