"""The files that a version is made of: found in a run's outputs or on a disk, and pinned."""

import os
import posixpath
import re
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from tensoryard.errors import AlreadyExistsError, NotFoundError, UsageError, VerificationError
from tensoryard.registry.records import FileRecord, check_files, check_paths
from tensoryard.store import Entry, Store, is_folder, keys
from tensoryard.store.parallel import each
from tensoryard.store.transfer import keep_file, keep_key, kept_content, sha256_key

if TYPE_CHECKING:
    from tensoryard.run import RunRecord

_SHOWN = 8
# So many entries come with one request.
_ONE_PAGE = 5000
# Whatever stands before the host of an address, save the `git@` that no secret is.
_CREDENTIALS = re.compile(r"(?<=://)(?!git@)[^/?#\s]*@")


def run_files(run: "RunRecord", path: str, warn: Callable[[str], None]) -> list[FileRecord]:
    """
    The files at a path of a finished run, a folder or one file, with their paths below it: what the run wrote, and
    what was uploaded to it, which is read for its digest.

    path: relative to the run, as in `outputs/model`. warn: called with each warning that the run left on its outputs.
    Raises NotFoundError when the run has not ended or nothing lies there, UsageError for a path that leads out of it.
    """
    wanted = keys.check_key(os.path.normpath(path).replace(os.sep, "/"), "path in the run")
    outputs = run.outputs()
    if outputs is None:
        state = run.state()
        if state.ended:
            how = "failed" if state.stage == "Failed" else "was canceled"
            ran = any(span.stage == "Running" for span in state.stages)
            when = "and no list of its outputs could be made" if ran else "before its script ran"
            raise NotFoundError(
                f"run `{run.id}`: {how} {when}, so it has no outputs",
                f"`tyard runs show {run.id}` tells why",
            )
        raise NotFoundError(
            f"run `{run.id}`: has not ended, and its files are final only when it has",
            f"`tyard runs show {run.id}` tells where it stands",
        )
    for warning in outputs.warnings:
        warn(f"run `{run.id}`: {warning}")
    written = {file.path: file for file in outputs.files}
    uploaded = run.uploads()
    found = []
    for name in written | uploaded:
        if name == wanted:
            inner = wanted.rpartition("/")[2]
        elif name.startswith(f"{wanted}/"):
            inner = name[len(wanted) + 1 :]
        else:
            continue
        entry = uploaded.get(name)
        file = entry or written[name]
        key = entry.key if entry else run.key(name)
        sha256 = sha256_key(run.store, key) if entry else written[name].sha256
        found.append(FileRecord(path=inner, key=key, size_bytes=file.size_bytes, sha256=sha256, etag=file.etag))
    if not found:
        raise _nothing_there(run.id, wanted, [*(written | uploaded)])
    return found


def run_lineage(run: "RunRecord", warn: Callable[[str], None]) -> dict[str, Any]:
    """
    What a run's files were made from, as far as its records tell: job, code, data, packages, last metrics.

    data_digest is that of the data as it lies there now. warn: called where it was written to since the run began.
    """
    job = run.job
    state = run.state()
    environment = state.facts.get("environment", {})
    # A metric logged at every step would fill the record; its whole course stays with the run.
    metrics = {name: value[-1] if isinstance(value, list) else value for name, value in run.metrics().items()}
    digest, written_at = _data_digest(run.store, [one.path for one in job.references().values()])
    if state.stages and written_at > state.stages[0].started_at:
        warn(
            f"run `{run.id}`: its input data changed after the run started: what is there now may not be what it read"
        )
    told = {
        "experiment": job.experiment,
        "job": _without_secrets(msgspec.to_builtins(job)),
        "stage": state.stage,
        "snapshot": state.facts.get("submitted", {}).get("snapshot"),
        "data": sorted({f"{one.datastore}/{one.path}" for one in job.references().values()}),
        "data_digest": digest,
        "environment": environment.get("hash"),
        "tensorflow": environment.get("tensorflow"),
        "metrics": metrics,
    }
    return {name: value for name, value in told.items() if value}


def _data_digest(store: Store, paths: Iterable[str]) -> tuple[str | None, float]:
    """
    (one SHA-256 in hex over name, size and etag of every file below these paths of the datastore, when the newest of
    them was written in seconds since the epoch); (None, 0.0) without paths. No file is read.
    """
    import hashlib

    lines = set()
    written_at = 0.0
    for path in paths:
        inner = path.strip("/")
        for entry in store.list(keys.data(inner)):
            if not inner or entry.key == keys.data(inner) or entry.key.startswith(keys.data_below(inner)):
                lines.add(f"{entry.etag} {entry.size_bytes} {entry.key}\n")
                written_at = max(written_at, entry.modified_at)
    return (hashlib.sha256("".join(sorted(lines)).encode()).hexdigest() if lines else None), written_at


def _without_secrets(job: dict[str, Any]) -> dict[str, Any]:
    """A job without what may be a secret, for a record that nobody can take back: of variables only the names."""
    told = dict(job)
    if "environment_variables" in job:
        told["environment_variables"] = sorted(job["environment_variables"])
    for field in {"pip_packages", "conda_packages", "conda_channels"}.intersection(job):
        told[field] = [_CREDENTIALS.sub("", entry) for entry in job[field]]
    return told


