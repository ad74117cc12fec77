"""What is particular to the store in a folder: what disks refuse, links, and kills between two system calls."""

import errno
import multiprocessing
import os
import resource
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from launching import same
from tensoryard.errors import AlreadyExistsError, NotFoundError, StoreError, VerificationError
from tensoryard.store import Entry
from tensoryard.store.file import FileStore
from tensoryard.store.keys import content
from tensoryard.store.transfer import CHUNK_BYTES, download, keep_file, sha256_file


@pytest.fixture
def files(tmp_path: Path) -> FileStore:
    return FileStore(tmp_path / "store")


@pytest.fixture
def read_only() -> Iterator[FileStore]:
    """A store of somebody else, with one value in it."""
    folder = Path(tempfile.mkdtemp())  # not tmp_path, into which only its owner may look
    store = FileStore(folder / "store")
    store.put("a/b", b"value")
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    is_root = os.geteuid() == 0
    if is_root:  # whom no permission stops
        os.seteuid(65534)
    yield store
    if is_root:
        os.seteuid(0)
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755)
    shutil.rmtree(folder)


def test_nothing_is_made_before_the_first_write(tmp_path: Path) -> None:
    store = FileStore(tmp_path / "store")

    assert list(store.list("")) == []
    assert store.stat("a") is None
    assert not (tmp_path / "store").exists()


def test_a_key_is_a_path_below_the_root(files: FileStore, tmp_path: Path) -> None:
    files.put("runs/a/job.json", b"1")

    assert files.local_path("runs/a/job.json") == tmp_path / "store" / "runs" / "a" / "job.json"
    assert files.local_path("runs/a/") == tmp_path / "store" / "runs" / "a"
    assert (tmp_path / "store/runs/a/job.json").read_bytes() == b"1"
    assert list((tmp_path / "store/.tmp").iterdir()) == []


def test_a_read_only_store_can_be_read_and_says_why_it_cannot_be_written(read_only: FileStore) -> None:
    assert read_only.read("a/b") == b"value"
    for use in (
        lambda: read_only.put("a/c", b""),
        lambda: read_only.put("a/b", b"", overwrite=True),
        lambda: read_only.append("a/b", b"x"),
        lambda: read_only.append("new/log", b"x"),
        lambda: read_only.set_tags("a/b", {"k": "v"}),
        lambda: read_only.delete("a/b"),
    ):
        with pytest.raises(StoreError, match="permission denied") as caught:
            use()
        assert caught.value.hint


