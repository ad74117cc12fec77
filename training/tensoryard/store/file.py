# A put takes 0.3 ms, and with pathlib a third more.
# ruff: noqa: PTH100, PTH103, PTH105, PTH106, PTH108, PTH112, PTH116, PTH120
"""
The store as a folder: a key is a path below its root.

Safe between processes of one machine and of several that share a disk: a value appears by a hard link, whole or not
at all, and appends take turns under a lock. Two folders are the store's own: `.tmp` (values being written) and
`.tags` (one JSON file beside each key that has tags).
"""

import errno
import fcntl
import os
import stat
import time
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from tensoryard.errors import AlreadyExistsError, NotFoundError, StoreError, UsageError, VerificationError
from tensoryard.store import Entry, Sent, file_list
from tensoryard.store.disk import check_unchanged, open_file, plain_errors
from tensoryard.store.file_append import add, whole_bytes
from tensoryard.store.file_renew import remove_seen, renew
from tensoryard.store.file_tags import Tags
from tensoryard.store.keys import check_key

_TMP = ".tmp"
_TAGS = ".tags"
_CHUNK_BYTES = 1 << 20
_LEFTOVER_S = 86_400
# A folder can vanish between making it and using it, as `delete` removes empty ones; each try starts anew.
_TRIES = 50
_NO_LINKS = "this disk has no hard links, which a store needs: use a workspace on a local or NFS disk"


