"""The files a finished run leaves: listed and hashed once, then final."""

import hashlib
import os
import stat
from pathlib import Path

import msgspec

from tensoryard.errors import AlreadyExistsError, NotFoundError
from tensoryard.run import OutputFile, Outputs, RunRecord


def conclude(run: RunRecord, folder: Path) -> Outputs:
    """
    outputs.json of a run whose tasks have ended, written if it is not there yet.

    folder: the run's, with outputs/ in it. A link is followed only to a file inside outputs/; anything else
    that is no file is left out with a warning.
    """
    found = run.outputs()
    if found is not None:
        return found
    files, warnings = [], []
    top = (folder / "outputs").resolve()
    for path in _walk(folder / "outputs"):
        name = path.relative_to(folder).as_posix()
        try:
            name.encode()
        except UnicodeEncodeError:
            warnings.append(f"{name!r} was left out: its name is not UTF-8")
            continue
        if path.is_symlink() and not path.resolve().is_relative_to(top):
            warnings.append(f"{name} was left out: it is a link to {path.readlink()}, outside of ./outputs")
            continue
        try:
            status = path.stat()
            if not stat.S_ISREG(status.st_mode):
                warnings.append(f"{name} was left out: it is no file")
                continue
            digest = _sha256(path)
        except OSError as error:
            warnings.append(f"{name} was left out: {error.strerror}")
            continue
        entry = run.store.stat(run.key(name))
        if entry is None:
            raise NotFoundError(f"run `{run.id}`: {name} went away while it was listed")
        files.append(OutputFile(name, status.st_size, digest, entry.etag))
    outputs = Outputs(tuple(sorted(files, key=lambda file: file.path)), tuple(warnings))
    try:
        run.store.put(run.key("outputs.json"), msgspec.json.encode(outputs))
    except AlreadyExistsError:
        return run.outputs() or outputs
    return outputs


def _walk(folder: Path) -> list[Path]:
    paths = []
    for here, folders, names in os.walk(folder):
        # A link to a folder is listed like a file and refused there: it is never entered.
        paths += [Path(here, name) for name in names]
        paths += [Path(here, name) for name in folders if Path(here, name).is_symlink()]
    return paths


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
