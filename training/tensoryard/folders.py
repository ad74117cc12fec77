"""Folders of this machine and of the datastore: their files, their paths, and how messages tell of them."""

import os
import posixpath
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tensoryard.errors import NotFoundError, StoreError, UsageError
from tensoryard.store import Store, keys
from tensoryard.store.part import PART_PREFIX
from tensoryard.text import size
from tensoryard.workspace import FOLDER

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
        raise nothing_at(store, path)
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
            if name.startswith(PART_PREFIX):  # of a download that was killed
                continue
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
            f"`{folder}`: {some(refused)}; links are followed only to files inside the folder",
            hint="put the files themselves there, or move the link away",
        )
    if not files:
        raise NotFoundError(f"`{folder}`: has no files")
    return files


def summary(verb: str, done: Transferred, where: str) -> str:
    """A transfer in one line: Uploaded 4 files (11.6 MB) to mnist, 2 were there already."""
    count = f"{done.files} file{'' if done.files == 1 else 's'}"
    same = f", {done.same} {'was' if done.same == 1 else 'were'} there already" if done.same else ""
    return f"{verb} {count} ({size(done.size_bytes)}) to {where}{same}"


def nothing_at(store: Store, path: str) -> NotFoundError:
    """The error for a path of the datastore where nothing is, with the nearest name."""
    import difflib

    known = [name.rstrip("/") for name in store.children(keys.data_below(posixpath.dirname(path)))]
    near = difflib.get_close_matches(posixpath.basename(path), known, n=1)
    if near:
        parent = posixpath.dirname(path)
        hint = f"did you mean `{parent}/{near[0]}`?" if parent else f"did you mean `{near[0]}`?"
    else:
        hint = "`tyard data list` shows what is there"
    return NotFoundError(f"data: there is no `{path}` in the datastore" if path else "data: nothing is there", hint)


def some(items: Sequence[str]) -> str:
    """The first few of many for a message."""
    more = f" and {len(items) - _SHOWN} more" if len(items) > _SHOWN else ""
    return ", ".join(items[:_SHOWN]) + more
