"""The files a finished run leaves: listed and hashed once, then final."""

import os
import stat
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from tensoryard.errors import AlreadyExistsError, NotFoundError, UsageError
from tensoryard.mirror import ChangingError, keep_whole
from tensoryard.run import OutputFile, Outputs, RunRecord
from tensoryard.store import Entry, is_folder, keys
from tensoryard.store.buffers import sha256_of
from tensoryard.store.parallel import each


def conclude(run: RunRecord, folder: Path) -> Outputs:
    """
    outputs.json of a run whose tasks have ended, written if it is not there yet.

    folder: in which the run was worked on, with outputs/ in it; with a store that is no folder they are carried
    there. A link is followed only to a file inside outputs/; anything else that is no file, or has a name that no
    store can hold, is left out with a warning.
    """
    found = run.outputs()
    if found is not None:
        return found
    warnings = _take_back(folder)
    # What a controller that was killed has carried.
    there = {} if is_folder(run.store) else {entry.key: entry for entry in run.store.list(run.key("outputs/"))}

    def leave_out(name: str, reason: object) -> None:
        # A name may hold anything, half characters and line breaks too: shown as Python would write it.
        shown = name if name.isprintable() else ascii(name)
        warnings.append(f"{shown} was left out: {reason}")

    def leave_out_folder(error: OSError) -> None:
        leave_out(Path(error.filename).relative_to(folder).as_posix(), error.strerror)

    def listed(path: Path) -> OutputFile | None:
        name = path.relative_to(folder).as_posix()
        try:
            return _listed(run, path, name, folder / "outputs", there)
        except (_LeftOutError, ChangingError) as reason:
            leave_out(name, reason)
            return None

    files = [file for file in each(run.store, listed, _walk(folder / "outputs", leave_out_folder)) if file]
    outputs = Outputs(tuple(sorted(files, key=lambda file: file.path)), tuple(warnings))
    try:
        run.store.put(run.key("outputs.json"), msgspec.json.encode(outputs))
    except AlreadyExistsError:
        return run.outputs() or outputs
    return outputs


class _LeftOutError(Exception):
    """Why a path is not among the outputs."""


def _listed(run: RunRecord, path: Path, name: str, top: Path, there: Mapping[str, Entry]) -> OutputFile:
    try:
        if path.is_symlink() and not _is_inside(path, top):
            raise _LeftOutError(f"it is a link to {path.readlink()}, outside of ./outputs")
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise _LeftOutError("it is no file")
        key = keys.check_key(run.key(name), "its name cannot be kept")
        digest = _sha256(path)
        entry = None if is_folder(run.store) else keep_whole(run, key, path, there.get(key), status)
    except OSError as error:
        raise _LeftOutError(error.strerror or str(error)) from None
    except UsageError as error:
        raise _LeftOutError(error.message) from None
    entry = entry or run.store.stat(key)
    if entry is None:
        raise NotFoundError(f"run `{run.id}`: {name} went away while it was listed")
    return OutputFile(name, status.st_size, digest, entry.etag)


def _take_back(folder: Path) -> list[str]:
    """
    Warnings about an outputs folder that the script replaced by one of its own.

    `rm -r outputs; mkdir outputs` removes the link to the run's folder: what was written then is moved there.
    """
    outputs, own = folder / "outputs", folder / "source" / "outputs"
    if outputs.is_symlink():
        outputs.unlink()
        outputs.mkdir()
        return ["outputs was left out: the script replaced it by a link"]
    outputs.mkdir(exist_ok=True)
    if own.is_symlink() or not own.is_dir():
        return []
    warnings = []
    try:
        for path in sorted(own.iterdir()):
            if (outputs / path.name).exists():
                warnings.append(f"source/outputs/{path.name} was left where it is: outputs/{path.name} is there too")
            else:
                path.rename(outputs / path.name)
    except OSError as error:
        warnings.append(f"source/outputs was left where it is: {error.strerror}")
    return warnings


def _is_inside(path: Path, top: Path) -> bool:
    # Not Path.resolve(): it raises for a link to itself.
    return os.path.realpath(path).startswith(os.path.realpath(top) + os.sep)


def _walk(folder: Path, unreadable: Callable[[OSError], None]) -> list[Path]:
    paths = []
    for here, folders, names in os.walk(folder, onerror=unreadable):
        # A link to a folder is listed like a file and refused there: it is never entered.
        paths += [Path(here, name) for name in names]
        # Not Path.is_symlink(): it raises in a folder that may be listed and not entered.
        paths += [Path(here, name) for name in folders if os.path.islink(f"{here}/{name}")]  # noqa: PTH114
    return sorted(paths)


def _sha256(path: Path) -> str:
    with path.open("rb", buffering=0) as file:
        return sha256_of(file)
