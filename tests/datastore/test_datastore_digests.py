"""What is known of the bytes in the datastore: they are read when nobody noted their digest, and not again."""

import hashlib
from pathlib import Path
from typing import Any

import pytest

from tensoryard.downloads import download_path
from tensoryard.errors import AlreadyExistsError, StoreError, VerificationError
from tensoryard.folders import folder_files
from tensoryard.store import Store, keys
from tensoryard.store.blob import BlobStore
from tensoryard.store.sums import Sums
from tensoryard.uploads import Upload, upload_files
from text_folders import Counting, read, write


def test_a_second_transfer_knows_the_digests_and_reads_no_stored_file(
    request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    store = BlobStore(request.getfixturevalue("blob_account"))
    files = folder_files(write(tmp_path / "source", {"a": "1", "sub/b": "22"}))
    upload_files(store, files, "d", overwrite=False, show_progress=False)
    counting: Any = Counting(store)
    assert upload_files(counting, files, "d", overwrite=False, show_progress=False) == (0, 0, 2)
    how = {"whole_paths": False, "overwrite": False, "show_progress": False}
    assert download_path(store, "d", tmp_path / "back", **how) == (2, 3, 0)
    assert download_path(counting, "d", tmp_path / "back", **how) == (0, 0, 2)
    assert [key for key in counting.read_keys if key.startswith("data/")] == []


def test_a_file_that_others_replaced_is_read_again(store: Store, tmp_path: Path) -> None:
    files = folder_files(write(tmp_path / "source", {"a": "1"}))
    upload_files(store, files, "d", overwrite=False, show_progress=False)
    store.put(keys.data("d/a"), b"2", overwrite=True)
    with pytest.raises(AlreadyExistsError):
        upload_files(store, files, "d", overwrite=False, show_progress=False)
    how = {"whole_paths": False, "overwrite": False, "show_progress": False}
    download_path(store, "d", tmp_path / "back", **how)
    assert read(tmp_path / "back") == {"a": "2"}


def test_who_finds_a_file_put_there_meanwhile_takes_the_same_bytes_and_no_others(
    store: Store, tmp_path: Path
) -> None:
    files = folder_files(write(tmp_path / "source", {"a": "1", "b": "2", "c": "3"}))
    upload = Upload(store, files, "d")
    store.put(keys.data("d/a"), b"1")
    store.put(keys.data("d/b"), b"other")
    with pytest.raises(StoreError, match="2 of 3 files were uploaded, 1 failed: `d/b`: already exists"):
        upload.run(overwrite=False, show_progress=False)
    assert [store.read(keys.data(f"d/{name}")) for name in "abc"] == [b"1", b"other", b"3"]


def test_what_was_put_there_by_others_is_read_once(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    store = BlobStore(request.getfixturevalue("blob_account"))
    store.put(keys.data("d/a"), b"1")
    files = folder_files(write(tmp_path / "source", {"a": "1"}))
    assert upload_files(store, files, "d", overwrite=False, show_progress=False) == (0, 0, 1)
    counting: Any = Counting(store)
    assert upload_files(counting, files, "d", overwrite=False, show_progress=False) == (0, 0, 1)
    assert [key for key in counting.read_keys if key.startswith("data/")] == []


def test_notes_that_newer_ones_replaced_are_dropped_and_the_rest_is_known(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tensoryard.store.sums._USELESS", 10)
    store = BlobStore(request.getfixturevalue("blob_account"))
    kept = store.put(keys.data("d/kept"), b"1")
    often = store.put(keys.data("d/often"), b"2")
    for number in range(20):
        sums = Sums(store)
        sums.note(kept, "1" * 64)
        sums.note(often, f"{number:064}")
        sums.flush()
    before = sum(entry.size_bytes for entry in store.list("data-sums/"))

    sums = Sums(store)
    sums.load(["d/kept"])
    assert (sums.known(kept), sums.known(often)) == ("1" * 64, f"{19:064}")
    assert sum(entry.size_bytes for entry in store.list("data-sums/")) < before / 10
    later = Sums(store)
    later.note(often, "2" * 64)
    later.flush()
    again = Sums(store)
    again.load(["d/kept"])
    assert (again.known(kept), again.known(often)) == ("1" * 64, "2" * 64)


def test_notes_that_another_writes_anew_while_they_are_read_are_read_there(
    request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    store = BlobStore(request.getfixturevalue("blob_account"))
    files = folder_files(write(tmp_path / "source", {"a": "1"}))
    upload_files(store, files, "d", overwrite=False, show_progress=False)

    class Rewritten(Counting):
        def read(self, key: str, *where: int) -> bytes:
            if key.startswith("data-sums/") and key.endswith("0000.jsonl"):
                store.append(key.replace("0000.jsonl", "0001.jsonl"), store.read(key))
                store.delete(key)
            return super().read(key, *where)

    rewritten: Any = Rewritten(store)
    assert upload_files(rewritten, files, "d", overwrite=False, show_progress=False) == (0, 0, 1)
    assert [key for key in rewritten.read_keys if key.startswith("data/")] == []


def test_stored_bytes_that_are_not_those_that_were_sent_are_not_taken(
    request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    store = BlobStore(request.getfixturevalue("blob_account"))
    entry = store.put(keys.data("d/a"), b"1")
    sums = Sums(store)
    sums.note(entry, hashlib.sha256(b"2").hexdigest())
    sums.flush()
    with pytest.raises(VerificationError, match="sha256"):
        download_path(store, "d", tmp_path / "back", whole_paths=False, overwrite=False, show_progress=False)
    assert read(tmp_path / "back") == {}
