"""Folders between this machine and the datastore, and references to them."""

import fcntl
import hashlib
import io
import itertools
import json
import os
import random
import re
import signal
import tempfile
import threading
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from launching import same
from tensoryard.cli.data import data
from tensoryard.datastore import Datastore
from tensoryard.downloads import download_path
from tensoryard.errors import (
    AlreadyExistsError,
    NotFoundError,
    StoreError,
    TensoryardError,
    UsageError,
    VerificationError,
)
from tensoryard.file_names import colliding, not_kept, not_on_windows
from tensoryard.folders import Folder, clean_path, folder_files, listing
from tensoryard.idx_data import FILES, write_idx
from tensoryard.job import DatastoreReference
from tensoryard.progress import Lines
from tensoryard.store import Store, keys, transfer
from tensoryard.store.blob import BlobStore
from tensoryard.store.file import FileStore
from tensoryard.store.sums import Sums
from tensoryard.uploads import Upload, upload_files
from tensoryard.workspace import Workspace


@pytest.fixture
def ds(tmp_path: Path) -> Datastore:
    return Workspace(tmp_path / "ws").get_default_datastore()


def write(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def read(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_a_folder_comes_back_as_it_was(store: Store, tmp_path: Path, odd_name: str) -> None:
    files = {"a.txt": "1", f"{odd_name}/{odd_name}": "2", "empty": "", "deep/er/b": "3"}
    source = write(tmp_path / "source", files)
    upload_files(store, folder_files(source), "mnist", overwrite=False, show_progress=False)
    download_path(store, "mnist", tmp_path / "back", whole_paths=False, overwrite=False, show_progress=False)
    assert read(tmp_path / "back") == dict(sorted(files.items()))


def test_upload_gives_a_reference_to_where_the_files_are(ds: Datastore, tmp_path: Path) -> None:
    source = write(tmp_path / "data", {"a": "1"})
    assert ds.upload(src_dir=str(source), target_path="./mnist/") == DatastoreReference("default", "mnist", "mount")
    assert ds.upload(source) == DatastoreReference("default", "", "mount")
    assert read(ds.workspace.root / "data") == {"a": "1", "mnist/a": "1"}


def test_references_say_how_the_data_is_to_be_read(ds: Datastore) -> None:
    assert ds.path("mnist").as_download() == DatastoreReference("default", "mnist", "download")
    assert ds.path("mnist").as_download().as_mount() == DatastoreReference("default", "mnist", "mount")
    assert ds.as_mount() == DatastoreReference("default", "", "mount")


def test_equal_files_are_left_alone(store: Store, tmp_path: Path) -> None:
    source = write(tmp_path / "source", {"a": "1", "b": "22"})
    upload_files(store, folder_files(source), "d", overwrite=False, show_progress=False)
    before = store.stat(keys.data("d/a"))
    write(source, {"c": "333"})
    done = upload_files(store, folder_files(source), "d", overwrite=True, show_progress=False)
    assert done == (1, 3, 2)
    assert store.stat(keys.data("d/a")) == before


def test_changed_files_need_overwrite_and_nothing_is_written_before_that_is_known(
    store: Store, tmp_path: Path
) -> None:
    source = write(tmp_path / "source", {"a": "1", "b": "1"})
    upload_files(store, folder_files(source), "d", overwrite=False, show_progress=False)
    write(source, {"a": "new", "0-first": "new"})
    with pytest.raises(AlreadyExistsError, match="other bytes: `d/a`"):
        upload_files(store, folder_files(source), "d", overwrite=False, show_progress=False)
    assert store.stat(keys.data("d/0-first")) is None
    upload_files(store, folder_files(source), "d", overwrite=True, show_progress=False)
    assert store.read(keys.data("d/a")) == b"new"


def test_same_size_other_bytes_is_a_change(store: Store, tmp_path: Path) -> None:
    source = write(tmp_path / "source", {"a": "1"})
    upload_files(store, folder_files(source), "d", overwrite=False, show_progress=False)
    write(source, {"a": "2"})
    assert upload_files(store, folder_files(source), "d", overwrite=True, show_progress=False) == (1, 1, 0)


def test_download_keeps_local_changes_unless_told(ds: Datastore, tmp_path: Path) -> None:
    ds.upload(write(tmp_path / "source", {"a": "1", "b": "2"}), "mnist")
    write(tmp_path / "here", {"mnist/a": "mine"})
    with pytest.raises(AlreadyExistsError, match="mnist/a"):
        ds.download(str(tmp_path / "here"), prefix="mnist")
    assert read(tmp_path / "here") == {"mnist/a": "mine"}
    assert ds.download(str(tmp_path / "here"), prefix="mnist", overwrite=True) == 2
    assert read(tmp_path / "here") == {"mnist/a": "1", "mnist/b": "2"}


def test_a_prefix_is_a_folder_and_not_the_beginning_of_a_name(ds: Datastore, tmp_path: Path) -> None:
    ds.upload(write(tmp_path / "source", {"mnist/a": "1", "mnist-old/a": "2"}))
    assert ds.download(tmp_path / "here", prefix="mnist") == 1
    with pytest.raises(NotFoundError) as caught:
        ds.download(tmp_path / "here", prefix="mnits")
    assert caught.value.hint == "did you mean `mnist`?"


def test_upload_files_keeps_paths_below_what_they_share(ds: Datastore, tmp_path: Path) -> None:
    source = write(tmp_path / "source", {"x/a": "1", "x/y/b": "2"})
    files: list[str | Path] = [str(source / "x/a"), source / "x/y/b"]
    ds.upload_files(files, target_path="one")
    ds.upload_files(files, relative_root=source, target_path="two")
    assert read(ds.workspace.root / "data") == {"one/a": "1", "one/y/b": "2", "two/x/a": "1", "two/x/y/b": "2"}
    with pytest.raises(UsageError, match="is not below"):
        ds.upload_files(files, relative_root=source / "x/y")


def test_links_are_followed_inside_the_folder_only(tmp_path: Path) -> None:
    source = write(tmp_path / "source", {"real": "1"})
    (source / "alias").symlink_to("real")
    assert {name: path.read_text() for name, path in folder_files(source).items()} == {"real": "1", "alias": "1"}
    secret = write(tmp_path, {"secret": "s"}) / "secret"
    for name, target in {"out": secret, "folder": tmp_path, "gone": tmp_path / "nothing"}.items():
        (source / name).symlink_to(target)
        with pytest.raises(UsageError, match=f"`{name}` is a link to"):
            folder_files(source)
        (source / name).unlink()


def test_a_workspace_inside_the_folder_is_not_uploaded_into_itself(tmp_path: Path) -> None:
    write(tmp_path / "project", {"a": "1", ".tensoryard/data/b": "2"})
    assert [*folder_files(tmp_path / "project")] == ["a"]


def test_what_is_no_file_is_refused_without_reading_it(tmp_path: Path) -> None:
    source = write(tmp_path / "source", {"a": "1"})
    os.mkfifo(source / "pipe")
    with pytest.raises(UsageError, match="`pipe` is no file"):
        folder_files(source)


@pytest.mark.parametrize("path", ["../x", "/etc", "a/../../x", "a\\b", "a\nb", "..", "x" * 300])
def test_paths_that_lead_out_or_cannot_be_kept_are_refused(ds: Datastore, tmp_path: Path, path: str) -> None:
    source = write(tmp_path / "source", {"a": "1"})
    with pytest.raises(UsageError):
        ds.upload(source, path)
    with pytest.raises(UsageError):
        ds.path(path)


@given(st.text())
def test_a_cleaned_path_never_leads_out(path: str) -> None:
    try:
        cleaned = clean_path(path)
    except UsageError:
        return
    assert cleaned == clean_path(cleaned)
    assert not cleaned.startswith("/")
    assert ".." not in cleaned.split("/")


def test_download_does_not_write_behind_a_link(ds: Datastore, tmp_path: Path) -> None:
    ds.upload(write(tmp_path / "source", {"d/a": "1"}))
    (tmp_path / "here").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "here" / "d").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UsageError, match="leads out"):
        ds.download(tmp_path / "here")
    assert read(tmp_path / "elsewhere") == {}


