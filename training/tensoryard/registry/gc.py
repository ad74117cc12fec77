"""
Purges what nobody needs any more: versions deleted long ago, and contents that nothing refers to.

Contents are only ever removed if they lay untouched for a day, if no version that is there or can be restored and no
run's snapshot needs them, and if they are still, by their etag, what was listed before those were read. Whoever is
about to refer to contents touches them first, so of that and their removal one comes first, and the other finds out.
Killed at any step it leaves nothing half done: what it did not come to, the next one does.
"""

import secrets
import time
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import NamedTuple, TypeVar

import msgspec

from tensoryard.errors import CorruptRecordError, NotFoundError, StoreError
from tensoryard.registry.aliases import aliases_of
from tensoryard.registry.deletions import give_up
from tensoryard.registry.outcome import told
from tensoryard.registry.records import SCHEMA, Event, decode
from tensoryard.run import RunRecord
from tensoryard.store import Entry, Store, keys
from tensoryard.store.parallel import each

DAY_S = 86_400.0
DELETED_BEFORE_DAYS = 30.0
_BATCH = 1000

T = TypeVar("T")


class GivenUp(msgspec.Struct, frozen=True, kw_only=True):
    """A deleted version whose time is over. deleted_at: by the clock of who deleted it; reason: theirs."""

    name: str
    version: int
    deleted_at: str
    deleted_by: str
    reason: str | None


class Collected(msgspec.Struct, frozen=True, kw_only=True):
    """
    What a clean-up removed, or would remove.

    versions: deleted ones that can no longer be restored; contents, size_bytes: values under their digests;
    young: contents that nothing refers to and that are left since they were written or used lately;
    held: references of deleted versions that stay as an alias names them.
    """

    versions: list[GivenUp]
    contents: int
    size_bytes: int
    young: int
    held: list[str]


class _Key(msgspec.Struct, frozen=True):
    key: str


class _Needs(msgspec.Struct, frozen=True):
    """All that is asked of a version's record here: one whose other fields are wrong needs its files all the same."""

    files: tuple[_Key, ...]
    schema: int = SCHEMA


class _Ended(NamedTuple):
    """The newest event of a version. number: of the event; at_s: by the store's clock."""

    event: Event
    number: int
    at_s: float


def collect(
    store: Store,
    *,
    apply: bool = False,
    deleted_before_days: float = DELETED_BEFORE_DAYS,
    untouched_s: float = DAY_S,
) -> Collected:
    """
    What was removed, or without apply what would be.

    deleted_before_days: versions deleted so long ago are purged, unless an alias names them.
    untouched_s: contents that were written or used since then stay; no registration may take longer than that from
    its last look at its files to its record.
    Raises CorruptRecordError before anything is removed when a record cannot be read: what it needs is not known;
    StoreError that says what was done when the store fails.
    """
    plan = _plan(store, apply, deleted_before_days)
    due, needed = list(plan.due), set(plan.needed)
    given_up: list[GivenUp] = []
    removed: list[Entry] = []
    old: list[Entry] = []
    try:
        if apply:
            for version in plan.due:
                if give_up(store, version.name, version.version, after=plan.due[version]):
                    given_up.append(version)
                else:
                    due.remove(version)  # restored meanwhile
                    needed |= _needed_by(store, version.name, [version.version])
        spare = [entry for entry in plan.listed if entry.key not in needed]
        old = [entry for entry in spare if entry.modified_at <= plan.now_s - untouched_s]
        if apply:
            _remove(store, old, removed)
    except StoreError as error:
        if type(error) is not StoreError:  # a record that cannot be read
            raise
        raise StoreError(
            f"clean-up: not finished, {len(given_up)} of {len(due)} deleted versions were purged and "
            f"{len(removed)} files removed, as far as is known: {error.message}",
            "; ".join(one for one in (error.hint, "the same again does the rest") if one),
        ) from error
    gone = removed if apply else old
    return Collected(
        versions=due,
        contents=len(gone),
        size_bytes=sum(entry.size_bytes for entry in gone),
        young=len(spare) - len(old),
        held=plan.held,
    )


class _Plan(NamedTuple):
    """
    What is to be done. now_s: by the store's clock where something will be; listed: contents, before anything else
    was read; needed: keys of those that stay; due: deleted versions whose time is over, each with the number of its
    newest event; held: as in `Collected`.
    """

    now_s: float
    listed: list[Entry]
    needed: set[str]
    due: dict[GivenUp, int]
    held: list[str]