class FileStore:
    """
    A store in a folder, which is made on the first write.

    root: the folder; nothing is read or written until a method is called.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._root = os.path.abspath(root)
        self._swept = False
        self._tags = Tags(self._root, self._temporary, self._etag)

    def __repr__(self) -> str:
        return f"FileStore({self._root!r})"

    def put(self, key: str, data: bytes, *, overwrite: bool = False, tags: Mapping[str, str] | None = None) -> Entry:
        """See `Store.put`."""
        path = self._path(key)
        with plain_errors(path, "writing"):
            temporary, fd = self._temporary()
            try:
                _write_all(fd, data)
                if tags:
                    self._tags.note(key, tags, _entry(key, os.fstat(fd)).etag)
                entry = self._publish(key, path, temporary, fd, overwrite)
            finally:
                _close_and_remove(fd, temporary)
        try:
            if tags:
                self._tags.put(key, tags)
            elif overwrite:
                self._tags.forget(key)
        except StoreError as error:
            error.maybe_written = key
            raise
        return entry

    def put_file(self, key: str, path: Path, *, overwrite: bool = False, sent: Sent | None = None) -> Entry:
        """See `Store.put_file`. Raises NotFoundError when there is no such file, UsageError when it is a folder."""
        target = self._path(key)
        source = open_file(path)
        try:
            seen = os.fstat(source)
            with plain_errors(target, "writing"):
                temporary, fd = self._temporary()
                try:
                    while chunk := os.read(source, _CHUNK_BYTES):
                        _write_all(fd, chunk)
                        if sent:
                            sent(chunk)
                    check_unchanged(source, seen, path)
                    entry = self._publish(key, target, temporary, fd, overwrite)
                finally:
                    _close_and_remove(fd, temporary)
        finally:
            os.close(source)
        if overwrite:
            self._tags.forget(key)
        return entry

    def copy(self, source: str, target: str, *, etag: str | None = None) -> Entry:
        """See `Store.copy`."""
        before = self.stat(source)
        if before is None:
            raise _absent(source)
        if etag in (None, before.etag):
            entry = self.put_file(target, Path(self._path(source)))
            if self.stat(source) == before:
                return entry
            self.delete(target, etag=entry.etag)  # of bytes that were never one value
        raise VerificationError(f"`{source}`: was changed while it was copied, so nothing was copied")

    def append(self, key: str, data: bytes, *, at: int | None = None) -> int:
        """See `Store.append`. On a full disk the file keeps the length it had."""
        path = self._path(key)
        with plain_errors(path, "appending"), _at_end(key, path, os.O_CREAT) as (fd, start):
            if at is not None and start != at:
                if start == at + len(data) and os.pread(fd, len(data), at) == data:
                    return at
                raise AlreadyExistsError(f"`{key}`: has {start} bytes, and not {at} to append to")
            return add(fd, start, data)

    def claim(self, key: str, data: bytes, most_bytes: int) -> int | None:
        """See `Store.claim`."""
        path = self._path(key)
        with plain_errors(path, "appending"), _at_end(key, path) as (fd, start):
            return add(fd, start, data) if start + len(data) <= most_bytes else None

    def read(self, key: str, offset: int = 0, length: int | None = None) -> bytes:
        """See `Store.read`."""
        with self._opened(key) as (fd, status):
            wanted = max(0, whole_bytes(fd, status.st_size) - offset)
            if length is not None:
                wanted = min(wanted, length)
            data = os.pread(fd, wanted, offset)
            while len(data) < wanted and (more := os.pread(fd, wanted - len(data), offset + len(data))):
                data += more  # Linux returns at most 2 GiB at a time
            return data

    def view(self, key: str, offset: int, length: int) -> memoryview:
        return memoryview(self.read(key, offset, length))

    def stream(self, key: str, offset: int, etag: str) -> Generator[memoryview, None, None]:
        """See `Store.stream`."""
        with self._opened(key) as (fd, _):
            while chunk := os.pread(fd, _CHUNK_BYTES, offset):
                yield memoryview(chunk)
                offset += len(chunk)
            if _entry(key, os.fstat(fd)).etag != etag:
                hint = "wait until nothing writes to it, and try again"
                raise VerificationError(f"`{key}`: was replaced while it was read", hint)

    def stat(self, key: str) -> Entry | None:
        """See `Store.stat`."""
        path = self._path(key)
        with plain_errors(path, "reading"):
            try:
                status = os.stat(path)
            except (FileNotFoundError, NotADirectoryError):
                return None
        return _entry(key, status) if stat.S_ISREG(status.st_mode) else None

    def list(self, prefix: str, *, start_after: str = "") -> Iterator[Entry]:
        """See `Store.list`. Folders are read as the iteration reaches them; links to folders are not followed."""
        folder, _, start = prefix.rpartition("/")
        if prefix.startswith("/") or folder:
            check_key(folder, "prefix")
        for key, path in file_list.walk(self._root, f"{folder}/" if folder else "", start, start_after):
            with plain_errors(path, "reading"):
                try:
                    status = os.stat(path)
                except FileNotFoundError:  # deleted since its folder was read
                    continue
            if stat.S_ISREG(status.st_mode):
                yield _entry(key, status)

    def list_keys(self, prefix: str, *, start_after: str = "", at_once: int = 5000) -> Iterator[str]:
        """See `Store.list_keys`."""
        return (entry.key for entry in self.list(prefix, start_after=start_after))

    def children(self, prefix: str) -> Iterator[str]:
        """See `Store.children`. A folder that a killed writer left empty is among them."""
        if prefix:
            if not prefix.endswith("/"):
                raise UsageError(f"prefix: got `{prefix}`, it ends in `/`")
            check_key(prefix[:-1], "prefix")
        for name, _ in file_list.names(self._root, prefix):
            yield name

    def tags(self, key: str) -> dict[str, str]:
        """See `Store.tags`."""
        if self.stat(key) is None:
            raise _absent(key)
        return self._tags.of(key)

    def set_tags(self, key: str, tags: Mapping[str, str]) -> None:
        """See `Store.set_tags`. Raises NotFoundError when the key is absent."""
        entry = self.stat(key)
        if entry is None:
            raise _absent(key)
        self._tags.note(key, tags, entry.etag)
        self._tags.put(key, tags)

    def find_by_tags(self, tags: Mapping[str, str], prefix: str = "") -> Iterator[str]:
        """See `Store.find_by_tags`. Raises UsageError when there is no tag to look for."""
        folder = prefix.rpartition("/")[0]
        if prefix.startswith("/") or folder:
            check_key(folder, "prefix")
        yield from self._tags.find(tags, prefix)

    def touch(self, key: str) -> bool:
        """See `Store.touch`."""
        path = self._path(key)
        with plain_errors(path, "writing"):
            return renew(path, self._temporary)

    def delete(self, key: str, *, etag: str | None = None) -> bool:
        """See `Store.delete`. Folders that it leaves empty go too."""
        path, side = self._path(key), f"{self._root}/{_TAGS}/{key}"
        with plain_errors(path, "deleting"):
            if etag is None:
                _unlink(path)
            # And not once more: by now it may be what another has written since.
            elif not remove_seen(path, lambda status: _entry(key, status).etag == etag):
                return False
        self._remove_empty(path)
        with plain_errors(side, "deleting"):
            _unlink(side)
        self._remove_empty(side)
        return True

    def local_path(self, key: str) -> Path | None:
        """The path of a key or prefix, there or not; an empty prefix is the root."""
        if not key:
            return Path(self._root)
        return Path(self._path(key.removesuffix("/")))

    def _path(self, key: str) -> str:
        """The path of a checked key. Raises StoreError when a link on the way leads out of the root."""
        path = f"{self._root}/{check_key(key)}"
        at = len(self._root)
        while at != -1:
            at = path.find("/", at + 1)
            part = path if at == -1 else path[:at]
            try:
                is_link = stat.S_ISLNK(os.lstat(part).st_mode)
            except OSError:  # what is not there leads nowhere; what cannot be read is reported by its use
                return path
            if is_link and not file_list.is_inside(self._root, part):
                raise StoreError(
                    f"`{part}`: a link that leads out of the store",
                    "put a copy of the files where the link is: a store never reads or writes outside its folder",
                )
        return path

    @contextmanager
    def _opened(self, key: str) -> Iterator[tuple[int, os.stat_result]]:
        """A block with a descriptor of a key's file, and what the file was then. Raises NotFoundError without one."""
        path = self._path(key)
        with plain_errors(path, "reading"):
            try:
                fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            except (FileNotFoundError, NotADirectoryError):
                raise _absent(key) from None
            try:
                status = os.fstat(fd)
                if not stat.S_ISREG(status.st_mode):
                    raise _absent(key)
                yield fd, status
            finally:
                os.close(fd)

    def _remove_empty(self, path: str) -> None:
        """Remove the folders that are empty now that there is no such path."""
        with suppress(OSError):
            while len(path := os.path.dirname(path)) > len(self._root):
                os.rmdir(path)

    def _etag(self, key: str) -> str | None:
        entry = self.stat(key)
        return entry and entry.etag

    def _temporary(self) -> tuple[str, int]:
        folder = f"{self._root}/{_TMP}"
        if not self._swept:
            self._swept = True
            _sweep(folder)
        path = f"{folder}/{os.urandom(12).hex()}"
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        try:
            return path, os.open(path, flags, 0o666)
        except FileNotFoundError:
            os.makedirs(folder, exist_ok=True)
            return path, os.open(path, flags, 0o666)

    def _publish(self, key: str, path: str, temporary: str, fd: int, overwrite: bool) -> Entry:
        os.fsync(fd)
        for _ in range(_TRIES):
            try:
                if overwrite:
                    os.replace(temporary, path)
                else:
                    os.link(temporary, path)
                return _entry(key, os.fstat(fd))
            except FileNotFoundError:
                _make(os.path.dirname(path))
            except FileExistsError:
                # NFS sends a link request again when its answer was lost: two links mean that this writer won.
                if os.fstat(fd).st_nlink == 2:
                    return _entry(key, os.fstat(fd))
                if os.path.isdir(path):
                    raise _is_prefix(path) from None
                raise AlreadyExistsError(f"`{key}`: already exists and cannot be overwritten") from None
            except IsADirectoryError:
                raise _is_prefix(path) from None
            except OSError as error:
                if not overwrite and error.errno in (errno.EPERM, errno.ENOTSUP, errno.EMLINK):
                    raise StoreError(f"`{path}`: {os.strerror(error.errno)} when linking it", _NO_LINKS) from None
                raise
        raise _unsteady(path)