def test_nothing_goes_below_a_file(ds: Datastore, tmp_path: Path) -> None:
    source = write(tmp_path / "source", {"a": "1"})
    ds.upload(source)
    with pytest.raises(UsageError, match="`a` is a file in the datastore"):
        ds.upload(source, "a/b")


@pytest.mark.parametrize("make", [lambda folder: None, lambda folder: folder.mkdir()])
def test_an_empty_or_missing_folder_says_so(ds: Datastore, tmp_path: Path, make: object) -> None:
    make(tmp_path / "source")  # type: ignore[operator]
    with pytest.raises(NotFoundError):
        ds.upload(tmp_path / "source")


def test_there_is_one_datastore(ds: Datastore) -> None:
    assert Datastore.get(ds.workspace, "workspaceblobstore").name == "default"
    with pytest.raises(NotFoundError, match="there is no `other`"):
        Datastore.get(ds.workspace, "other")


def test_a_listing_counts_what_folders_hold(store: Store, tmp_path: Path) -> None:
    assert listing(store) == []
    files = folder_files(write(tmp_path / "source", {"a/x": "1", "a/y/z": "22", "b": "333", "a-b/c": ""}))
    upload_files(store, files, "", overwrite=False, show_progress=False)
    assert listing(store) == [Folder("a-b/", 1, 0), Folder("a/", 2, 3), Folder("b", 1, 3)]
    assert listing(store, "a/") == [Folder("a/x", 1, 1), Folder("a/y/", 1, 2)]
    assert listing(store, "b") == [Folder("b", 1, 3)]
    with pytest.raises(NotFoundError):
        listing(store, "c")


