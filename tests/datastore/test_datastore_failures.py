"""Transfers of which a part fails or is broken off: the rest is done, and nothing is left half."""

import fcntl
import itertools
import signal
import threading
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from tensoryard.downloads import download_path
from tensoryard.errors import StoreError
from tensoryard.folders import folder_files
from tensoryard.store import Store
from tensoryard.uploads import upload_files
from text_folders import Counting, read, write


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