def folder_files(store: Store, folder: Path) -> list[FileRecord]:
    """
    The files of a folder (or one file) on this machine, copied into the store under their digests.

    Raises NotFoundError when there is nothing, UsageError for a link to a folder or a name that a store cannot hold.
    """
    if folder.is_file():
        found = {folder.name: folder}
    elif folder.is_dir():
        found = dict(_files_below(folder))
    else:
        raise NotFoundError(f"`{folder}`: there is no such file or folder")
    if not found:
        raise NotFoundError(f"`{folder}`: has no files")
    check_paths(sorted(found))
    records = []
    for inner, path in sorted(found.items()):
        digest, entry = keep_file(store, path)
        records.append(
            FileRecord(path=inner, key=entry.key, size_bytes=entry.size_bytes, sha256=digest, etag=entry.etag)
        )
    return records


def pinned(store: Store, files: Iterable[FileRecord], *, copy: bool) -> tuple[FileRecord, ...]:
    """
    The files as they lie in the store now, in the order of their paths; with copy, where their copies lie.

    A file whose etag is the recorded one is not read; kept contents are touched, so that a clean-up at the same
    moment leaves them. Raises NotFoundError for one that is gone and VerificationError for one that differs from its
    record.
    """

    checked = check_files(files)
    listed = _listed(store, checked)

    def pin(file: FileRecord) -> FileRecord:
        entry = listed.get(file.key) or _found(store, file.key)
        if entry is None:
            raise NotFoundError(f"`{file.key}`: is not in the store any more, so `{file.path}` cannot be registered")
        if entry.size_bytes != file.size_bytes:
            raise _changed(file, f"has {entry.size_bytes} bytes, recorded were {file.size_bytes}")
        # What is kept under its digest was compared with it when it came, and each touch gives it another etag.
        known = file.etag == entry.etag or file.key == keys.content(file.sha256)
        if not known and sha256_key(store, file.key) != file.sha256:
            raise _changed(file, "has other bytes than were recorded")
        if copy:
            entry = _copied(store, file, entry)
        return msgspec.structs.replace(file, key=entry.key, etag=entry.etag)

    return tuple(each(store, pin, checked))


def _listed(store: Store, files: Sequence[FileRecord]) -> dict[str, Entry]:
    """Entries of files that lie together, by one request over a network where each would be one of its own."""
    folder = posixpath.commonpath([posixpath.dirname(file.key) for file in files])
    if is_folder(store) or len(files) < 2 or not folder.startswith(keys.RUNS):
        return {}
    return {entry.key: entry for entry in islice(store.list(f"{folder}/"), _ONE_PAGE)}


def _found(store: Store, key: str) -> Entry | None:
    digest = keys.parse_content(key)
    return store.stat(key) if digest is None else kept_content(store, digest)


def _copied(store: Store, file: FileRecord, seen: Entry) -> Entry:
    """The entry under its digest of a file whose bytes were found to be the recorded ones at the etag seen."""
    if is_folder(store):
        return keep_key(store, file.key, file.sha256, file.size_bytes)
    kept = kept_content(store, file.sha256)
    if kept is None:
        try:
            return store.copy(file.key, keys.content(file.sha256), etag=seen.etag)
        except AlreadyExistsError:  # the same bytes came by another way meanwhile
            kept = store.stat(keys.content(file.sha256))
    if kept is None:
        raise NotFoundError(f"`{keys.content(file.sha256)}`: was removed while it was copied", "try again")
    return kept


def _nothing_there(run_id: str, wanted: str, paths: list[str]) -> NotFoundError:
    if not paths:
        return NotFoundError(f"run `{run_id}`: has no outputs", "let the script write below `./outputs`")
    parents = {"/".join(path.split("/")[:depth]) for path in paths for depth in range(1, path.count("/") + 2)}
    shown = ", ".join(f"`{path}`" for path in paths[:_SHOWN])
    more = f" and {len(paths) - _SHOWN} more" if len(paths) > _SHOWN else ""
    return NotFoundError(f"run `{run_id}`: has no `{wanted}`; it has {shown}{more}", nearest(wanted, parents))


def nearest(name: str, known: Iterable[str]) -> str | None:
    """A question that names what is known and most like the name, or None when nothing is."""
    import difflib

    # A folder of that very name can be there with nothing in it, of a writer that was killed.
    found = difflib.get_close_matches(name, [one for one in known if one != name], n=1)
    return f"did you mean `{found[0]}`?" if found else None


def _changed(file: FileRecord, what: str) -> VerificationError:
    return VerificationError(
        f"`{file.key}`: {what}: something wrote to the outputs after the run ended",
        "register the outputs of a new run",
    )


def _files_below(folder: Path) -> Iterable[tuple[str, Path]]:
    def refuse(error: OSError) -> None:
        raise NotFoundError(f"`{error.filename}`: cannot be read: {os.strerror(error.errno or 0).lower()}")

    for root, folders, names in os.walk(folder, onerror=refuse):
        for name in folders:
            if (Path(root) / name).is_symlink():
                raise UsageError(f"`{Path(root) / name}`: is a link to a folder", "put the files themselves there")
        for name in names:
            path = Path(root) / name
            if not path.is_file():
                raise UsageError(f"`{path}`: is not a file that can be copied, but a broken link or a device")
            yield path.relative_to(folder).as_posix(), path
