"""Files of the datastore onto this machine's disks: first what is missing here, then that and nothing else."""

import os
import posixpath
import stat
from contextlib import suppress
from pathlib import Path
from threading import Event
from typing import NamedTuple

from tensoryard.bulk import AT_ONCE, AT_ONCE_AWAY, Stopped, each_file
from tensoryard.errors import AlreadyExistsError, UsageError
from tensoryard.file_names import colliding
from tensoryard.folders import Transferred, clean_path, nothing_at, some
from tensoryard.progress import shown
from tensoryard.store import Entry, Store, is_folder, keys
from tensoryard.store.disk import plain_errors
from tensoryard.store.part import PART_PREFIX, remove_parts
from tensoryard.store.sums import Sums
from tensoryard.store.transfer import fetch, sha256_file

# Of so many files of one size each is fetched by one request, the cheapest way; what is a larger part of all of it
# would go on alone when the others are done, and comes by several side by side.
_FEW = 4
# What of a file that comes by one request is in memory, at most.
_HELD_BYTES = 2 << 20


class Fetching(NamedTuple):
    """A file to fetch. name: its path in the datastore; replaces: whether other bytes are at path."""

    name: str
    path: Path
    entry: Entry
    replaces: bool

    @property
    def size_bytes(self) -> int:
        return self.entry.size_bytes


class Download:
    """
    What a download would fetch, and then the download.

    path: a folder or file of the datastore; whole_paths: whether files keep their whole paths in the datastore, or
    those below path. Raises NotFoundError when there is nothing; UsageError, before anything is fetched, for what
    the disk cannot hold.
    """

    def __init__(self, store: Store, path: str | None, folder: Path, *, whole_paths: bool) -> None:
        self.store = store
        self.folder = folder
        path = clean_path(path)
        one = store.stat(keys.data(path)) if path else None
        entries = [one] if one else list(store.list(keys.data_below(path)))
        if not entries:
            raise nothing_at(store, path)
        start = len(keys.data("" if whole_paths else posixpath.dirname(path) if one else path))
        named = {entry.key[start:].lstrip("/"): entry for entry in entries}
        _refuse_collisions(folder, named)
        self._sums = Sums(store)
        self._sums.load(entry.key.removeprefix(keys.DATA) for entry in entries)
        self._fetching, self.same = self._missing(named)

    def todo(self) -> list[Fetching]:
        """The files that are missing or differ where they go."""
        return list(self._fetching)

    def run(self, *, overwrite: bool, show_progress: bool) -> Transferred:
        """What was written. Raises AlreadyExistsError, before that, for other bytes here when overwrite is false."""
        changed = [f"`{item.path}`" for item in self._fetching if item.replaces]
        if changed and not overwrite:
            raise AlreadyExistsError(
                f"data: already exists with different content: {some(changed)}",
                hint="`--overwrite`, in Python `overwrite=True`, replaces them; or use another folder",
            )
        begun = {known for item in self._fetching if (known := self._sums.known(item.entry))}
        for parent in sorted({item.path.parent for item in self._fetching}):
            remove_parts(parent, begun)
        size_bytes = sum(item.size_bytes for item in self._fetching)
        with shown("Downloading", "Downloaded", len(self._fetching), size_bytes, show_progress) as progress:

            def get(item: Fetching, stop: Event) -> None:
                def advance(count: int) -> None:
                    if stop.is_set():
                        raise Stopped
                    progress.advance(count)

                known = self._sums.known(item.entry)
                alone = item.size_bytes > size_bytes / _FEW
                digest = fetch(self.store, item.entry, item.path, known, advance, alone=alone)
                if known is None:
                    self._sums.note(item.entry, digest)
                progress.file_done()

            try:
                each_file(self._fetching, get, _at_once(self.store), "downloaded", held_bytes=_HELD_BYTES)
            finally:
                self._sums.flush()
        return Transferred(len(self._fetching), size_bytes, self.same)

    def _missing(self, named: dict[str, Entry]) -> tuple[list[Fetching], int]:
        top = self.folder.resolve()
        inside: dict[Path, bool] = {}
        found: dict[str, Fetching] = {}
        compare: list[Fetching] = []
        for inner, entry in named.items():
            local = self.folder / inner
            parent = local.parent
            if parent not in inside:
                inside[parent] = parent.resolve().is_relative_to(top)
            there = _status(local, follow=False)
            is_link = there is not None and stat.S_ISLNK(there.st_mode)
            if not inside[parent] or (is_link and not local.resolve().is_relative_to(top)):
                raise UsageError(f"`{local}`: is behind a link that leads out of `{self.folder}`")
            if is_link:
                there = _status(local)
            if there is not None and stat.S_ISDIR(there.st_mode):
                raise UsageError(f"`{local}`: is a folder, and a file of that name is to be written")
            item = Fetching(entry.key.removeprefix(keys.DATA), local, entry, there is not None)
            if there is not None and there.st_size == entry.size_bytes:
                compare.append(item)
            else:
                found[inner] = item

        def differs(item: Fetching, stop: Event) -> None:
            if self._sums.of(item.entry) != sha256_file(item.path):
                found[item.path.relative_to(self.folder).as_posix()] = item

        each_file(compare, differs, _at_once(self.store), "compared")
        return [found[inner] for inner in named if inner in found], len(named) - len(found)


def download_path(
    store: Store, path: str | None, folder: Path, *, whole_paths: bool, overwrite: bool, show_progress: bool
) -> Transferred:
    """
    What was written below a local folder, made of a folder or file of the datastore.

    whole_paths: whether files keep their whole paths in the datastore, or those below path.
    Raises NotFoundError when there is nothing, AlreadyExistsError when a local file differs and overwrite is false.
    """
    download = Download(store, path, folder, whole_paths=whole_paths)
    return download.run(overwrite=overwrite, show_progress=show_progress)


def _refuse_collisions(folder: Path, named: dict[str, Entry]) -> None:
    pairs = colliding(named)
    if pairs and folds_names(folder):
        shown_pairs = some([f"`{one}` and `{other}`" for one, other in pairs])
        raise UsageError(
            f"`{folder}`: this file system is case-insensitive, and these names collide on it: {shown_pairs}",
            "download into a folder on another disk; nothing was written",
        )


def folds_names(folder: Path) -> bool:
    """Whether the disk of a folder, there or not, takes names that differ in capitals only for one."""
    while not folder.is_dir():
        folder = folder.parent
    probe = folder / f"{PART_PREFIX}{os.urandom(8).hex()}-a"
    with plain_errors(folder, "writing"):
        probe.touch(exist_ok=False)
        try:
            return probe.with_name(probe.name[:-1] + "A").exists()
        finally:
            probe.unlink()


def _status(path: Path, *, follow: bool = True) -> os.stat_result | None:
    """What is at a path, asked once; None where nothing is."""
    with plain_errors(path, "reading"), suppress(FileNotFoundError, NotADirectoryError):
        return path.stat(follow_symlinks=follow)
    return None


def _at_once(store: Store) -> int:
    return AT_ONCE if is_folder(store) else AT_ONCE_AWAY