@contextmanager
def _at_end(key: str, path: str, flags: int = 0) -> Iterator[tuple[int, int]]:
    """A block whose turn it is to append: a descriptor, and where whole bytes end. Raises NotFoundError."""
    for _ in range(_TRIES):
        try:
            fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | flags, 0o666)
        except FileNotFoundError:
            if not flags & os.O_CREAT:
                raise _absent(key) from None
            _make(os.path.dirname(path))
            continue
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            before = os.fstat(fd)
            if before.st_nlink == 0:  # deleted or replaced while this waited for its turn
                continue
            start = whole_bytes(fd, before.st_size)
            if start != before.st_size:
                os.ftruncate(fd, start)
            yield fd, start
            return
        finally:
            os.close(fd)
    raise _unsteady(path)


def _entry(key: str, status: os.stat_result) -> Entry:
    etag = f"{status.st_ino:x}-{status.st_size:x}-{status.st_mtime_ns:x}"
    return Entry(key, status.st_size, etag, status.st_mtime)


def _make(folder: str) -> None:
    with suppress(FileNotFoundError, FileExistsError):  # a delete beside this; the caller tries again
        os.makedirs(folder, exist_ok=True)


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _close_and_remove(fd: int, path: str) -> None:
    os.close(fd)
    with suppress(OSError):
        os.unlink(path)


def _unlink(path: str) -> None:
    """Remove a file if there is one; a folder is no value and stays."""
    try:
        os.unlink(path)
    except (FileNotFoundError, NotADirectoryError):
        pass
    except OSError:
        if not os.path.isdir(path):
            raise


def _sweep(folder: str) -> None:
    """Removes what writers killed long ago left behind; a value that is still being written is younger."""
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.stat().st_mtime < time.time() - _LEFTOVER_S:
                os.unlink(entry.path)


def _absent(key: str) -> NotFoundError:
    return NotFoundError(f"`{key}`: is not in the store")


def _is_prefix(path: str) -> StoreError:
    return StoreError(f"`{path}`: holds other values, so it cannot be a value itself")


def _unsteady(path: str) -> StoreError:
    return StoreError(f"`{path}`: its folder vanished {_TRIES} times while it was written")
