"""The files of versions compared with what is stored: by listings, and read only where those leave a doubt."""

from collections.abc import Sequence
from typing import NamedTuple

from tensoryard.errors import NotFoundError
from tensoryard.registry.finding import Finding
from tensoryard.registry.records import FileRecord, ModelVersion
from tensoryard.store import Entry, Store, is_folder, keys
from tensoryard.store.parallel import each
from tensoryard.store.transfer import sha256_key

# As deep as the folder of a run's outputs and that of the contents whose digests begin alike.
_LISTED_DEPTH = 3


class _Named(NamedTuple):
    """A file as a version names it."""

    version: ModelVersion
    file: FileRecord


def file_findings(store: Store, versions: Sequence[ModelVersion], *, read_files: bool) -> list[Finding]:
    """
    The files of versions that are missing or have other bytes than were recorded.

    read_files: read all of them; else those that have another ETag than when they were registered. Copies kept under
    their digest are given a new one whenever somebody relies on them.
    """
    named = [_Named(version, file) for version in versions for file in version.files]
    there = _entries(store, {file.key for _, file in named})
    found: list[Finding] = []
    doubtful: dict[tuple[str, str], list[_Named]] = {}
    for one in named:
        entry = there.get(one.file.key)
        if entry is None:
            found.append(_finding(one, f"`{one.file.path}` is missing: `{one.file.key}` is not in the store"))
        elif entry.size_bytes != one.file.size_bytes:
            what = f"`{one.file.path}` was changed: has {entry.size_bytes} bytes, recorded were {one.file.size_bytes}"
            found.append(_finding(one, what))
        elif read_files or (entry.etag != one.file.etag and one.file.key != keys.content(one.file.sha256)):
            doubtful.setdefault((one.file.key, entry.etag), []).append(one)

    def digest(key: str) -> str | None:
        try:
            return sha256_key(store, key)
        except NotFoundError:
            return None

    groups = list(doubtful.items())
    for (_, named_so), sha256 in zip(groups, each(store, digest, [key for (key, _), _ in groups]), strict=True):
        for one in named_so:
            if sha256 is None:
                found.append(_finding(one, f"`{one.file.path}` is missing: `{one.file.key}` is not in the store"))
            elif sha256 != one.file.sha256:
                what = f"`{one.file.path}` was changed: has sha256 {sha256}, recorded was {one.file.sha256}"
                found.append(_finding(one, what))
    return found


def _finding(one: _Named, what: str) -> Finding:
    name, number = one.version.name, one.version.version
    fix = f"bring it back from a backup, or hide the version: `tyard models delete {name}:{number}`"
    return Finding(kind="file", model=name, version=number, key=one.file.key, what=what, fix=fix)


def _entries(store: Store, wanted: set[str]) -> dict[str, Entry]:
    """The entries of keys, those that are there; by one request for all that lie in one folder, if there are more."""
    folders: dict[str, list[str]] = {}
    for key in sorted(wanted):
        above = key.split("/")[:-1][:_LISTED_DEPTH]
        folders.setdefault("".join(f"{part}/" for part in above), []).append(key)

    def listed(folder: str) -> list[Entry]:
        inside = folders[folder]
        if len(inside) == 1 or is_folder(store):
            return [entry for key in inside if (entry := store.stat(key)) is not None]
        here = set(inside)
        found = []
        for entry in store.list(folder):
            if entry.key in here:
                found.append(entry)
            if entry.key >= inside[-1]:
                break
        return found

    return {entry.key: entry for entries in each(store, listed, folders) for entry in entries}
