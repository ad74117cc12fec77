"""What the registry writes, and the names by which people ask for it."""

import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, TypeVar

import msgspec

from tensoryard.errors import CorruptRecordError, UsageError
from tensoryard.file_names import colliding, not_kept, not_on_windows
from tensoryard.store.keys import check_key, check_name

SCHEMA = 1
NEWEST = "latest"

_VERSION = re.compile(r"v?([0-9]{1,8})")
# What Azure's blob index takes: a value outside it is still in the record, just not searched by.
_INDEXED = re.compile(r"[a-zA-Z0-9 +\-.:=_/]+")
_KEY_LENGTH, _VALUE_LENGTH = 128, 256
_INDEXED_COUNT = 10
_T = TypeVar("_T")


class FileRecord(msgspec.Struct, frozen=True, kw_only=True):
    """
    One file of a version: path within the model, key in the store, and what its bytes are.

    etag: of the store when it was registered; it shows a change cheaply, and the digest (hex) decides.
    """

    path: str
    key: str
    size_bytes: int
    sha256: str
    etag: str = ""


class ModelVersion(msgspec.Struct, frozen=True, kw_only=True):
    """
    One version of a model, written once.

    created_at: ISO 8601, UTC; tree_digest: one digest (hex) over paths, sizes and digests of all files;
    source_path: where in the run, or on whose disk, the files were.
    """

    schema: int = SCHEMA
    name: str
    version: int
    nonce: str
    created_at: str
    created_by: str
    files: tuple[FileRecord, ...]
    tree_digest: str
    size_bytes: int
    run_id: str | None = None
    source_path: str | None = None
    lineage: dict[str, Any] = {}
    tags: dict[str, str] = {}
    properties: dict[str, str] = {}


class Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """
    One thing that happened to a model: who, when, what. purged: a clean-up gave a deleted version up.

    version: what it happened to; None where an alias was taken away. previous: what the alias named before.
    """

    kind: Literal["registered", "aliased", "deleted", "restored", "purged"]
    at: str
    by: str
    version: int | None = None
    alias: str | None = None
    previous: int | None = None
    reason: str | None = None


class Reference(NamedTuple):
    """A model as people name it; version and alias are None for the newest version."""

    name: str
    version: int | None = None
    alias: str | None = None


def parse_reference(text: str) -> Reference:
    """
    The model named by `digits`, `digits:3`, `digits:latest` or `digits@champion`.

    Raises UsageError with the forms that are allowed.
    """
    name, mark, rest = text.partition("@") if "@" in text else text.partition(":")
    check_name("model", name)
    if not mark or rest == NEWEST:
        return Reference(name)
    if mark == "@":
        return Reference(name, alias=check_alias(rest))
    found = _VERSION.fullmatch(rest)
    if found is None:
        raise UsageError(
            f"model: got `{text}`, what follows `:` is a version number or `{NEWEST}`",
            f"`{name}:3` names a version and `{name}@{rest or 'champion'}` an alias",
        )
    return Reference(name, version=int(found[1]))


def check_alias(alias: str) -> str:
    """The alias, if it is one. Raises UsageError for a bad name and for what reads as a version."""
    if alias == NEWEST or _VERSION.fullmatch(alias):
        raise UsageError(f"alias: got `{alias}`, which names a version already; use a word such as `champion`")
    return check_name("alias", alias)


def tree_digest(files: Iterable[FileRecord]) -> str:
    """One SHA-256 (hex) over the lines `digest size path` in the order of the paths; keys and etags are not in it."""
    import hashlib

    lines = sorted((file.path, f"{file.sha256} {file.size_bytes} {file.path}\n") for file in files)
    return hashlib.sha256("".join(line for _, line in lines).encode()).hexdigest()


def check_files(files: Iterable[FileRecord]) -> tuple[FileRecord, ...]:
    """The files in the order of their paths. Raises UsageError when there is none, and as `check_paths` does."""
    ordered = tuple(sorted(files, key=lambda file: file.path))
    if not ordered:
        raise UsageError("model: there is no file to register")
    check_paths([file.path for file in ordered])
    return ordered


