"""Folders between this machine and the datastore, and references to them."""

import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from tensoryard.cli.data import data
from tensoryard.datastore import Datastore
from tensoryard.errors import AlreadyExistsError, NotFoundError, TensoryardError, UsageError
from tensoryard.folders import Folder, clean_path, download_path, folder_files, listing, upload_files
from tensoryard.idx_data import FILES, write_idx
from tensoryard.job import DatastoreReference
from tensoryard.store import Store, keys
from tensoryard.store.file import FileStore
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
    files = [str(source / "x/a"), source / "x/y/b"]
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


def test_a_failed_write_stops_the_transfer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = FileStore(tmp_path / "store")
    files = folder_files(write(tmp_path / "source", {f"{number:03}": "1" for number in range(100)}))
    put = store.put_file
    written = []

    def failing(key: str, path: Path, *, overwrite: bool = False) -> object:
        written.append(key)
        if key.endswith("010"):
            raise NotFoundError("gone")
        return put(key, path, overwrite=overwrite)

    monkeypatch.setattr(store, "put_file", failing)
    with pytest.raises(NotFoundError, match="gone"):
        upload_files(store, files, "d", overwrite=False, show_progress=False)
    assert len(written) < 100


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
