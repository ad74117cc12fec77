"""
Values read: whole or in part by one request, or in pieces as they come.

A piece is small enough to be in the processor's cache still when its digest is taken and it is written: a value of
many MiB in memory of its own costs half as much again, most of it for the memory. obstore reads with half of the
SDK's processor time, and whole small values with a tenth of it; whatever it cannot do the SDK does again.
"""

from collections.abc import Iterator
from typing import Any

from azure.core.exceptions import HttpResponseError, ResourceModifiedError, ResourceNotFoundError

from tensoryard.errors import NotFoundError, VerificationError
from tensoryard.store import blob_list
from tensoryard.store.blob_account import Clients, only_if
from tensoryard.store.blob_errors import absent, missing_container, persist

# In between obstore reads with half of the processor's time, and whole small values with a tenth of it; above, one of
# its requests could take too long.
_FAST_READ_FROM, _FAST_READ_TO = 1 << 20, 64 << 20
_PIECE_BYTES = 256 << 10
# What the SDK reads where obstore's answer broke off, before obstore is asked for the rest.
_MENDED_BYTES = 8 << 20


def read(clients: Clients, key: str, offset: int, length: int | None, etag: str = "") -> bytes | memoryview:
    """
    Bytes from offset on, at most length of them and more than 0.

    etag: which the value must have. Raises NotFoundError, VerificationError when it has not, or the SDK's errors.
    """
    whole = offset == 0 and length is None
    if not etag and (whole or (length is not None and _FAST_READ_FROM <= length <= _FAST_READ_TO)):
        data = _read_fast(clients, key, offset, length)
        if data is not None:
            return data
    blob = clients.blob(key)
    only = only_if(etag) if etag else {}

    def fetch(unsure: bool) -> bytes:
        # From 0 and of any length: no range is asked for, which an empty value has none of.
        found = blob.download_blob(None if whole else offset, length, decompress=False, **only)
        if blob_list.is_directory(found.properties.metadata):
            raise absent(key)
        return bytes(found.readall())

    try:
        return persist(clients.patience, fetch)
    except ResourceNotFoundError as error:
        if missing_container(error):
            raise
        raise absent(key) from None
    except ResourceModifiedError:
        raise _changed(clients, key) from None
    except HttpResponseError as error:
        if error.status_code == 416:  # at or past the end
            return b""
        raise


def stream(clients: Clients, key: str, offset: int, etag: str) -> Iterator[memoryview]:
    """All from offset on, piece by piece. Raises NotFoundError, VerificationError, else the SDK's errors."""
    while True:
        for piece in _stream_fast(clients, key, offset, etag):
            if piece is None:
                return
            yield piece
            offset += len(piece)
        data = read(clients, key, offset, _MENDED_BYTES, etag)
        yield memoryview(data)
        offset += len(data)
        if len(data) < _MENDED_BYTES:
            return


def _stream_fast(clients: Clients, key: str, offset: int, etag: str) -> Iterator[memoryview | None]:
    """Pieces as far as obstore gets them, and None after the last one."""
    fast = clients.fast(clients.account.container_of(key), large=True)
    if fast is None:
        return
    import obstore
    from obstore.exceptions import BaseError, PreconditionError

    asked: Any = {"if_match": f'"{etag}"', **({"range": {"offset": offset}} if offset else {})}
    try:
        found = obstore.get(fast, key, options=asked)
        if found.meta["size"] - offset <= _PIECE_BYTES:
            yield memoryview(found.bytes())
        else:
            for piece in found.stream(min_chunk_size=_PIECE_BYTES):
                yield memoryview(piece)
        yield None
    except PreconditionError:
        raise _changed(clients, key) from None
    except (BaseError, OSError, ValueError):  # no answer, half of one, nothing there: the SDK says it better
        return


def _read_fast(clients: Clients, key: str, offset: int, length: int | None) -> bytes | memoryview | None:
    fast = clients.fast(clients.account.container_of(key))
    if fast is None:
        return None
    import obstore
    from obstore.exceptions import BaseError
    from obstore.exceptions import NotFoundError as AbsentError

    try:
        if length is not None:
            return memoryview(obstore.get_range(fast, key, start=offset, length=length))
        found = obstore.get(fast, key)
        # What is empty may be a folder of a hierarchical namespace.
        return (found.bytes().to_bytes() or None) if found.meta["size"] <= _FAST_READ_TO else None
    except (AbsentError, FileNotFoundError) as error:
        if "BlobNotFound" in str(error):
            raise absent(key) from None
        return None
    except (BaseError, OSError, ValueError):  # past the end, no answer: the SDK says it better
        return None


def _changed(clients: Clients, key: str) -> NotFoundError | VerificationError:
    """What to raise for a value that has not the ETag that was asked for; the service says so of none as well."""
    if not persist(clients.patience, lambda unsure: clients.blob(key).exists()):
        return absent(key)
    hint = "wait until nothing writes to it, and try again"
    return VerificationError(f"`{key}`: was replaced while it was read", hint)
