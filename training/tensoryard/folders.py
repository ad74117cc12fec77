"""Whole folders between this machine and the data of a workspace, over any store."""

import os
import posixpath
import stat
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tensoryard.errors import AlreadyExistsError, NotFoundError, StoreError, UsageError
from tensoryard.store import Store, keys
from tensoryard.store.disk import plain_errors
from tensoryard.store.transfer import download, sha256_file, sha256_key
from tensoryard.text import size
from tensoryard.workspace import FOLDER

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor


# Writing waits for the disk or the network, not for a core.
_AT_ONCE = 8
_SHOWN = 5


class Transferred(NamedTuple):
    """What a transfer did. files, size_bytes: written; same: files that were there already with the same bytes."""

    files: int
    size_bytes: int
    same: int


class Folder(NamedTuple):
    """A folder or file of a datastore as a listing shows it; a folder's path ends in "/"."""

    path: str
    files: int
    size_bytes: int


def clean_path(path: str | None) -> str:
    """
    A path of a datastore without `./` and a last slash; "" is its top.

    Raises UsageError for a path that is absolute or leads out of the datastore.
    """
    cleaned = posixpath.normpath(str(path)) if path else "."
    return "" if cleaned == "." else keys.check_key(cleaned, "path in the datastore")


def holds(store: Store, path: str) -> bool:
    """Whether a datastore has a file, or anything below a folder."""
    path = clean_path(path)
    if path and store.stat(keys.data(path)) is not None:
        return True
    return next(iter(store.list(keys.data_below(path))), None) is not None


def listing(store: Store, path: str = "") -> list[Folder]:
    """
    Files and folders directly below a path, in order, with how much they hold; a file by itself.

    Raises NotFoundError for a path where nothing is; the top may be empty.
    """
    path = clean_path(path)
    one = store.stat(keys.data(path)) if path else None
    if one is not None:
        return [Folder(path, 1, one.size_bytes)]
    below = keys.data_below(path)
    found = []
    for name in store.children(below):
        entries = list(store.list(below + name)) if name.endswith("/") else [store.stat(below + name)]
        sizes = [entry.size_bytes for entry in entries if entry is not None]
        found.append(Folder(f"{path}/{name}" if path else name, len(sizes), sum(sizes)))
    if path and not found:
        raise _nothing_at(store, path)
    return found


def folder_files(folder: Path) -> dict[str, Path]:
    """
    The files below a folder by their relative paths, or a file by its name.

    Links are followed to files inside the folder; a workspace in it, `.tensoryard`, is left out. Raises
    NotFoundError when there is nothing, UsageError for any other link, for what is no file, and for a name that no
    store can hold.
    """
    if folder.is_file():
        return {folder.name: folder}
    if not folder.is_dir():
        raise NotFoundError(f"`{folder}`: there is no such file or folder")
    files: dict[str, Path] = {}
    refused: list[str] = []
    top = folder.resolve()

    def unreadable(error: OSError) -> None:
        raise StoreError(f"`{error.filename}`: reading failed: {os.strerror(error.errno or 0).lower()}")

    for root, folders, names in os.walk(folder, onerror=unreadable):
        folders[:] = sorted(name for name in folders if name != FOLDER)
        for name in [*(each for each in folders if Path(root, each).is_symlink()), *sorted(names)]:
            path = Path(root, name)
            inner = path.relative_to(folder).as_posix()
            if path.is_symlink() and (path.is_dir() or not path.resolve().is_relative_to(top)):
                refused.append(f"`{inner}` is a link to {path.readlink()}")
            elif not path.exists() or not stat.S_ISREG(path.stat().st_mode):
                refused.append(f"`{inner}` is no file")
            else:
                files[inner] = path
    if refused:
        raise UsageError(
            f"`{folder}`: {_some(refused)}; links are followed only to files inside the folder",
            hint="put the files themselves there, or move the link away",
        )
    if not files:
        raise NotFoundError(f"`{folder}`: has no files")
    return files


def upload_files(
    store: Store, files: Mapping[str, Path], target: str, *, overwrite: bool, show_progress: bool
) -> Transferred:
    """
    What was written below a path of the datastore: each file appears there whole or not at all.

    files: by their paths below target. Raises as `Datastore.upload` does, before anything is written.
    """
    target = clean_path(target)
    _refuse_file_as_folder(store, target)
    named = {clean_path(f"{target}/{inner}" if target else inner): path for inner, path in files.items()}

    def needed(item: tuple[str, Path]) -> tuple[str, Path, int, bool] | None:
        inner, path = item
        with plain_errors(path, "reading"):
            size_bytes = path.stat().st_size
        entry = store.stat(keys.data(inner))
        if entry is None:
            return inner, path, size_bytes, False
        if entry.size_bytes == size_bytes and sha256_key(store, entry.key) == sha256_file(path):
            return None
        return inner, path, size_bytes, True

    with _pool() as pool:
        wanted = [found for found in pool.map(needed, named.items()) if found is not None]
        changed = [inner for inner, _, _, differs in wanted if differs]
        if changed and not overwrite:
            raise AlreadyExistsError(
                f"data: in the datastore already with other bytes: {_some([f'`{inner}`' for inner in changed])}",
                hint="`--overwrite`, in Python `overwrite=True`, replaces them; or use another path",
            )
        with _bar("Uploading", sum(size for _, _, size, _ in wanted), show_progress) as advance:

            def put(item: tuple[str, Path, int, bool]) -> int:
                inner, path, size_bytes, _ = item
                store.put_file(keys.data(inner), path, overwrite=overwrite)
                advance(size_bytes)
                return size_bytes

            sizes = list(pool.map(put, wanted))
    return Transferred(len(sizes), sum(sizes), len(named) - len(sizes))


