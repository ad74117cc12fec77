"""A version's bytes: written to this machine's disk, or read again where they are."""

import os
from contextlib import suppress
from pathlib import Path

import msgspec

from tensoryard.errors import NotFoundError, StoreError, UsageError, VerificationError
from tensoryard.registry.records import FileRecord, ModelVersion, check_files, tree_digest
from tensoryard.store import Store
from tensoryard.store.disk import plain_errors
from tensoryard.store.part import PART_PREFIX, remove_parts
from tensoryard.store.transfer import download, sha256_file, sha256_key

_SHOWN = 5


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """What is wrong with one file of a version, or with its record where path is empty."""

    path: str
    what: str

    def __str__(self) -> str:
        return f"{self.path or 'record'}: {self.what}"


def download_version(store: Store, version: ModelVersion, target: Path) -> None:
    """
    Writes a version's files below target, each checked and whole before it has its name.

    A download that was cut short is taken up again: files that are there with the right bytes stay.
    Raises UsageError when target holds anything else, VerificationError when stored bytes are not the recorded ones.
    """
    files = check_files(version.files)
    if tree_digest(files) != version.tree_digest:
        raise VerificationError(
            f"`{version.name}:{version.version}`: its list of files was changed after registration"
        )
    with plain_errors(target, "reading"):
        present = _present(target, files)
    was_there = target.exists()
    reference = f"{version.name}:{version.version}"
    try:
        for file in files:
            if file.path not in present:
                download(store, file.key, target / file.path, file.sha256, file.size_bytes)
                present.add(file.path)
    except StoreError as error:
        again = "the same again fetches only the rest"
        raise StoreError(
            f"`{reference}`: {len(present)} of {len(files)} files are in `{target}`, each whole: {error.message}",
            f"{error.hint}; {again}" if error.hint else again,
        ) from error
    except (NotFoundError, VerificationError) as error:
        if not was_there:
            _remove_empty(target)
        raise type(error)(
            f"`{reference}`: `{file.path}` cannot be delivered: {error.message}",
            f"`tyard models verify {reference}` lists every file that is not as registered",
        ) from None


def problems(store: Store, version: ModelVersion) -> list[Problem]:
    """What is wrong with the stored bytes of a version, every one of them read; empty when nothing is."""
    found = []
    if tree_digest(version.files) != version.tree_digest:
        found.append(Problem(path="", what="its list of files was changed after registration"))
    for file in version.files:
        entry = store.stat(file.key)
        if entry is None:
            found.append(Problem(path=file.path, what=f"missing: `{file.key}` is not in the store"))
        elif entry.size_bytes != file.size_bytes:
            what = f"changed: has {entry.size_bytes} bytes, recorded were {file.size_bytes}"
            found.append(Problem(path=file.path, what=what))
        elif (digest := sha256_key(store, file.key)) != file.sha256:
            found.append(Problem(path=file.path, what=f"changed: has sha256 {digest}, recorded was {file.sha256}"))
    return found


def _remove_empty(target: Path) -> None:
    """Takes away folders that hold nothing; files that arrived whole stay, for the next try."""
    for folder, _, _ in os.walk(target, topdown=False):
        with suppress(OSError):
            Path(folder).rmdir()


def _present(target: Path, files: tuple[FileRecord, ...]) -> set[str]:
    """Paths of a version's files that target has already, and nothing beside them."""
    if target.is_file():
        raise UsageError(f"`{target}`: is a file, a folder is needed to download into")
    wanted = {file.path: file for file in files}
    present = set()
    extra = []
    for root, _, _ in os.walk(target):
        remove_parts(Path(root))
    for root, folders, names in os.walk(target):
        links = [name for name in folders if (Path(root) / name).is_symlink()]
        for name in names + links:
            path = Path(root) / name
            inner = path.relative_to(target).as_posix()
            if name.startswith(PART_PREFIX):  # of a download that goes on beside this one
                continue
            if inner not in wanted or path.is_symlink():
                extra.append(inner)
            elif sha256_file(path) != wanted[inner].sha256:
                raise UsageError(
                    f"`{path}`: is there with other bytes", "download into a new folder, or move it away"
                )
            else:
                present.add(inner)
    if extra:
        shown = ", ".join(f"`{inner}`" for inner in sorted(extra)[:_SHOWN])
        more = f" and {len(extra) - _SHOWN} more" if len(extra) > _SHOWN else ""
        raise UsageError(
            f"`{target}`: holds {shown}{more}, which the model does not have", "download into a new folder"
        )
    return present
