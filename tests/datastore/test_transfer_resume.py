"""Large files of the datastore whose transfer was cut off: the next one goes on where it ended."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from launching import same
from services.faulty import Faulty
from tensoryard.downloads import download_path
from tensoryard.errors import VerificationError
from tensoryard.folders import folder_files
from tensoryard.store import Entry, Store, blob_upload, transfer
from tensoryard.store.blob import BlobStore
from tensoryard.store.blob_account import BlobAccount
from tensoryard.uploads import upload_files

BLOCK = 50_000
DATA = os.urandom(BLOCK * 20 + 7)


class Cut(Exception):  # noqa: N818 (what a kill would do, no failure)
    pass


@pytest.fixture
def cut_off(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], Callable[[object], None]]:
    """Makes what is told of each piece, and ends the transfer at one of them; pieces are small here."""
    monkeypatch.setattr(blob_upload, "WHOLE_BYTES", 0)
    monkeypatch.setattr(blob_upload, "BLOCK_BYTES", BLOCK)
    monkeypatch.setattr(transfer, "CHUNK_BYTES", BLOCK)
    monkeypatch.setattr(transfer, "RESUMED_FROM_BYTES", BLOCK)
    monkeypatch.setattr(transfer, "SMALL_BYTES", 0)

    def after(pieces: int) -> Callable[[object], None]:
        told: list[object] = []

        def tell(piece: object) -> None:
            told.append(piece)
            if len(told) > pieces:
                raise Cut

        return tell

    return after


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source" / "large"
    path.parent.mkdir()
    path.write_bytes(DATA)
    return path


def _blocks(network: Faulty) -> int:
    return sum(asked.method == "PUT" and "comp=block&" in f"{asked.path}&" for asked in network.seen)


def _send(store: Store, source: Path) -> None:
    upload_files(store, folder_files(source.parent), "d", overwrite=True, show_progress=False)


def test_an_upload_that_was_cut_off_sends_only_the_blocks_that_are_missing(
    blob_account: BlobAccount, network: Faulty, source: Path, cut_off: Callable[[int], Any]
) -> None:
    store = BlobStore(replace(blob_account, endpoint=network.endpoint))
    with pytest.raises(Cut):
        store.put_file("data/d/large", source, sent=cut_off(10))
    assert store.stat("data/d/large") is None

    network.again(lambda asked: None)
    _send(store, source)

    assert _blocks(network) <= 11
    assert same(store.read("data/d/large"), DATA)


def test_blocks_of_a_file_that_was_written_to_since_are_sent_again(
    blob_account: BlobAccount, network: Faulty, source: Path, cut_off: Callable[[int], Any]
) -> None:
    store = BlobStore(replace(blob_account, endpoint=network.endpoint))
    with pytest.raises(Cut):
        store.put_file("data/d/large", source, sent=cut_off(10))
    seen = source.stat()
    source.write_bytes(DATA[::-1])
    os.utime(source, ns=(seen.st_atime_ns, seen.st_mtime_ns))

    network.again(lambda asked: None)
    _send(store, source)

    assert _blocks(network) == 21
    assert same(store.read("data/d/large"), DATA[::-1])


class Reads:
    """A store that counts the bytes that are read from its data."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.count = 0

    def __getattr__(self, name: str) -> object:
        return getattr(self.store, name)

    def read(self, key: str, *where: int) -> bytes:
        data = self.store.read(key, *where)
        self.count += len(data) if key.startswith("data/") else 0
        return data

    def view(self, key: str, *where: int) -> memoryview:
        return memoryview(self.read(key, *where))


@pytest.fixture
def entry(blob_account: BlobAccount, source: Path) -> Entry:
    """That of the large file, whose digest was noted when it was sent."""
    store = BlobStore(blob_account)
    _send(store, source)
    found = store.stat("data/d/large")
    assert found is not None
    return found


def _fetch_part(blob_account: BlobAccount, entry: Entry, folder: Path, told: Callable[[int], None]) -> Path:
    import hashlib

    digest = hashlib.sha256(DATA).hexdigest()
    with pytest.raises(Cut):
        transfer.fetch(BlobStore(blob_account), entry, folder / "large", digest, told)
    (part,) = folder.iterdir()
    return part


def test_a_download_that_was_cut_off_fetches_only_what_is_missing(
    blob_account: BlobAccount, entry: Entry, tmp_path: Path, cut_off: Callable[[int], Any]
) -> None:
    back = tmp_path / "back"
    part = _fetch_part(blob_account, entry, back, cut_off(11))
    there = part.stat().st_size
    assert there > 9 * BLOCK

    reads: Any = Reads(BlobStore(blob_account))
    download_path(reads, "d", back, whole_paths=False, overwrite=False, show_progress=False)

    assert same((back / "large").read_bytes(), DATA)
    assert reads.count == len(DATA) - there
    assert [path.name for path in back.iterdir()] == ["large"]


@pytest.mark.parametrize("damage", [b"\0" * 200_000, DATA + b"more"], ids=["zeros", "longer"])
def test_a_part_that_a_disk_did_not_keep_is_fetched_again(
    blob_account: BlobAccount, entry: Entry, tmp_path: Path, cut_off: Callable[[int], Any], damage: bytes
) -> None:
    back = tmp_path / "back"
    _fetch_part(blob_account, entry, back, cut_off(11)).write_bytes(damage)

    download_path(BlobStore(blob_account), "d", back, whole_paths=False, overwrite=False, show_progress=False)

    assert same((back / "large").read_bytes(), DATA)
    assert [path.name for path in back.iterdir()] == ["large"]


@pytest.mark.parametrize("more", [b"", b"more"], ids=["as large", "larger"])
def test_a_file_that_is_replaced_while_it_is_fetched_is_not_taken(
    blob_account: BlobAccount, tmp_path: Path, cut_off: Callable[[int], Any], more: bytes
) -> None:
    """Nobody noted its digest, so only its ETag tells; a mixture of the two would be as large as the first."""
    near = BlobStore(blob_account)
    near.put("data/d/large", DATA)

    class Replaced(Reads):
        def view(self, key: str, *where: int) -> memoryview:
            if self.count == 0:
                near.put(key, DATA[::-1] + more, overwrite=True)
            return super().view(key, *where)

    replaced: Any = Replaced(near)
    with pytest.raises(VerificationError, match="was replaced while it was read"):
        download_path(replaced, "d", tmp_path / "back", whole_paths=False, overwrite=False, show_progress=False)
    assert list((tmp_path / "back").iterdir()) == []
