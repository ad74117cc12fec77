"""Values copied by the storage account itself: no byte of them passes through this machine."""

import secrets
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

from azure.core import MatchConditions
from azure.core.credentials import AzureNamedKeyCredential
from azure.core.exceptions import (
    HttpResponseError,
    ResourceExistsError,
    ResourceModifiedError,
    ResourceNotFoundError,
)
from azure.storage.blob import BlobBlock, BlobClient

from tensoryard.errors import StoreError, VerificationError
from tensoryard.store import Entry
from tensoryard.store.blob_account import SCOPE, Clients
from tensoryard.store.blob_errors import absent, code_of, missing_container, persist, status_of, taken
from tensoryard.store.blob_upload import entry_of

# The service copies up to 256 MiB by one request; this much is done well before the request counts as lost.
ONE_REQUEST_BYTES = 64 << 20
BLOCK_BYTES = 32 << 20
_SIDE_BY_SIDE = 8
# As in `blob_upload`: who finds the target taken after an answer got lost knows its own copy by this.
_NONCE = "tyardnonce"
_MOST_BLOCKS = 50_000
# Whoever copies with an account's key signs for the source; a copy that takes longer than this is begun again.
_SIGNED_FOR = timedelta(hours=1)


def copy(clients: Clients, source: str, target: str, etag: str | None) -> Entry:
    """The entry of the copy; see `Store.copy`. Raises the SDK's errors for what it does not name."""
    blob = clients.blob(source)
    try:
        found = persist(clients.patience, lambda unsure: blob.get_blob_properties())
    except ResourceNotFoundError as error:
        if missing_container(error):
            raise
        raise absent(source) from None
    pinned = str(found.etag).strip('"')
    if etag is not None and pinned != etag:
        raise _changed(source)
    size_bytes = int(found.size)
    blob_type = str(getattr(found.blob_type, "value", found.blob_type))
    if size_bytes <= ONE_REQUEST_BYTES and blob_type == "BlockBlob":
        return _whole(clients, source, target, size_bytes, pinned)
    return _by_blocks(clients, source, target, size_bytes, pinned)


def _changed(key: str) -> VerificationError:
    return VerificationError(f"`{key}`: was changed while it was copied, so nothing was copied")


def _whole(clients: Clients, source: str, target: str, size_bytes: int, etag: str) -> Entry:
    blob = clients.blob(target)
    nonce = secrets.token_hex(8)

    def send(unsure: bool) -> Entry:
        url, signed = _readable(clients, source)
        try:
            answer = blob.start_copy_from_url(
                url,
                metadata={_NONCE: nonce},
                requires_sync=True,
                source_etag=f'"{etag}"',
                source_match_condition=MatchConditions.IfNotModified,
                match_condition=MatchConditions.IfMissing,
                **signed,
            )
        except HttpResponseError as error:
            _settle(clients, source, blob, nonce, unsure, error)
            return entry_of(target, size_bytes, blob.get_blob_properties())
        return entry_of(target, size_bytes, answer)

    return persist(clients.patience, send)


def _by_blocks(clients: Clients, source: str, target: str, size_bytes: int, etag: str) -> Entry:
    blob = clients.blob(target)
    if persist(clients.patience, lambda unsure: blob.exists()):
        raise taken(target)
    nonce = secrets.token_hex(8)
    block_bytes = max(BLOCK_BYTES, -(-size_bytes // _MOST_BLOCKS))
    names = [f"{nonce}{number:08d}" for number in range(-(-size_bytes // block_bytes))]

    def stage(number: int) -> None:
        start = number * block_bytes
        length = min(block_bytes, size_bytes - start)

        def send(unsure: bool) -> None:
            url, signed = _readable(clients, source)
            blob.stage_block_from_url(names[number], url, source_offset=start, source_length=length, **signed)

        try:
            persist(clients.patience, send)
        except HttpResponseError as error:
            # Shorter or gone by now: either way it is another value than the one that was to be copied.
            if code_of(error) == "CannotVerifyCopySource" and status_of(error) in (404, 416):
                raise _changed(source) from None
            raise

    pool = ThreadPoolExecutor(_SIDE_BY_SIDE, "tyard-copy")
    try:
        list(pool.map(stage, range(len(names))))
    finally:
        pool.shutdown(cancel_futures=True)
    # No two values of a blob ever have one etag: unchanged now, it was unchanged under every block.
    origin = clients.blob(source)
    try:
        now = persist(clients.patience, lambda unsure: origin.get_blob_properties())
    except ResourceNotFoundError:
        raise _changed(source) from None
    if str(now.etag).strip('"') != etag:
        raise _changed(source)

    def commit(unsure: bool) -> Entry:
        try:
            blocks = [BlobBlock(block_id=name) for name in names]
            answer = blob.commit_block_list(
                blocks, metadata={_NONCE: nonce}, match_condition=MatchConditions.IfMissing
            )
        except HttpResponseError as error:
            if code_of(error) == "InvalidBlockList":  # another writer of the key was done first
                raise taken(target) from None
            _settle(clients, source, blob, nonce, unsure, error)
            return entry_of(target, size_bytes, blob.get_blob_properties())
        return entry_of(target, size_bytes, answer)

    return persist(clients.patience, commit)


def _settle(
    clients: Clients, source: str, blob: BlobClient, nonce: str, unsure: bool, error: HttpResponseError
) -> None:
    """Returns where the target is this very copy, made by a try whose answer was lost; raises otherwise."""
    code = code_of(error)
    if code == "SourceConditionNotMet":
        raise _changed(source) from None
    if isinstance(error, ResourceNotFoundError) and not missing_container(error):
        raise absent(source) from None
    if isinstance(error, ResourceExistsError | ResourceModifiedError):
        if unsure and (blob.get_blob_properties().metadata or {}).get(_NONCE) == nonce:
            return
        raise taken(str(blob.blob_name)) from None
    if code == "CannotVerifyCopySource":
        raise StoreError(
            f"`{source}`: the storage account may not read it for a copy: {status_of(error)} {code}",
            "copying needs the role Storage Blob Data Contributor on the containers of both",
        ) from None
    raise error


def _readable(clients: Clients, key: str) -> tuple[str, dict[str, Any]]:
    """The address of a blob, and what lets the service read it there in our name."""
    account, blob = clients.account, clients.blob(key)
    if not isinstance(account.credential, AzureNamedKeyCredential):
        token = account.credential.get_token(SCOPE, tenant_id=account.tenant or None)
        return blob.url, {"source_authorization": f"Bearer {token.token}"}
    from azure.storage.blob import BlobSasPermissions, generate_blob_sas

    named = account.credential.named_key
    signature = generate_blob_sas(
        named.name,
        blob.container_name,
        key,
        account_key=named.key,
        permission=BlobSasPermissions(read=True),
        expiry=datetime.now(UTC) + _SIGNED_FOR,
    )
    return f"{blob.url}?{signature}", {}