class Refusing:
    """A store whose writes of some files fail; all the rest is the store's own."""

    def __init__(self, store: Store, *names: str) -> None:
        self.store = store
        self.names = names
        self.tried: list[str] = []

    def __getattr__(self, name: str) -> object:
        return getattr(self.store, name)

    def put(self, key: str, data: bytes, **how: Any) -> object:
        self._try(key)
        return self.store.put(key, data, **how)

    def put_file(self, key: str, path: Path, **how: bool) -> object:
        self._try(key)
        return self.store.put_file(key, path, **how)

    def _try(self, key: str) -> None:
        self.tried.append(key)
        if key.startswith("data/d/") and (not self.names or key.removeprefix("data/d/") in self.names):
            raise StoreError(f"`{key}`: writing failed: the disk is full", "free some space")


def test_failures_of_single_files_are_one_error_and_the_rest_is_done(store: Store, tmp_path: Path) -> None:
    files = folder_files(write(tmp_path / "source", {f"{number:02}": "1" for number in range(30)}))
    refusing: Any = Refusing(store, "07", "11")
    with pytest.raises(StoreError) as caught:
        upload_files(refusing, files, "d", overwrite=False, show_progress=False)
    assert caught.value.message in (
        "data: 28 of 30 files were uploaded, 2 failed: `d/07`: writing failed: the disk is full; "
        "`d/11`: writing failed: the disk is full",
        "data: 28 of 30 files were uploaded, 2 failed: `d/11`: writing failed: the disk is full; "
        "`d/07`: writing failed: the disk is full",
    )
    assert caught.value.hint == "free some space; the same command again does only what is missing"
    assert upload_files(store, files, "d", overwrite=False, show_progress=False) == (2, 2, 28)


def test_a_store_that_takes_nothing_is_not_asked_for_every_file(store: Store, tmp_path: Path) -> None:
    files = folder_files(write(tmp_path / "source", {f"{number:03}": "1" for number in range(200)}))
    refusing: Any = Refusing(store)
    with pytest.raises(StoreError, match=r"0 of 200 files were uploaded, .* were not tried after that"):
        upload_files(refusing, files, "d", overwrite=False, show_progress=False)
    assert len(refusing.tried) < 50


def test_one_file_that_fails_has_its_own_error(store: Store, tmp_path: Path) -> None:
    files = folder_files(write(tmp_path / "source", {"a": "1"}))
    refusing: Any = Refusing(store)
    with pytest.raises(StoreError, match=r"^`data/d/a`: writing failed: the disk is full\n"):
        upload_files(refusing, files, "d", overwrite=False, show_progress=False)


