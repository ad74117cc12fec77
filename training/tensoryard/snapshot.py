"""The source tree as it was at submission: taken once, kept by content, laid out again for the run."""

import errno
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import IO

import msgspec

from tensoryard.errors import AlreadyExistsError, CorruptRecordError, JobError
from tensoryard.store import Store, keys
from tensoryard.store.parallel import each

# Never part of a snapshot: what tools leave behind, and the two folders that the run makes itself.
_ALWAYS_IGNORED = {
    ".git",
    ".tensoryard",
    ".venv",
    "__pycache__",
    ".ipynb_checkpoints",
    ".mypy_cache",
    ".pytest_cache",
}
_MADE_BY_THE_RUN = {"outputs", "logs"}
IGNORE_FILES = (".gitignore", ".tyardignore")  # the later may take back what the earlier ignores
IN_MEMORY_BYTES = 16 << 20
LARGE_BYTES = 300 << 20  # where Azure ML refused a snapshot


class SnapshotFile(msgspec.Struct, frozen=True):
    """path: relative, POSIX; executable: whether the owner may execute it."""

    path: str
    size_bytes: int
    sha256: str
    executable: bool = False


class Snapshot(msgspec.Struct, frozen=True):
    """snapshot.json: files in the order of their paths; digest: over all of it, the code's identity."""

    files: tuple[SnapshotFile, ...]
    digest: str


def take(store: Store, source: Path, say: Callable[[str], None], workspace: Path | None = None) -> Snapshot:
    """
    The snapshot of a folder, its contents kept in the store.

    say: is told of the size and the largest files before more than 300 MiB are copied; workspace: its folder, which
    is no part of the snapshot when it lies in the source folder, as no store is.
    Raises JobError, before anything is kept, for a link that leads out of the folder and for a file that cannot
    be read.
    """
    apart = [folder for folder in (workspace, store.local_path("")) if folder is not None]
    paths = sorted(_files(source, apart), key=lambda path: path.relative_to(source).as_posix())
    for path in paths:
        with _read_errors(path.relative_to(source).as_posix()):
            path.open("rb").close()
    sizes = {path: path.stat().st_size for path in paths}
    total = sum(sizes.values())
    if total > LARGE_BYTES:
        largest = sorted(sizes, key=lambda path: -sizes[path])[:5]
        named = ", ".join(f"{path.relative_to(source)} ({sizes[path] >> 20} MiB)" for path in largest)
        say(
            f"The source folder holds {total >> 20} MiB in {len(paths)} files; the largest: {named}. "
            "List what the script does not need in .tyardignore, and keep data in the datastore (tyard data upload)"
        )
    files = tuple(each(store, lambda path: _keep(store, source, path), paths))
    return Snapshot(files, hashlib.sha256(msgspec.json.encode(files)).hexdigest())


def lay_out(store: Store, snapshot: Snapshot, folder: Path) -> None:
    """Write the snapshot's files below a folder: all of them, or the folder does not appear."""
    aside = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)

    def write(file: SnapshotFile) -> None:
        if PurePosixPath(file.path).is_absolute() or ".." in PurePosixPath(file.path).parts:
            raise CorruptRecordError(f"snapshot.json: got the path {file.path!r}, which leads out of the folder")
        path = aside / file.path
        path.parent.mkdir(parents=True, exist_ok=True)
        kept = store.local_path(keys.content(file.sha256))
        if kept is not None:
            shutil.copyfile(kept, path)
        else:
            from tensoryard.store.transfer import download

            download(store, keys.content(file.sha256), path, file.sha256)
        path.chmod(0o755 if file.executable else 0o644)

    each(store, write, snapshot.files)
    aside.rename(folder)