def check_paths(paths: Sequence[str]) -> None:
    """
    Raises UsageError for a path that escapes or that some store or disk has no file for, and for two that are one.

    A model is downloaded wherever it is served, so it holds to what every system can write.
    """
    rename = "rename the file before it is registered"
    for path in paths:
        check_key(path, "file of a model")
        if reason := not_kept(path):
            raise UsageError(f"file of a model: got {ascii(path)[:200]}: {reason}", rename)
        if not_on_windows(path):
            rule = 'Windows has no such file: names there hold no < > : " | ? * and end in no dot or blank, and CON, '
            rule += "NUL, AUX, PRN, COM1 and LPT1 are devices"
            raise UsageError(f"file of a model: got {ascii(path)[:200]}: {rule}", rename)
    twice = next((path for path, count in Counter(paths).items() if count > 1), None)
    if twice is not None:
        raise UsageError(f"files of a model: `{twice}` is there twice")
    for one, other in colliding(paths):
        raise UsageError(f"files of a model: `{one}` and `{other}` would be one file on some disks", rename)


def check_labels(kind: str, labels: Mapping[str, str] | None) -> dict[str, str]:
    """A copy of tags or properties. Raises UsageError for an empty name or a value that is no text."""
    checked = dict(labels or {})
    for key, value in checked.items():
        if not isinstance(key, str) or not key.strip() or not isinstance(value, str):
            raise UsageError(f"{kind}: got `{key}`: `{value}`, a name is not empty and a value is text")
        try:
            f"{key}{value}".encode()
        except UnicodeEncodeError:
            raise UsageError(f"{kind}: got {key!a}: {value!a}, which is no UTF-8 text") from None
    return checked


def index_tags(version: ModelVersion) -> dict[str, str]:
    """The tags under which a store indexes a version: ours first, then the user's as far as an index takes them."""
    own = {
        "model": version.name,
        "version": f"{version.version:08d}",
        "run": version.run_id or "",
        "code": str(version.lineage.get("snapshot") or ""),
        "data": str(version.lineage.get("data_digest") or ""),
        "tree": version.tree_digest,
        "created": version.created_at,
    }
    wanted = own | {key: value for key, value in version.tags.items() if key not in own}
    fit = [(k, v) for k, v in wanted.items() if _fits(k, _KEY_LENGTH) and _fits(v, _VALUE_LENGTH)]
    return dict(fit[:_INDEXED_COUNT])


def _fits(text: str, most: int) -> bool:
    """Whether an index takes a text: on blob storage every `=` is kept as three characters."""
    return _INDEXED.fullmatch(text) is not None and len(text) + 2 * text.count("=") <= most


def decode_version(data: bytes, key: str, name: str, number: int) -> ModelVersion:
    """A version's record. Raises CorruptRecordError when it is none, or is that of another version."""
    hint = f"bring the record back from a backup, or hide the version: `tyard models delete {name}:{number}`"
    try:
        version = decode(data, key, ModelVersion)
        if version.schema > SCHEMA:
            hint = "update tensoryard"
            raise CorruptRecordError(f"`{key}`: has schema {version.schema}, this tensoryard reads up to {SCHEMA}")
        if (version.name, version.version) != (name, number):
            raise CorruptRecordError(f"`{key}`: is the record of `{version.name}:{version.version}`")
        check_files(version.files)
        for file in version.files:
            check_key(file.key, f"key of `{file.path}`")
    except CorruptRecordError as error:
        raise CorruptRecordError(error.message, hint) from None
    except UsageError as error:
        raise CorruptRecordError(f"`{key}`: {error.message}", hint) from None
    return version


def decode(data: bytes, key: str, kind: type[_T]) -> _T:
    """A record from its JSON. Raises CorruptRecordError that names the key and what is wrong with it."""
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise CorruptRecordError(f"`{key}`: cannot be read: {error}") from None


def now() -> str:
    """The time as records hold it: ISO 8601, UTC, to the microsecond."""
    from datetime import UTC, datetime

    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def whoami() -> str:
    """`user@host` of this process; the number of a user who has no name, as in some containers."""
    import getpass

    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = str(os.getuid())
    return f"{user}@{os.uname().nodename}"