class Counting:
    """Counts the bytes read from a store."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.read_keys: list[str] = []

    def __getattr__(self, name: str) -> object:
        return getattr(self.store, name)

    def read(self, key: str, *where: int) -> bytes:
        self.read_keys.append(key)
        return self.store.read(key, *where)

    def stream(self, key: str, offset: int, etag: str) -> Generator[memoryview, None, None]:
        self.read_keys.append(key)
        yield from self.store.stream(key, offset, etag)


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
    with pytest.raises(StoreError, match="2 of 3 files were uploaded, 1 failed: `d/b`: was written before"):
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


def test_large_files_come_back_as_they_were(store: Store, tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    data = random.Random(1).randbytes((20 << 20) + 7)
    (tmp_path / "source" / "large").write_bytes(data)
    files = folder_files(tmp_path / "source")
    upload_files(store, files, "d", overwrite=False, show_progress=False)
    assert upload_files(store, files, "d", overwrite=False, show_progress=False) == (0, 0, 1)
    download_path(store, "d", tmp_path / "back", whole_paths=False, overwrite=False, show_progress=False)
    assert same((tmp_path / "back" / "large").read_bytes(), data)


def test_parts_of_a_killed_download_are_removed_and_never_uploaded(store: Store, tmp_path: Path) -> None:
    source = write(tmp_path / "source", {"a": "1", "sub/b": "2", "sub/.tyard-part-00": "half"})
    upload_files(store, folder_files(source), "d", overwrite=False, show_progress=False)
    back = write(tmp_path / "back", {".tyard-part-01": "half", "sub/.tyard-part-02": "half"})
    with (back / ".tyard-part-03").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        download_path(store, "d", back, whole_paths=False, overwrite=False, show_progress=False)
    assert read(back) == {"a": "1", "sub/b": "2", ".tyard-part-03": ""}


def test_ctrl_c_leaves_no_part_and_the_next_call_does_the_rest(store: Store, tmp_path: Path) -> None:
    sizes = {f"{number:03}": "x" * 1000 for number in range(200)}
    upload_files(store, folder_files(write(tmp_path / "source", sizes)), "d", overwrite=False, show_progress=False)
    handled = threading.Event()
    pressed = threading.Lock()
    count = itertools.count()

    def press(number: int, frame: object) -> None:
        handled.set()
        raise KeyboardInterrupt

    class Interrupted(Counting):
        def stream(self, key: str, offset: int, etag: str) -> Generator[memoryview, None, None]:
            if key.startswith("data/") and next(count) >= 10:
                if pressed.acquire(blocking=False):
                    main = threading.main_thread().ident
                    assert main is not None
                    signal.pthread_kill(main, signal.SIGINT)
                handled.wait()
            yield from super().stream(key, offset, etag)

    interrupted: Any = Interrupted(store)
    how = {"whole_paths": False, "overwrite": False, "show_progress": False}
    before = signal.signal(signal.SIGINT, press)
    try:
        with pytest.raises(KeyboardInterrupt):
            download_path(interrupted, "d", tmp_path / "back", **how)
    finally:
        signal.signal(signal.SIGINT, before)
    there = read(tmp_path / "back")
    assert there.items() < sizes.items()
    assert download_path(store, "d", tmp_path / "back", **how).same == len(there)
    assert read(tmp_path / "back") == sizes


@pytest.mark.parametrize("name", ["a\\b", "tab\there", "ends."])
def test_names_that_cannot_be_kept_are_said_before_anything_is_sent(store: Store, tmp_path: Path, name: str) -> None:
    files = folder_files(write(tmp_path / "source", {"a": "1", name: "2"}))
    with pytest.raises(UsageError, match="names that cannot be kept"):
        upload_files(store, files, "d", overwrite=False, show_progress=False)
    assert list(store.list("data/")) == []


def test_a_file_never_takes_the_place_of_a_folder(store: Store, tmp_path: Path) -> None:
    upload_files(
        store, folder_files(write(tmp_path / "one", {"a/b": "1"})), "d", overwrite=False, show_progress=False
    )
    files = folder_files(write(tmp_path / "two", {"a": "1"}))
    with pytest.raises(UsageError, match="`d/a` would be a file and the folder of `d/a/b`"):
        upload_files(store, files, "d", overwrite=False, show_progress=False)


def test_names_that_differ_in_capitals_are_refused_on_a_disk_that_takes_them_for_one(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No such disk is at hand here, so the answer of the probe is the only thing that is made up."""
    source = write(tmp_path / "source", {"Cat": "1", "cat": "2"})
    upload_files(store, folder_files(source), "d", overwrite=False, show_progress=False)
    how = {"whole_paths": False, "overwrite": False, "show_progress": False}
    download_path(store, "d", tmp_path / "here", **how)
    assert read(tmp_path / "here") == {"Cat": "1", "cat": "2"}
    monkeypatch.setattr("tensoryard.downloads.folds_names", lambda folder: True)
    with pytest.raises(UsageError, match="`Cat` and `cat`"):
        download_path(store, "d", tmp_path / "there", **how)
    assert not (tmp_path / "there").exists()


