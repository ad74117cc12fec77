"""
What always holds in a registry, written down once: whatever was killed, cut off or written at the same moment.

Keys are listed and records read; of files only the listing, so that a check of many versions costs little. What is
changing while it is looked at is looked at again, and only what is wrong both times is told.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby, pairwise
from typing import NamedTuple, TypeVar

import msgspec

from tensoryard.errors import CorruptRecordError, NotFoundError
from tensoryard.registry.check_files import file_findings
from tensoryard.registry.check_index import Index
from tensoryard.registry.check_keys import Kept, Numbered, kept_by_model
from tensoryard.registry.finding import Finding
from tensoryard.registry.records import Event, ModelVersion, decode, decode_version, tree_digest
from tensoryard.registry.signing import signed_record
from tensoryard.registry.tickets import Nonce, highest_of, nonce_key
from tensoryard.store import Store, keys
from tensoryard.store.parallel import each

# Records are read and compared so many at a time: they are all that a check keeps in memory.
_BATCH = 1000
_BACKUP = "bring it back from a backup"

# What can happen to a version, by what happened before.
_AFTER = {"": ("deleted",), "deleted": ("restored", "purged"), "restored": ("deleted",)}

T = TypeVar("T")
R = TypeVar("R")


class Checked(msgspec.Struct, frozen=True, kw_only=True):
    """What was looked at, as counts, and all that is wrong with it; an empty list where nothing is."""

    models: int
    versions: int
    files: int
    findings: list[Finding]


def check_registry(store: Store, model: str = "", *, read_files: bool = False) -> Checked:
    """
    Everything that is wrong with a store's models, or with one of them, each with what to do about it.

    read_files: read every byte of every version; else only the files that have another ETag than was recorded.
    Raises StoreError when the store cannot be read.
    """
    models = list(kept_by_model(store, model))
    index = Index(store)
    findings = list(_colliding(kept.name for kept in models))
    versions = files = 0
    for kept in models:
        check = _Check(store, kept, index, read_files)
        found = check.findings()
        if found:
            # Somebody may be at work in it: what is wrong for good is there the second time too.
            again = next(kept_by_model(store, kept.name), None)
            second = _Check(store, again, index, read_files).findings() if again else []
            found = [finding for finding in found if finding in second]
        findings += found
        versions += len(kept.versions)
        files += check.files
    findings += index.findings
    return Checked(models=len(models), versions=versions, files=files, findings=findings)


def _colliding(names: Iterable[str]) -> Iterator[Finding]:
    for _, group in groupby(sorted(names, key=str.lower), key=str.lower):
        first, *others = group
        for name in others:
            yield Finding(
                kind="name",
                model=name,
                key=keys.model(name),
                what=f"differs from `{first}` only in case, and some disks take the two for one",
                fix=f"register what is needed of it as `{first}`, or under another name",
            )


class _Event(NamedTuple):
    key: str
    event: Event | None


class _Check:
    """One model, looked at once."""

    def __init__(self, store: Store, kept: Kept, index: Index, read_files: bool) -> None:
        self.store = store
        self.kept = kept
        self.index = index
        self.read_files = read_files
        self.files = 0
        self._nonce_keys: dict[int, str] = {}
        self._findings: list[Finding] = []

    def findings(self) -> list[Finding]:
        for key in self.kept.others:
            self._add("key", key, "is nothing that the registry makes", "move it away")
        highest = self._tickets()
        deleted = self._deletions()
        self._aliases(deleted)
        self._records(deleted)
        self._nonces(highest)
        self._signatures()
        return self._findings

    def _add(self, kind: str, key: str, what: str, fix: str, version: int | None = None) -> None:
        name = self.kept.name
        self._findings.append(Finding(kind=kind, model=name, version=version, key=key, what=what, fix=fix))

    def _tickets(self) -> int:
        files = self.kept.tickets
        for number in range(max(files, default=-1)):
            if number not in files:
                key = keys.model_tickets(self.kept.name, number)
                self._add("ticket", key, "is missing, though later ones are there", _BACKUP)
        highest = highest_of([files.get(number, 0) for number in range(max(files, default=-1) + 1)])
        above = sorted(number for number in self.kept.versions if number > highest)
        if above:
            key = keys.model_tickets(self.kept.name, max(files, default=0))
            what = (
                f"gave out {highest} numbers, and there is version {above[-1]}: the file is older than the versions"
            )
            self._add("ticket", key, what, "bring it back together with the versions", above[-1])
        return highest

    def _deletions(self) -> set[int]:
        """The numbers of the versions that are deleted."""
        deleted = set()
        for number, numbered in self.kept.deletions.items():
            newest = keys.numbered(numbered.prefix, max(numbered.numbers))
            if number not in self.kept.versions:
                self._add("deletion", newest, "is of a version that is not there", _BACKUP, number)
            before: str | None = ""
            for key, event in self._events("deletion", numbered):
                if event is not None and event.version != number:
                    self._add("deletion", key, f"is of version {event.version}", _BACKUP, number)
                elif event is not None and before is not None and event.kind not in _AFTER.get(before, ()):
                    said = f"after it was {before}" if before else "before anything else"
                    self._add("deletion", key, f"says that the version was {event.kind} {said}", _BACKUP, number)
                before = event.kind if event else None
            if before in ("deleted", "purged"):
                deleted.add(number)
        return deleted

    def _aliases(self, deleted: set[int]) -> None:
        name = self.kept.name
        for alias, numbered in self.kept.aliases.items():
            events = self._events("alias", numbered)
            for key, event in events:
                if event is None:
                    continue
                if (event.kind, event.alias) != ("aliased", alias):
                    self._add("alias", key, f"is no change of the alias `{alias}`", _BACKUP, event.version)
                if event.version is not None and event.version not in self.kept.versions:
                    what = f"the alias `{alias}` names version {event.version}, which is not there"
                    self._add("alias", key, what, f"`tyard models alias {name} {alias}` moves it", event.version)
            for (_, before), (key, event) in pairwise(events):
                if before and event and event.previous != before.version:
                    what = f"says that `{alias}` named {event.previous} before, and it named {before.version}"
                    self._add("alias", key, what, _BACKUP, event.version)
            key, newest = events[-1]
            if newest and newest.version in deleted:
                what = f"the alias `{alias}` names `{name}:{newest.version}`, which is deleted"
                fix = f"`tyard models alias {name} {alias}` moves it, `tyard models restore {name}:{newest.version}` "
                self._add("alias", key, what, f"{fix}brings the version back", newest.version)

    def _records(self, deleted: set[int]) -> None:
        name = self.kept.name
        # A record that cannot be read and whose version is hidden does no harm any more.
        live = [number for number in self.kept.versions if number not in deleted]
        for start in range(0, len(live), _BATCH):
            versions: list[ModelVersion] = []
            for number, found in self._read(live[start : start + _BATCH], self._version):
                if isinstance(found, ModelVersion):
                    versions.append(found)
                elif found is not None:
                    self._add("record", self.kept.versions[number], found.message, found.hint or _BACKUP, number)
            for version in versions:
                self._nonce_keys[version.version] = nonce_key(name, version.nonce)
                if version.tree_digest != tree_digest(version.files):
                    fix = f"{_BACKUP}, or hide the version: `tyard models delete {name}:{version.version}`"
                    key = self.kept.versions[version.version]
                    self._add("record", key, "its list of files was changed", fix, version.version)
            for version in self.index.unlike(self.kept, versions, read_all=self.read_files):
                what = "its index tags are not those of its record, so a search may not find it"
                fix = "`tyard models reindex` writes them again"
                self._add("index", self.kept.versions[version.version], what, fix, version.version)
            self._findings += file_findings(self.store, versions, read_files=self.read_files)
            self.files += sum(len(version.files) for version in versions)
        self._doubled()

    def _doubled(self) -> None:
        """Every registration has a nonce of its own, so that none of them can become two versions."""
        first: dict[str, int] = {}
        for number, nonce in self._nonce_keys.items():
            if (other := first.setdefault(nonce, number)) != number:
                what = f"was made by the same registration as version {other}"
                fix = f"`tyard models delete {self.kept.name}:{number}` hides one of the two"
                self._add("record", self.kept.versions[number], what, fix, number)

    def _nonces(self, highest: int) -> None:
        owners: dict[int, str] = {}
        for key, found in self._read(self.kept.nonces, lambda key: decode(self.store.read(key), key, Nonce)):
            if found is None:
                continue
            if isinstance(found, CorruptRecordError):
                self._add("nonce", key, found.message, "remove it: the nonce will be given another number")
            elif not 1 <= found.version <= highest:
                self._add("nonce", key, f"holds the number {found.version}, which nobody was given", "remove it")
            elif (other := owners.setdefault(found.version, key)) != key:
                self._add("nonce", key, f"holds the number that `{other}` holds", "remove it", found.version)
            elif self._nonce_keys.get(found.version, key) != key:
                self._add(
                    "nonce", key, "holds the number of a version with another nonce", "remove it", found.version
                )

    def _signatures(self) -> None:
        import hashlib

        signed = [(number, key) for number, found in self.kept.signatures.items() for key in found]

        def differs(one: tuple[int, str]) -> str:
            number, key = one
            if number not in self.kept.versions:
                return "signs a version that is not there"
            try:
                record = hashlib.sha256(self.store.read(self.kept.versions[number])).hexdigest()
                return "" if signed_record(self.store.read(key)) == record else "signs another record than is there"
            except ValueError as error:
                return f"is no signature of ours: {error}"

        for (number, key), what in self._read(signed, differs):
            if what:
                self._add("signature", key, str(what), _BACKUP, number)

    def _events(self, kind: str, numbered: Numbered) -> list[_Event]:
        """The events that should be there in their order, None for those that cannot be read."""
        read = dict(self._read(numbered.numbers, lambda number: self._event(numbered.prefix, number)))
        events = []
        for number in range(1, max(numbered.numbers) + 1):
            key = keys.numbered(numbered.prefix, number)
            found = read.get(number)
            if number not in read:
                self._add(kind, key, "is missing, though later ones are there", _BACKUP)
            elif isinstance(found, CorruptRecordError):
                self._add(kind, key, found.message, found.hint or _BACKUP)
            events.append(_Event(key, found if isinstance(found, Event) else None))
        return events

    def _event(self, prefix: str, number: int) -> Event:
        key = keys.numbered(prefix, number)
        return decode(self.store.read(key), key, Event)

    def _version(self, number: int) -> ModelVersion:
        key = self.kept.versions[number]
        return decode_version(self.store.read(key), key, self.kept.name, number)

    def _read(self, items: Sequence[T], read: Callable[[T], R]) -> list[tuple[T, R | CorruptRecordError | None]]:
        """What was read for every item; None for what is gone since it was listed."""

        def one(item: T) -> R | CorruptRecordError | None:
            try:
                return read(item)
            except NotFoundError:
                return None
            except CorruptRecordError as error:
                return error

        return list(zip(items, each(self.store, one, items), strict=True))
