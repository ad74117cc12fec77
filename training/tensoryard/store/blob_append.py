"""
Appending to append blobs, so that an answer that got lost loses no bytes and adds none twice.

A request says at which length the blob is expected (Azure's append position) for as long as this process met no other
writer; from then on requests say nothing of the kind, and Azure puts them one after the other. When no answer came,
the bytes are looked for beyond the last length that was known. So writers that may be at work at the same time must
not append the very same bytes: events hold their time, tickets a random part.
"""

import time
from collections.abc import Callable

from azure.core import MatchConditions
from azure.core.exceptions import (
    AzureError,
    HttpResponseError,
    ResourceExistsError,
    ResourceModifiedError,
    ResourceNotFoundError,
)

from tensoryard.errors import AlreadyExistsError, StoreError
from tensoryard.store.blob_account import Clients
from tensoryard.store.blob_errors import absent, code_of, is_taken, missing_container, passes, persist, wait_s

# Source: https://learn.microsoft.com/rest/api/storageservices/append-block
MOST_BYTES = 100 << 20
_SEARCHED_BYTES = 8 << 20
_REMEMBERED = 4096
_MADE_ANEW = 20


class Appends:
    """
    The appends of one process.

    read: (key, offset, length) to bytes; size: length of a key that is an append blob, None when it is absent.
    """

    def __init__(
        self, clients: Clients, read: Callable[[str, int, int], bytes], size: Callable[[str], int | None]
    ) -> None:
        self._clients = clients
        self._read = read
        self._size = size
        self._ends: dict[str, int] = {}
        self._shared: set[str] = set()
        self._absent = ""

    def know_absent(self, key: str) -> None:
        """Remember that a blob was not there just now, so that it is made without asking again."""
        self._absent = key

    def know(self, key: str, length: int) -> None:
        """Remember that a blob had this length."""
        if len(self._ends) >= _REMEMBERED:
            self._ends.clear()
            self._shared.clear()
        self._ends[key] = length

    def forget(self, key: str) -> None:
        self._ends.pop(key, None)

    def append(self, key: str, data: bytes, at: int | None) -> int:
        """The offset that data now has; see `Store.append`. Raises StoreError for too much, else the SDK's errors."""
        if len(data) > MOST_BYTES:
            raise StoreError(f"`{key}`: got {len(data)} bytes to append at once, blob storage takes {MOST_BYTES}")
        if not data:
            size = self._size(key)
            size = self._make(key) if size is None else size
            if at not in (None, size):
                raise _other_length(key, size, at)
            return size
        for _ in range(_MADE_ANEW):
            try:
                offset = self._add(key, data) if at is None else self._add_at(key, data, at)
            except ResourceNotFoundError as error:
                if missing_container(error):
                    raise
                self.forget(key)  # deleted, perhaps since this process used it: made anew
                self._make(key)
                continue
            self.know(key, offset + len(data))
            return offset
        raise StoreError(f"`{key}`: it was deleted {_MADE_ANEW} times while it was appended to")

    def claim(self, key: str, data: bytes, most_bytes: int) -> int | None:
        """See `Store.claim`. Raises NotFoundError, else the SDK's errors."""

        def send(unsure: bool) -> int:
            sent = self._clients.blob(key).append_block(data, length=len(data), maxsize_condition=most_bytes)
            return int(str(sent["blob_append_offset"]))

        try:
            return persist(self._clients.patience, send)
        except ResourceNotFoundError as error:
            if missing_container(error):
                raise
            self.forget(key)
            self.know_absent(key)
            raise absent(key) from None
        except HttpResponseError as error:
            if code_of(error) != "MaxBlobSizeConditionNotMet":
                raise
            return None

    def _make(self, key: str) -> int:
        def create(unsure: bool) -> None:
            self._clients.blob(key).create_append_blob(match_condition=MatchConditions.IfMissing)

        try:
            persist(self._clients.patience, create)
        except (ResourceExistsError, ResourceModifiedError) as error:
            if not is_taken(error):
                raise
            return self._size(key) or 0
        self.know(key, 0)
        return 0

    def _add(self, key: str, data: bytes) -> int:
        patience = self._clients.patience
        known = self._ends.get(key)
        if known is None:
            found = None if self._absent == key else self._size(key)
            self._absent = ""
            known = self._make(key) if found is None else found
        expected = None if key in self._shared else known
        unsure = False
        attempt = 0
        while True:
            try:
                return self._send(key, data, expected)
            except AzureError as error:
                if code_of(error) == "AppendPositionConditionNotMet":
                    # Not carried out this time; if an earlier time is in doubt, it may be what is in the way.
                    self._shared.add(key)
                    expected = None
                elif passes(error) and attempt + 1 < patience.attempts:
                    attempt += 1
                    unsure = True
                    time.sleep(wait_s(error, attempt, patience))
                else:
                    if unsure and passes(error) and (arrived := self._find(key, data, known)) is not None:
                        return arrived
                    raise
            if unsure:
                if (arrived := self._find(key, data, known)) is not None:
                    return arrived
                known = self._size(key) or 0
                # At the expected length still: the request under way and the next one exclude each other.
                expected = expected if expected == known else None

    def _add_at(self, key: str, data: bytes, at: int) -> int:
        """For the only writer: whichever of its tries comes first, the others are refused."""
        try:
            return persist(self._clients.patience, lambda unsure: self._send(key, data, at))
        except HttpResponseError as error:
            if code_of(error) != "AppendPositionConditionNotMet":
                raise
        size = self._size(key) or 0
        if size == at + len(data) and self._read(key, at, len(data)) == data:
            return at
        raise _other_length(key, size, at)

    def _send(self, key: str, data: bytes, expected: int | None) -> int:
        sent = self._clients.blob(key).append_block(data, length=len(data), appendpos_condition=expected)
        return int(str(sent["blob_append_offset"]))

    def _find(self, key: str, data: bytes, start: int) -> int | None:
        """Where data lies at or behind start; None when it is not there."""
        held = b""
        at = start
        while chunk := self._read(key, at, _SEARCHED_BYTES):
            held += chunk
            place = held.find(data)
            at += len(chunk)
            if place >= 0:
                return at - len(held) + place
            held = held[-(len(data) - 1) :] if len(data) > 1 else b""
        return None


def _other_length(key: str, size: int, at: int | None) -> AlreadyExistsError:
    return AlreadyExistsError(f"`{key}`: has {size} bytes, and not {at} to append to")