@pytest.mark.parametrize(
    ("paths", "pairs"),
    [
        (["a", "b"], []),
        (["A/x", "a/y"], []),
        (["A/x", "a/X"], [("A/x", "a/X")]),
        (["A", "a/x"], [("A", "a/x")]),
        (["\u00e9", "e\u0301"], [("e\u0301", "\u00e9")]),
    ],
)
def test_colliding(paths: list[str], pairs: list[tuple[str, str]]) -> None:
    assert colliding(paths) == pairs


@given(st.text(st.characters(exclude_characters="/\0", codec="utf-8"), min_size=1, max_size=40))
def test_a_name_is_kept_and_found_again_or_refused_before_it_is_sent(name: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        top = Path(folder)
        (top / "source").mkdir()
        if name in (".", "..", ".tensoryard") or len(name.encode()) > 255:
            return
        (top / "source" / name).write_text("1")
        store = FileStore(top / "store")
        try:
            upload_files(store, folder_files(top / "source"), "d", overwrite=False, show_progress=False)
        except UsageError:
            assert not_kept(f"d/{name}") is not None
            assert list(store.list("data/")) == []
            return
        assert not_kept(f"d/{name}") is None
        download_path(store, "d", top / "back", whole_paths=False, overwrite=False, show_progress=False)
        assert read(top / "back") == {name: "1"}


@pytest.mark.parametrize("name", ["con", "sub/NUL.txt", "a:b", "a?", "ends ", "dot./x", 'a"b'])
def test_names_that_windows_refuses(name: str) -> None:
    assert not_on_windows(name)
    assert not not_on_windows("console/com/nulls.txt")


def test_progress_in_lines_tells_files_bytes_rate_and_what_remains() -> None:
    out = io.StringIO()
    lines = Lines("Uploaded", 3, 30_000, out, every_s=0)
    lines.advance(10_000)
    lines.file_done()
    last = out.getvalue().splitlines()[-1]
    assert re.fullmatch(r"Uploaded 1 of 3 files, 10\.0 kB of 30\.0 kB, .*/s, .* left", last), last


class TestCommand:
    @pytest.fixture
    def tyard(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> object:
        monkeypatch.setenv("TYARD_WORKSPACE", str(tmp_path / "ws"))
        monkeypatch.chdir(tmp_path)

        def invoke(*arguments: str) -> tuple[str, str]:
            result = CliRunner().invoke(data, arguments, catch_exceptions=False)
            assert result.exit_code == 0
            return result.stdout, result.stderr

        return invoke

    def test_upload_list_download(self, tyard, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
        write(tmp_path / "photos", {"a": "1", "b/c": "22"})
        assert tyard("upload", "photos") == ("", "Uploaded 2 files (3 B) to `photos`\n")
        assert tyard("upload", "photos") == ("", "Uploaded 0 files (0 B) to `photos`, 2 were there already\n")
        assert tyard("upload", "photos/a") == ("", "Uploaded 1 file (1 B) to the datastore\n")
        assert tyard("list")[0] == "PATH     FILES  SIZE\na        1      1 B\nphotos/  2      3 B\n"
        assert json.loads(tyard("list", "photos", "--json")[0]) == [
            {"path": "photos/a", "files": 1, "size_bytes": 1},
            {"path": "photos/b/", "files": 1, "size_bytes": 2},
        ]
        tyard("download", "photos", "--to", "back")
        tyard("download", "photos/b/c", "--to", "one")
        tyard("download", ".", "--to", "all")
        assert read(tmp_path / "back") == {"a": "1", "b/c": "22"}
        assert read(tmp_path / "one") == {"c": "22"}
        assert read(tmp_path / "all") == {"a": "1", "photos/a": "1", "photos/b/c": "22"}

    def test_a_dry_run_tells_what_would_be_done_and_does_nothing(self, tyard, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
        write(tmp_path / "photos", {"a": "1", "b/c": "22"})
        assert tyard("upload", "photos", "--dry-run") == (
            "",
            "Would have uploaded 2 files (3 B) to `photos`\n       2 B  photos/b/c\n       1 B  photos/a\n",
        )
        assert tyard("list", "--json")[0] == "[]\n"
        tyard("upload", "photos")
        write(tmp_path / "photos", {"a": "3"})
        assert tyard("upload", "photos", "--dry-run") == (
            "",
            "Would have uploaded 1 file (1 B) to `photos`, 1 was there already\n"
            "There with other bytes, needs --overwrite: `photos/a`\n       1 B  photos/a\n",
        )
        assert json.loads(tyard("download", "photos", "--to", "back", "--dry-run", "--json")[0]) == {
            "files": 2,
            "size_bytes": 3,
            "same": 0,
            "replaced": 0,
            "dry_run": True,
            "largest": [{"path": "photos/b/c", "size_bytes": 2}, {"path": "photos/a", "size_bytes": 1}],
        }
        assert not (tmp_path / "back").exists()

    def test_names_for_other_systems_are_said(self, tyard, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
        write(tmp_path / "photos", {"a:b": "1", "Cat": "", "cat": ""})
        assert tyard("upload", "photos")[1] == (
            "Windows cannot write these names: `a:b`\n"
            "Windows and macOS take these for one name: `Cat` and `cat`\n"
            "Uploaded 3 files (1 B) to `photos`\n"
        )

    def test_json_is_all_that_is_said(self, tyard, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
        write(tmp_path / "photos", {"a": "1"})
        out, talk = tyard("upload", "photos", "--json")
        assert (json.loads(out)["files"], talk) == (1, "")

    def test_an_empty_datastore_is_an_empty_list(self, tyard) -> None:  # type: ignore[no-untyped-def]
        assert tyard("list", "--json")[0] == "[]\n"
        assert tyard("list")[0] == ""

    def test_fetch_puts_a_data_set_where_init_reads_it(  # type: ignore[no-untyped-def]
        self, tyard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def tiny(name: str, folder: Path, say: object) -> None:
            for file in FILES:
                write_idx(folder / file, b"\1\2", (2,))

        monkeypatch.setattr("tensoryard.idx_data.fetch", tiny)
        tyard("fetch", "digits")
        tyard("fetch", "digits", "--to", "other/place")
        assert sorted(read_names(tmp_path / "ws" / "data")) == sorted(
            f"{folder}/{file}" for folder in ("digits", "other/place") for file in FILES
        )

    @pytest.mark.parametrize(
        "arguments", [["upload", "nothing"], ["download", "nothing", "--to", "x"], ["list", "x"], ["fetch", "x"]]
    )
    def test_mistakes_are_errors_of_ours(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
    ) -> None:
        monkeypatch.setenv("TYARD_WORKSPACE", str(tmp_path / "ws"))
        with pytest.raises(TensoryardError):
            CliRunner().invoke(data, arguments, catch_exceptions=False)


def read_names(folder: Path) -> list[str]:
    return [str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()]


def test_large_files_of_a_folder_come_by_one_request_each_and_one_alone_by_several(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "CHUNK_BYTES", 1 << 20)
    files = {f"{number}": os.urandom(3 << 20) for number in range(4)}
    for name, held in files.items():
        store.put(keys.data(f"many/{name}"), held)
    store.put(keys.data("one/large"), files["0"])
    how = {"whole_paths": False, "overwrite": False, "show_progress": False}
    streamed: Any = Counting(store)

    download_path(streamed, "many", tmp_path / "many", **how)
    assert sorted(streamed.read_keys) == [keys.data(f"many/{name}") for name in files]
    assert same({path.name: path.read_bytes() for path in (tmp_path / "many").iterdir()}, files)

    streamed.read_keys.clear()
    download_path(streamed, "one", tmp_path / "one", **how)
    assert (streamed.read_keys == []) == (store.local_path("") is None)
    assert same((tmp_path / "one/large").read_bytes(), files["0"])
