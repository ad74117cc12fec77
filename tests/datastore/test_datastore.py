"""Folders between this machine and the datastore, and references to them."""

import io
import os
import random
import re
from pathlib import Path
from typing import Any

import pytest

from launching import same
from tensoryard.datastore import Datastore
from tensoryard.downloads import download_path
from tensoryard.errors import AlreadyExistsError, NotFoundError, UsageError
from tensoryard.folders import Folder, folder_files, listing
from tensoryard.job import DatastoreReference
from tensoryard.progress import Lines
from tensoryard.store import Store, keys, transfer
from tensoryard.uploads import upload_files
from tensoryard.workspace import Workspace
from text_folders import Counting, read, write


@pytest.fixture
def ds(tmp_path: Path) -> Datastore:
    return Workspace(tmp_path / "ws").get_default_datastore()


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
    with pytest.raises(AlreadyExistsError, match="different content: `d/a`"):
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


def test_download_does_not_write_behind_a_link(ds: Datastore, tmp_path: Path) -> None:
    ds.upload(write(tmp_path / "source", {"d/a": "1"}))
    (tmp_path / "here").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "here" / "d").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UsageError, match="leads out"):
        ds.download(tmp_path / "here")
    assert read(tmp_path / "elsewhere") == {}


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


def test_large_files_come_back_as_they_were(store: Store, tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    data = random.Random(1).randbytes((20 << 20) + 7)
    (tmp_path / "source" / "large").write_bytes(data)
    files = folder_files(tmp_path / "source")
    upload_files(store, files, "d", overwrite=False, show_progress=False)
    assert upload_files(store, files, "d", overwrite=False, show_progress=False) == (0, 0, 1)
    download_path(store, "d", tmp_path / "back", whole_paths=False, overwrite=False, show_progress=False)
    assert same((tmp_path / "back" / "large").read_bytes(), data)


def test_progress_in_lines_tells_files_bytes_rate_and_what_remains() -> None:
    out = io.StringIO()
    lines = Lines("Uploaded", 3, 30_000, out, every_s=0)
    lines.advance(10_000)
    lines.file_done()
    last = out.getvalue().splitlines()[-1]
    assert re.fullmatch(r"Uploaded 1 of 3 files, 10\.0 kB of 30\.0 kB, .*/s, .* left", last), last


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
    assert len(streamed.read_keys) == (3 if store.local_path("") is None else 1)
    assert same((tmp_path / "one/large").read_bytes(), files["0"])