def download_path(
    store: Store, path: str | None, folder: Path, *, whole_paths: bool, overwrite: bool, show_progress: bool
) -> Transferred:
    """
    What was written below a local folder, made of a folder or file of the datastore.

    whole_paths: whether files keep their whole paths in the datastore, or those below path.
    Raises NotFoundError when there is nothing, AlreadyExistsError when a local file differs and overwrite is false.
    """
    path = clean_path(path)
    one = store.stat(keys.data(path)) if path else None
    entries = [one] if one else list(store.list(keys.data_below(path)))
    if not entries:
        raise _nothing_at(store, path)
    start = len(keys.data("" if whole_paths else posixpath.dirname(path) if one else path))
    top = folder.resolve()
    wanted: list[tuple[str, Path, int]] = []
    changed = []
    for entry in entries:
        local = folder / entry.key[start:].lstrip("/")
        if not local.resolve().is_relative_to(top):
            raise UsageError(f"`{local}`: is behind a link that leads out of `{folder}`")
        with plain_errors(local, "reading"):
            if local.is_dir():
                raise UsageError(f"`{local}`: is a folder, and a file of that name is to be written")
            if not local.exists():
                wanted.append((entry.key, local, entry.size_bytes))
            elif local.stat().st_size != entry.size_bytes or sha256_file(local) != sha256_key(store, entry.key):
                wanted.append((entry.key, local, entry.size_bytes))
                changed.append(f"`{local}`")
    if changed and not overwrite:
        raise AlreadyExistsError(
            f"data: there already with other bytes: {_some(changed)}",
            hint="`--overwrite`, in Python `overwrite=True`, replaces them; or use another folder",
        )
    with _bar("Downloading", sum(size for _, _, size in wanted), show_progress) as advance, _pool() as pool:

        def get(item: tuple[str, Path, int]) -> int:
            key, local, size_bytes = item
            download(store, key, local)
            advance(size_bytes)
            return size_bytes

        sizes = list(pool.map(get, wanted))
    return Transferred(len(sizes), sum(sizes), len(entries) - len(sizes))


def summary(verb: str, done: Transferred, where: str) -> str:
    """A transfer in one line: Uploaded 4 files (11.6 MB) to mnist, 2 were there already."""
    count = f"{done.files} file{'' if done.files == 1 else 's'}"
    same = f", {done.same} {'was' if done.same == 1 else 'were'} there already" if done.same else ""
    return f"{verb} {count} ({size(done.size_bytes)}) to {where}{same}"


def _refuse_file_as_folder(store: Store, target: str) -> None:
    while target:
        if store.stat(keys.data(target)) is not None:
            raise UsageError(f"data: `{target}` is a file in the datastore, so nothing can be put below it")
        target = posixpath.dirname(target)


def _nothing_at(store: Store, path: str) -> NotFoundError:
    import difflib

    known = [name.rstrip("/") for name in store.children(keys.data_below(posixpath.dirname(path)))]
    near = difflib.get_close_matches(posixpath.basename(path), known, n=1)
    if near:
        parent = posixpath.dirname(path)
        hint = f"did you mean `{parent}/{near[0]}`?" if parent else f"did you mean `{near[0]}`?"
    else:
        hint = "`tyard data list` shows what is there"
    return NotFoundError(f"data: there is no `{path}` in the datastore" if path else "data: nothing is there", hint)


def _some(items: Sequence[str]) -> str:
    more = f" and {len(items) - _SHOWN} more" if len(items) > _SHOWN else ""
    return ", ".join(items[:_SHOWN]) + more


@contextmanager
def _pool() -> Iterator["ThreadPoolExecutor"]:
    """Threads whose waiting work is dropped when one fails or the user stops it."""
    from concurrent.futures import ThreadPoolExecutor

    pool = ThreadPoolExecutor(_AT_ONCE)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def _bar(title: str, total_bytes: int, show: bool) -> Iterator[Callable[[int], None]]:
    """A function to be told of bytes done; it moves a bar on a terminal and does nothing elsewhere."""
    if not show or not sys.stderr.isatty():
        yield lambda size_bytes: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = (TextColumn(title), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(title, total=total_bytes)
        yield lambda size_bytes: progress.advance(task, size_bytes)
