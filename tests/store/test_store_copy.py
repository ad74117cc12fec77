"""Values copied within a store: whole, of one moment, and on blob storage without passing through the client."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from services.azurite_fixtures import SignedIn
from services.faulty import FAULTS, Faulty
from tensoryard.errors import AlreadyExistsError, NotFoundError, StoreError, VerificationError
from tensoryard.store import Store

if TYPE_CHECKING:
    from tensoryard.store.blob import BlobStore
    from tensoryard.store.blob_account import BlobAccount


QUICK = (6, 0.01, 0.1)
# Where no answer ever comes: on a busy machine it may be late all by itself.
SOON = (*QUICK, 1)


@pytest.mark.parametrize("data", [b"", b"bytes"])
def test_a_copy_has_the_bytes_of_its_source(store: Store, data: bytes) -> None:
    source = store.put("runs/a-0001/outputs/with blank/ü%41", data)

    entry = store.copy(source.key, "objects/sha256/aa/x", etag=source.etag)

    assert (entry.key, entry.size_bytes) == ("objects/sha256/aa/x", len(data))
    assert entry == store.stat("objects/sha256/aa/x")
    assert data == store.read("objects/sha256/aa/x")
    store.delete(source.key)
    assert data == store.read("objects/sha256/aa/x")


def test_a_copy_crosses_containers(store: Store) -> None:
    store.put("data/x", b"bytes")
    store.copy("data/x", "models/m/x")

    assert store.read("models/m/x") == b"bytes"


def test_a_copy_replaces_nothing(store: Store) -> None:
    store.put("runs/a", b"new")
    store.put("objects/x", b"old")

    with pytest.raises(AlreadyExistsError):
        store.copy("runs/a", "objects/x")
    assert store.read("objects/x") == b"old"


def test_what_is_absent_or_another_value_is_not_copied(store: Store) -> None:
    before = store.put("data/a", b"one").etag
    store.put("data/a", b"two", overwrite=True)

    with pytest.raises(VerificationError, match="`data/a`: was changed"):
        store.copy("data/a", "objects/x", etag=before)
    with pytest.raises(NotFoundError, match="`data/b`"):
        store.copy("data/b", "objects/x")
    assert store.stat("objects/x") is None


def test_what_was_appended_can_be_copied(store: Store) -> None:
    store.append("runs/a/logs/x", b"one\n")
    store.append("runs/a/logs/x", b"two\n")
    store.copy("runs/a/logs/x", "objects/x")

    assert store.read("objects/x") == b"one\ntwo\n"


@pytest.fixture
def blobs(blob_account: "BlobAccount", monkeypatch: pytest.MonkeyPatch) -> "BlobStore":
    """Blob storage whose larger values are copied by blocks, from 1 KiB on."""
    from tensoryard.store import blob_copy
    from tensoryard.store.blob import BlobStore

    monkeypatch.setattr(blob_copy, "ONE_REQUEST_BYTES", 1000)
    monkeypatch.setattr(blob_copy, "BLOCK_BYTES", 700)
    return BlobStore(blob_account)


def test_a_large_value_is_copied_by_blocks_that_the_account_reads_itself(
    blobs: "BlobStore", monkeypatch: pytest.MonkeyPatch
) -> None:
    from azure.storage.blob import BlobClient

    data = bytes(range(256)) * 10
    source = blobs.put("runs/a-0001/outputs/ü b", data)
    with monkeypatch.context() as patched:
        for name in ("upload_blob", "stage_block", "download_blob"):
            patched.delattr(BlobClient, name)
        entry = blobs.copy(source.key, "objects/x", etag=source.etag)

    assert entry == blobs.stat("objects/x")
    assert blobs.read("objects/x") == data
    with pytest.raises(AlreadyExistsError):
        blobs.copy(source.key, "objects/x")


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("size_bytes", [900, 1300])
def test_one_fault_at_any_request_of_a_copy_changes_nothing(
    blobs: "BlobStore", blob_account: "BlobAccount", network: Faulty, fault: str, size_bytes: int
) -> None:
    """By one request, and by two blocks."""
    from tensoryard.store.blob import BlobStore
    from tensoryard.store.blob_account import Patience

    source = blobs.put("runs/a", b"x" * size_bytes)
    faults = 0
    while True:
        blobs.delete("objects/x")
        network.again(lambda asked, at=faults: fault if asked.number == at else None)  # type: ignore[misc]
        shaky = BlobStore(
            replace(blob_account, endpoint=network.endpoint), Patience(*(SOON if fault == "answer late" else QUICK))
        )
        entry = shaky.copy(source.key, "objects/x", etag=source.etag)
        assert entry == blobs.stat("objects/x")
        assert blobs.read("objects/x") == b"x" * size_bytes
        if len(network.seen) <= faults:  # the copy is done before this request
            break
        faults += 1
    assert faults >= 2


@pytest.mark.parametrize("fault", ["request lost", "answer lost", "503"])
@pytest.mark.parametrize("size_bytes", [900, 1300])
def test_a_copy_by_a_network_that_stays_broken_is_one_plain_error_and_no_half_value(
    blobs: "BlobStore", blob_account: "BlobAccount", network: Faulty, fault: str, size_bytes: int
) -> None:
    from tensoryard.store.blob import BlobStore
    from tensoryard.store.blob_account import Patience

    blobs.put("runs/a", b"x" * size_bytes)
    # Only what writes: the source is found, and then nothing goes through.
    network.again(lambda asked: fault if asked.method == "PUT" else None)
    shaky = BlobStore(replace(blob_account, endpoint=network.endpoint), Patience(*QUICK))

    with pytest.raises(StoreError, match=r"failed: the storage account .* (answered|did not answer)"):
        shaky.copy("runs/a", "objects/x")

    assert len(network.seen) <= 2 * QUICK[0] + 4
    there = blobs.stat("objects/x")
    assert there is None or blobs.read("objects/x") == b"x" * size_bytes


@pytest.mark.parametrize("after", ["overwritten", "gone"])
def test_a_source_that_changes_under_the_blocks_is_not_copied(
    blobs: "BlobStore", monkeypatch: pytest.MonkeyPatch, after: str
) -> None:
    from azure.storage.blob import BlobClient

    source = blobs.put("runs/a", b"x" * 2000)
    stage = BlobClient.stage_block_from_url

    def change_then_stage(self: BlobClient, block_id: str, *arguments: object, **options: object) -> object:
        if block_id.endswith("2"):
            if after == "gone":
                blobs.delete("runs/a")
            else:
                blobs.put("runs/a", b"y" * 2000, overwrite=True)
        return stage(self, block_id, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(BlobClient, "stage_block_from_url", change_then_stage)
    with pytest.raises(VerificationError, match="was changed while it was copied"):
        blobs.copy(source.key, "objects/x")
    assert blobs.stat("objects/x") is None


def test_who_is_signed_in_by_a_token_shows_it_for_the_source(signed_in: SignedIn, tmp_path: Path) -> None:
    """The account's key signs an address instead; neither is ever written down."""
    from azure.core.credentials import AccessToken

    from tensoryard.settings import AzureContainers
    from tensoryard.store.blob_account import BlobAccount, Clients, Patience
    from tensoryard.store.blob_copy import _readable

    class Credential:
        def get_token(self, *scopes: str, **options: object) -> AccessToken:
            return AccessToken("abc", 1 << 40)

    containers = AzureContainers(data="data", runs="runs", models="models")
    account = BlobAccount(endpoint=signed_in.azurite.endpoint, containers=containers, credential=Credential())
    url, shown = _readable(Clients(account, Patience()), "runs/a b")

    assert url == f"{signed_in.azurite.endpoint.rstrip('/')}/runs/runs/a%20b"
    assert shown == {"source_authorization": "Bearer abc"}
