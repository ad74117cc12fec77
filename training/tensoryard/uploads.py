"""Files of this machine into the datastore: first what is missing there, then that and nothing else."""

import posixpath
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from threading import Event
from typing import NamedTuple

from tensoryard.bulk import AT_ONCE, AT_ONCE_AWAY, Stopped, each_file
from tensoryard.errors import AlreadyExistsError, UsageError
from tensoryard.file_names import not_kept
from tensoryard.folders import Transferred, clean_path, some
from tensoryard.progress import shown
from tensoryard.store import Entry, Store, is_folder, keys
from tensoryard.store.disk import plain_errors
from tensoryard.store.sums import Sums
from tensoryard.store.transfer import sha256_file

# A listing is a request for thousands of files; a folder with far more than are sent is asked file by file.
_LISTED_PER_FILE = 50
_LISTED_AT_LEAST = 5000


class Sending(NamedTuple):
    """A file to send. name: its path in the datastore; replaces: whether other bytes are there."""

    name: str
    path: Path
    size_bytes: int
    replaces: bool


class Upload:
    """
    What an upload would send, and then the upload.

    files: by their paths below target, a folder of the datastore. Raises UsageError, before anything is sent, for
    names that cannot be kept and for a file that would be a folder too.
    """

    def __init__(self, store: Store, files: Mapping[str, Path], target: str) -> None:
        self.store = store
        self.target = clean_path(target)
        _refuse_file_as_folder(store, self.target)
        named = {f"{self.target}/{inner}" if self.target else inner: path for inner, path in files.items()}
        _refuse_names(named)
        self._sums = Sums(store)
        self._sending, self.same = self._missing({posixpath.normpath(name): path for name, path in named.items()})

    def todo(self) -> list[Sending]:
        """The files that are missing or differ where they go."""
        return list(self._sending)

    def run(self, *, overwrite: bool, show_progress: bool) -> Transferred:
        """What was sent. Raises AlreadyExistsError, before that, for other bytes there when overwrite is false."""
        changed = [f"`{item.name}`" for item in self._sending if item.replaces]
        if changed and not overwrite:
            raise AlreadyExistsError(
                f"data: already exists in the datastore with different content: {some(changed)}",
                hint="`--overwrite`, in Python `overwrite=True`, replaces them; or use another path",
            )
        size_bytes = sum(item.size_bytes for item in self._sending)
        with shown("Uploading", "Uploaded", len(self._sending), size_bytes, show_progress) as progress:

            def send(item: Sending, stop: Event) -> None:
                def advance(count: int) -> None:
                    if stop.is_set():
                        raise Stopped
                    progress.advance(count)

                self._send(item, overwrite, advance)
                progress.file_done()

            try:
                each_file(self._sending, send, _at_once(self.store), "uploaded")
            finally:
                self._sums.flush()
        return Transferred(len(self._sending), size_bytes, self.same)

    def _missing(self, named: Mapping[str, Path]) -> tuple[list[Sending], int]:
        there = _there(self.store, self.target, named)
        self._sums.load(name for name in named if name in there)
        found: dict[str, Sending] = {}
        compare: list[Sending] = []
        for name, path in named.items():
            with plain_errors(path, "reading"):
                size_bytes = path.stat().st_size
            entry = there.get(name)
            item = Sending(name, path, size_bytes, entry is not None)
            if entry is not None and entry.size_bytes == size_bytes:
                compare.append(item)
            else:
                found[name] = item

        def differs(item: Sending, stop: Event) -> None:
            if self._sums.of(there[item.name]) != sha256_file(item.path):
                found[item.name] = item

        each_file(compare, differs, _at_once(self.store), "compared")
        return [found[name] for name in named if name in found], len(named) - len(found)

    def _send(self, item: Sending, overwrite: bool, advance: Callable[[int], None]) -> None:
        key = keys.data(item.name)
        try:
            entry, digest = _put_file(self.store, key, item, overwrite, advance, hashed=self._sums.kept)
        except AlreadyExistsError:
            # Somebody was faster; the same bytes are as good as one's own.
            there = self.store.stat(key)
            if there is None or self._sums.of(there) != sha256_file(item.path):
                raise
            return
        self._sums.note(entry, digest)


def upload_files(
    store: Store, files: Mapping[str, Path], target: str, *, overwrite: bool, show_progress: bool
) -> Transferred:
    """
    What was written below a path of the datastore: each file appears there whole or not at all.

    files: by their paths below target. Raises as `Datastore.upload` does, before anything is written.
    """
    return Upload(store, files, target).run(overwrite=overwrite, show_progress=show_progress)


def _put_file(
    store: Store, key: str, item: Sending, overwrite: bool, advance: Callable[[int], None], *, hashed: bool
) -> tuple[Entry, str]:
    """(entry, digest) of a file that was sent; the digest says nothing unless hashed."""
    import hashlib

    whole = hashlib.sha256()

    def sent(data: bytes | memoryview) -> None:
        if hashed:
            whole.update(data)
        advance(len(data))

    entry = store.put_file(key, item.path, overwrite=overwrite, sent=sent)
    return entry, whole.hexdigest()


def _there(store: Store, target: str, named: Mapping[str, Path]) -> dict[str, Entry]:
    """Entries of those files that are in the datastore, by name."""
    found: dict[str, Entry] = {}
    folders: set[str] = set()
    start = len(keys.DATA)
    for count, entry in enumerate(store.list(keys.data_below(target)), 1):
        name = entry.key[start:]
        if name in named:
            found[name] = entry
        else:
            folders.add(name)
        if count > _LISTED_AT_LEAST + _LISTED_PER_FILE * len(named):
            break
    else:
        _refuse_file_in_the_way([*named, *folders], named)
        return found
    asked: dict[str, Entry] = {}
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(_at_once(store)) as pool:
        for name, one in zip(named, pool.map(lambda name: store.stat(keys.data(name)), named), strict=True):
            if one is not None:
                asked[name] = one
    _refuse_file_in_the_way(named, named)
    return asked


def _refuse_names(named: Iterable[str]) -> None:
    bad = [(name, reason) for name in named if (reason := not_kept(posixpath.normpath(name)))]
    if bad:
        raise UsageError(
            f"data: names that cannot be kept: {some([f'{name!a}: {reason}' for name, reason in bad])}",
            "rename them; nothing was sent",
        )


def _refuse_file_in_the_way(names: Iterable[str], sent: Mapping[str, Path]) -> None:
    """A name cannot be a file and a folder: blob storage would take it, and no disk could hold a download."""
    there = set(names)
    for name in there:
        parent = posixpath.dirname(name)
        while parent:
            if parent in there and (parent in sent or name in sent):
                raise UsageError(f"data: `{parent}` would be a file and the folder of `{name}`", "rename one of them")
            parent = posixpath.dirname(parent)


def _refuse_file_as_folder(store: Store, target: str) -> None:
    while target:
        if store.stat(keys.data(target)) is not None:
            raise UsageError(f"data: `{target}` is a file in the datastore, so nothing can be put below it")
        target = posixpath.dirname(target)


def _at_once(store: Store) -> int:
    return AT_ONCE if is_folder(store) else AT_ONCE_AWAY