@told("clean-up: nothing was purged or removed")
def _plan(store: Store, apply: bool, deleted_before_days: float) -> _Plan:
    now_s = _store_clock(store) if apply else time.time()
    # Listed before any record is read: what is referred to after this has another etag.
    listed = [entry for entry in store.list(keys.CONTENTS) if keys.parse_content(entry.key)]
    needed = _needed_by_runs(store) if listed else set()
    due: dict[GivenUp, int] = {}
    held: list[str] = []
    for name, versions, events in _models(store):
        ended = _ended(store, name, events)
        over = {number for number, one in ended.items() if one.at_s <= now_s - deleted_before_days * DAY_S}
        over -= {number for number, one in ended.items() if one.event.kind != "deleted"}
        named = over & set(aliases_of(store, name).values()) if over else set()
        held += [f"{name}:{number}" for number in sorted(named)]
        for number in sorted(over - named):
            event = ended[number].event
            version = GivenUp(
                name=name, version=number, deleted_at=event.at, deleted_by=event.by, reason=event.reason
            )
            due[version] = ended[number].number
        purged = {number for number, one in ended.items() if one.event.kind == "purged"}
        if listed:
            needed |= _needed_by(store, name, [one for one in versions if one not in purged | (over - named)])
    return _Plan(now_s, listed, needed, due, held)


def _remove(store: Store, entries: Sequence[Entry], removed: list[Entry]) -> None:
    """Remove those that are still what had been listed, and add each to removed once it is gone."""

    def remove(entry: Entry) -> None:
        if store.delete(entry.key, etag=entry.etag):
            removed.append(entry)

    for batch in _batches(entries):
        each(store, remove, batch)


def _models(store: Store) -> Iterator[tuple[str, list[int], dict[int, Entry]]]:
    """(name, numbers of its versions, newest event by version) of every model."""
    listed = store.list(keys.MODELS)
    for name, entries in groupby(listed, key=lambda entry: entry.key.split("/")[1]):
        versions: list[int] = []
        newest: dict[int, Entry] = {}
        for entry in entries:
            if parsed := keys.parse_model_version(entry.key):
                versions.append(parsed[1])
            elif entry.key.startswith(keys.model_events(name)):
                # In the order of their numbers: the last that comes is the newest.
                number = keys.parse_numbered(f"{entry.key.split('/')[3]}/")
                if number is not None and entry.key.startswith(keys.model_events(name, number)):
                    newest[number] = entry
        yield name, versions, newest


def _ended(store: Store, name: str, newest: dict[int, Entry]) -> dict[int, _Ended]:
    def read(number: int) -> _Ended:
        entry = newest[number]
        event = decode(store.read(entry.key), entry.key, Event)
        return _Ended(event, keys.parse_numbered(entry.key.rpartition("/")[2]) or 0, entry.modified_at)

    return dict(zip(newest, each(store, read, newest), strict=True))


def _needed_by(store: Store, name: str, versions: Sequence[int]) -> set[str]:
    """The contents that versions of a model refer to. Raises CorruptRecordError for one that cannot be read."""

    def read(number: int) -> list[str]:
        key = keys.model_version(name, number)
        hint = (
            f"nothing was removed. Bring the record back from a backup, or give the version up: `tyard models delete "
            f"{name}:{number}`, and after {DELETED_BEFORE_DAYS:.0f} days a clean-up passes over it"
        )
        try:
            needs = decode(store.read(key), key, _Needs)
        except NotFoundError:
            return []
        except CorruptRecordError as error:
            raise CorruptRecordError(error.message, hint) from None
        if needs.schema > SCHEMA:
            what = f"`{key}`: has schema {needs.schema}, this tensoryard reads up to {SCHEMA}"
            raise CorruptRecordError(what, "nothing was removed; update tensoryard")
        return [file.key for file in needs.files if keys.parse_content(file.key)]

    return {key for batch in _batches(versions) for found in each(store, read, batch) for key in found}


def _needed_by_runs(store: Store) -> set[str]:
    """The contents of every run's snapshot. Raises CorruptRecordError for one that cannot be read."""

    def read(child: str) -> list[str]:
        run = RunRecord(store, child.removesuffix("/"))
        try:
            return [keys.content(file.sha256) for file in run.snapshot().files]
        except NotFoundError:
            return []
        except CorruptRecordError as error:
            hint = f"nothing was removed. Bring the file back from a backup, or remove the run's `{run.key('')}`"
            raise CorruptRecordError(error.message, hint) from None

    runs = [child for child in store.children(keys.RUNS) if child.endswith("/")]
    return {key for batch in _batches(runs) for found in each(store, read, batch) for key in found}


def _store_clock(store: Store) -> float:
    """Seconds since the epoch by the store's clock: a machine whose own is wrong removes nothing too early."""
    key = keys.clean_up_clock(secrets.token_hex(8))
    store.put(key, b"")
    try:
        entry = store.stat(key)
    finally:
        store.delete(key)
    if entry is None:
        raise NotFoundError(f"`{key}`: was removed by somebody else", "try again")
    for left in store.list(keys.clean_up_clock("")):  # by clean-ups that were killed
        if left.modified_at <= entry.modified_at - DAY_S:
            store.delete(left.key)
    return entry.modified_at


def _batches(items: Sequence[T]) -> Iterator[Sequence[T]]:
    """So many at a time as are kept in memory while they are read."""
    return (items[start : start + _BATCH] for start in range(0, len(items), _BATCH))