def test_a_full_disk_leaves_the_log_as_it_was(files: FileStore) -> None:
    files.append("log", b"x" * 800)

    def fill() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))  # the disk takes 200 bytes more, then no more
        for use in (lambda: files.append("log", b"y" * 800), lambda: files.put("big", b"y" * 1001)):
            try:
                use()
            except StoreError as error:
                if "failed" not in error.message:
                    os._exit(8)
            else:
                os._exit(7)
        os._exit(0)

    child = multiprocessing.get_context("fork").Process(target=fill)
    child.start()
    child.join()

    assert child.exitcode == 0
    assert files.read("log") == b"x" * 800
    assert files.stat("big") is None
    assert files.append("log", b"z") == 800


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EDQUOT])
def test_what_a_disk_refuses_comes_with_a_hint(files: FileStore, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", refuse)

    with pytest.raises(StoreError, match=os.strerror(code).lower()) as caught:
        files.put("a", b"1")
    assert caught.value.hint
    assert files.stat("a") is None


def test_a_value_and_a_folder_cannot_share_a_name(files: FileStore) -> None:
    files.put("a/b", b"1")

    for overwrite in (False, True):
        with pytest.raises(StoreError, match="holds other values"):
            files.put("a", b"2", overwrite=overwrite)
        with pytest.raises(StoreError, match="not a directory"):
            files.put("a/b/c", b"2", overwrite=overwrite)
    with pytest.raises(StoreError):
        files.append("a", b"2")


def test_a_link_that_leads_out_is_neither_followed_nor_listed(files: FileStore, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_bytes(b"secret")
    files.put("data/own", b"own")
    (tmp_path / "store/data/folder").symlink_to(outside)
    (tmp_path / "store/data/file").symlink_to(outside / "secret")

    for key in ("data/folder/secret", "data/file", "data/folder/new"):
        for use in (
            lambda key=key: files.read(key),
            lambda key=key: files.put(key, b"x", overwrite=True),
            lambda key=key: files.append(key, b"x"),
            lambda key=key: files.local_path(key),
        ):
            with pytest.raises(StoreError, match="link"):
                use()
    assert [entry.key for entry in files.list("")] == ["data/own"]
    assert list(files.children("data/")) == ["own"]
    assert [path.name for path in outside.iterdir()] == ["secret"]


def test_a_link_within_the_store_reads_what_it_names(files: FileStore, tmp_path: Path) -> None:
    files.put("runs/a/outputs/model-3", b"three")
    (tmp_path / "store/runs/a/outputs/best").symlink_to("model-3")
    (tmp_path / "store/runs/a/loop").symlink_to(".")

    assert files.read("runs/a/outputs/best") == b"three"
    assert [entry.key for entry in files.list("")] == ["runs/a/outputs/best", "runs/a/outputs/model-3"]


def test_a_put_killed_at_any_system_call_leaves_the_whole_value_or_none(files: FileStore) -> None:
    names = ["open", "write", "fsync", "link", "close", "unlink", "makedirs", "fstat"]

    def put(killed_at: int) -> None:
        calls = 0

        def counted(real: Any) -> Any:
            def call(*arguments: Any, **options: Any) -> Any:
                nonlocal calls
                calls += 1
                if calls == killed_at:
                    os._exit(9)
                return real(*arguments, **options)

            return call

        for name in names:
            setattr(os, name, counted(getattr(os, name)))
        files.put(f"models/{killed_at}/record", b"whole" * 1000, tags={"k": "v"})
        os._exit(0)

    context = multiprocessing.get_context("fork")
    seen = set()
    for killed_at in range(1, 100):
        child = context.Process(target=put, args=(killed_at,))
        child.start()
        child.join()
        there = files.stat(f"models/{killed_at}/record") is not None
        assert list(files.find_by_tags({"k": "v"}, f"models/{killed_at}/")) == [f"models/{killed_at}/record"] * there
        if there:
            assert files.read(f"models/{killed_at}/record") == b"whole" * 1000
        seen.add(there)
        if child.exitcode == 0:
            break

    assert child.exitcode == 0
    assert seen == {True, False}
    assert len(list(files.list(""))) == len([entry for entry in files.list("models/") if entry.size_bytes == 5000])


def test_what_killed_writers_left_long_ago_is_removed(tmp_path: Path) -> None:
    old, young = tmp_path / "store/.tmp/old", tmp_path / "store/.tmp/young"
    old.parent.mkdir(parents=True)
    old.write_bytes(b"half")
    young.write_bytes(b"half")
    long_ago = time.time() - 100_000
    os.utime(old, (long_ago, long_ago))
    FileStore(tmp_path / "store").put("a", b"1")

    assert list(old.parent.iterdir()) == [young]


def test_tags_that_cannot_be_read_are_no_tags(files: FileStore, tmp_path: Path) -> None:
    files.put("a", b"1", tags={"k": "v"})
    (tmp_path / "store/.tags/a").write_bytes(b"{torn")

    assert files.tags("a") == {}
    assert list(files.find_by_tags({"k": "v"})) == []


@pytest.mark.parametrize("lost", ["", "m", "m/\\log", "\\complete"])
def test_an_index_that_was_lost_is_made_anew_from_the_tags(files: FileStore, tmp_path: Path, lost: str) -> None:
    for key in ("m/1", "m/2", "m/n/3", "top"):
        files.put(key, b"1", tags={"model": "digits", "key": key})
    logs = tmp_path / "store/.tags-log" / lost
    shutil.rmtree(logs) if logs.is_dir() else logs.unlink()
    again = FileStore(tmp_path / "store")

    again.put("m/4", b"1", tags={"model": "digits"})
    assert list(again.find_by_tags({"model": "digits"}, "m/")) == ["m/1", "m/2", "m/4", "m/n/3"]
    assert list(FileStore(tmp_path / "store").find_by_tags({"key": "top"})) == ["top"]


def test_a_store_of_somebody_else_is_searched_without_its_index(files: FileStore, tmp_path: Path) -> None:
    files.put("m/1", b"1", tags={"model": "digits"})
    shutil.rmtree(tmp_path / "store/.tags-log")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FileStore, "_temporary", refuse := _refusing())
        patch.setattr(os, "makedirs", refuse)
        found = list(FileStore(tmp_path / "store").find_by_tags({"model": "digits"}))
    assert found == ["m/1"]
    assert not (tmp_path / "store/.tags-log").exists()


def _refusing() -> Any:
    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    return refuse


def test_half_a_line_of_the_index_hides_none_after_it(files: FileStore, tmp_path: Path) -> None:
    files.put("m/1", b"1", tags={"model": "digits"})
    with (tmp_path / "store/.tags-log/m/\\log").open("ab") as log:
        log.write(b'\n{"key":"m/2","etag":"x","tags":{"model":"digits"')
    files.put("m/3", b"1", tags={"model": "digits"})

    assert list(files.find_by_tags({"model": "digits"})) == ["m/1", "m/3"]


def test_what_the_index_says_of_a_value_that_was_written_twice_or_never_is_not_believed(files: FileStore) -> None:
    files.put("m/1", b"1", tags={"model": "digits"})
    with pytest.raises(AlreadyExistsError):
        files.put("m/1", b"2", tags={"model": "letters"})
    assert list(files.find_by_tags({"model": "letters"})) == []

    files.delete("m/1")
    files.put("m/1", b"1")
    assert list(files.find_by_tags({"model": "digits"})) == []


def test_all_that_many_writers_tag_at_once_is_found(files: FileStore) -> None:
    def write(writer: int) -> None:
        for number in range(10):
            FileStore(files.root).put(f"m/{writer}-{number}", b"", tags={"model": "digits", "writer": str(writer)})
        os._exit(0)

    writers = [multiprocessing.get_context("fork").Process(target=write, args=(number,)) for number in range(8)]
    for one in writers:
        one.start()
    for one in writers:
        one.join()

    assert len(list(files.find_by_tags({"model": "digits"}, "m/"))) == 80
    assert list(files.find_by_tags({"model": "digits", "writer": "7"})) == [f"m/7-{number}" for number in range(10)]


def test_download_writes_large_values_and_checks_them(files: FileStore, tmp_path: Path) -> None:
    data = os.urandom(CHUNK_BYTES + 12345)
    files.put("big", data)
    source = tmp_path / "source"
    source.write_bytes(data)

    assert download(files, "big", tmp_path / "new/target", sha256_file(source), len(data)) == len(data)
    assert same((tmp_path / "new/target").read_bytes(), data)


@pytest.mark.parametrize(("sha256", "size_bytes"), [("0" * 64, None), (None, 3), (None, 5), ("0" * 64, 4)])
def test_download_of_other_bytes_leaves_nothing(
    files: FileStore, tmp_path: Path, sha256: str | None, size_bytes: int | None
) -> None:
    files.put("a", b"four")

    with pytest.raises(VerificationError, match="`a`: got"):
        download(files, "a", tmp_path / "new/target", sha256, size_bytes)
    assert list((tmp_path / "new").iterdir()) == []
    with pytest.raises(NotFoundError):
        download(files, "absent", tmp_path / "new/target")
    assert list((tmp_path / "new").iterdir()) == []


def test_equal_files_are_kept_once(files: FileStore, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(b"same")
    first, second = (keep_file(files, tmp_path / name) for name in ("a", "b"))

    assert first[0] == second[0]
    # Its time and etag are new: whoever keeps it again says that it is in use, so that no clean-up takes it.
    assert (first[1].key, first[1].size_bytes) == (second[1].key, second[1].size_bytes)
    assert first[1].etag != second[1].etag
    assert [entry.key for entry in files.list("objects/")] == [content(first[0])]


def test_a_writer_killed_between_two_pages_of_a_record_leaves_nothing_of_it(
    files: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel writes page by page, and looks for a kill after each."""
    record = b"x" * 199 + b"\n"
    written = os.write

    def killed_at_the_page(fd: int, data: bytes) -> int:
        page = -os.fstat(fd).st_size % 4096
        if 0 < page < len(data):
            written(fd, data[:page])
            os.kill(os.getpid(), signal.SIGKILL)
        return written(fd, data)

    def write() -> None:
        monkeypatch.setattr(os, "write", killed_at_the_page)
        while True:
            files.append("log", record)

    writer = multiprocessing.get_context("fork").Process(target=write)
    writer.start()
    writer.join()
    whole = 4096 // 200

    assert files.read("log") == record * whole
    assert files.append("log", record) == whole * 200
    assert files.read("log") == record * (whole + 1)


def test_what_is_written_right_after_a_seen_value_was_deleted_stays(
    files: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when somebody registers the very bytes that a clean-up has just removed."""
    seen = files.put("objects/a", b"same")
    unlink = os.unlink

    def unlink_and_write(path: str) -> None:
        unlink(path)
        monkeypatch.setattr(os, "unlink", unlink)
        files.put("objects/a", b"same")

    monkeypatch.setattr(os, "unlink", unlink_and_write)

    assert files.delete("objects/a", etag=seen.etag)
    assert files.read("objects/a") == b"same"


def test_bytes_that_are_not_those_of_the_digest_go_and_those_that_others_keep_stay(
    files: FileStore, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"one")
    digest = sha256_file(source)

    class Late:
        """A store that is asked just after the file was written to, and in which another puts it right again."""

        def __getattr__(self, name: str) -> Any:
            return getattr(files, name)

        def put_file(self, key: str, path: Path) -> Entry:
            source.write_bytes(b"other")
            entry = files.put_file(key, path)
            if others:
                files.delete(key)
                files.put(key, b"one")
            return entry

    for others in (False, True):
        late: Any = Late()
        source.write_bytes(b"one")
        with pytest.raises(VerificationError, match="changed while it was copied"):
            keep_file(late, source)
        assert [files.read(entry.key) for entry in files.list("objects/")] == ([b"one"] if others else [])
    assert files.stat(content(digest)) is not None
