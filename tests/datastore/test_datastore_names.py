"""Names of files that the datastore or a disk cannot hold: refused before anything is sent or written."""

import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tensoryard.datastore import Datastore
from tensoryard.downloads import download_path
from tensoryard.errors import UsageError
from tensoryard.file_names import colliding, not_kept, not_on_windows
from tensoryard.folders import clean_path, folder_files
from tensoryard.store import Store
from tensoryard.store.file import FileStore
from tensoryard.uploads import upload_files
from tensoryard.workspace import Workspace
from text_folders import read, write


@pytest.fixture
def ds(tmp_path: Path) -> Datastore:
    return Workspace(tmp_path / "ws").get_default_datastore()


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


def test_nothing_goes_below_a_file(ds: Datastore, tmp_path: Path) -> None:
    source = write(tmp_path / "source", {"a": "1"})
    ds.upload(source)
    with pytest.raises(UsageError, match="`a` is a file in the datastore"):
        ds.upload(source, "a/b")


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