def _files(source: Path, apart: list[Path]) -> Iterator[Path]:
    ignored = _ignore_rules(source)
    not_part = {folder.resolve() for folder in apart}

    def refuse(error: OSError) -> None:
        raise _closed_folder(source, Path(error.filename), error.errno)

    for folder, folders, names in os.walk(source, onerror=refuse):
        here = Path(folder)
        kept = []
        for name in sorted(folders):
            made_by_run = here == source and name in _MADE_BY_THE_RUN
            if name in _ALWAYS_IGNORED or made_by_run or ignored(f"{(here / name).relative_to(source).as_posix()}/"):
                continue
            if not os.access(here / name, os.R_OK | os.X_OK):
                raise _closed_folder(source, here / name, errno.EACCES)
            if (here / name / "pyvenv.cfg").exists():
                continue  # a virtual environment: the job has one of its own
            if (here / name).resolve() in not_part:
                continue
            if (here / name).is_symlink():
                raise JobError(
                    f"source_directory: `{(here / name).relative_to(source)}` is a link to a folder",
                    hint="copy the folder, or name the link in .tyardignore",
                )
            kept.append(name)
        folders[:] = kept
        for name in sorted(names):
            path = here / name
            if ignored(path.relative_to(source).as_posix()):
                continue
            if here == source and name in _MADE_BY_THE_RUN:
                raise JobError(
                    f"source_directory: `{name}` is a file, where a run makes a folder of that name",
                    hint="rename the file, or name it in .tyardignore",
                )
            if path.is_symlink() and not path.resolve().is_relative_to(source.resolve()):
                raise JobError(
                    f"source_directory: `{path.relative_to(source)}` is a link to a file outside of it",
                    hint="copy the file, or name the link in .tyardignore",
                )
            with _read_errors(path.relative_to(source).as_posix()):
                is_file = path.is_file()
            if is_file:
                yield path


def _closed_folder(source: Path, folder: Path, error: int | None) -> JobError:
    """Left out without a word, its code would be missed only when the script imports it."""
    name = folder.relative_to(source).as_posix()
    return JobError(
        f"source_directory: the folder `{name}` cannot be read: {os.strerror(error or 0)}",
        hint="`chmod u+rx` it, or name it in .tyardignore",
    )


def _ignore_rules(source: Path) -> Callable[[str], bool]:
    lines = [
        line
        for name in IGNORE_FILES
        if (source / name).is_file()
        for line in (source / name).read_text(encoding="utf-8", errors="replace").splitlines()
    ]
    if not lines:
        return lambda path: False
    from pathspec import GitIgnoreSpec

    rules = GitIgnoreSpec.from_lines(lines)
    return lambda path: rules.match_file(path)


@contextmanager
def _read_errors(name: str) -> Iterator[None]:
    try:
        name.encode()
        yield
    except OSError as error:
        raise JobError(f"source_directory: `{name}` cannot be read: {error.strerror}") from None
    except UnicodeEncodeError:
        raise JobError(f"source_directory: the name {name!r} is not UTF-8", hint="rename the file") from None


def _keep(store: Store, source: Path, path: Path) -> SnapshotFile:
    name = path.relative_to(source).as_posix()
    # Hashed and kept from one read: a file edited in between cannot get the other one's digest.
    with _read_errors(name), path.open("rb") as file:
        executable = bool(os.fstat(file.fileno()).st_mode & 0o100)
        data = file.read(IN_MEMORY_BYTES + 1)
        if len(data) > IN_MEMORY_BYTES:
            return _keep_large(store, name, executable, data, file)
    digest = hashlib.sha256(data).hexdigest()
    if not store.touch(keys.content(digest)):
        with suppress(AlreadyExistsError):
            store.put(keys.content(digest), data)
    return SnapshotFile(name, len(data), digest, executable)


def _keep_large(store: Store, name: str, executable: bool, data: bytes, file: IO[bytes]) -> SnapshotFile:
    """The same by way of a file of our own, so that memory stays small."""
    from tempfile import NamedTemporaryFile  # not loaded for the usual few scripts

    digest = hashlib.sha256()
    size_bytes = 0
    with NamedTemporaryFile() as copy:
        while data:
            digest.update(data)
            copy.write(data)
            size_bytes += len(data)
            data = file.read(IN_MEMORY_BYTES)
        copy.flush()
        key = keys.content(digest.hexdigest())
        if not store.touch(key):
            with suppress(AlreadyExistsError):
                store.put_file(key, Path(copy.name))
    return SnapshotFile(name, size_bytes, digest.hexdigest(), executable)
