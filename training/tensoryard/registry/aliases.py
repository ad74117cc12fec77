"""Names that move from version to version, each with its history."""

from collections.abc import Iterable

import msgspec

from tensoryard.registry.deletions import deletion_of
from tensoryard.registry.events import add_event, last_event
from tensoryard.registry.records import Event, decode, now, whoami
from tensoryard.store import Store, keys
from tensoryard.store.parallel import each


def aliases_of(store: Store, name: str) -> dict[str, int]:
    """The version number of each alias that names one, in the order of the aliases."""
    return aliases_in(store, name, (entry.key for entry in store.list(keys.model_aliases(name))))


def aliases_in(store: Store, name: str, listed: Iterable[str]) -> dict[str, int]:
    """The same from the keys of a model's aliases, all of them, in their order."""
    prefix = keys.model_aliases(name)
    newest: dict[str, str] = {}
    for key in listed:
        alias, _, number = key.removeprefix(prefix).partition("/")
        if keys.parse_numbered(number) is not None:
            newest[alias] = key  # in the order of their numbers, so the last one stays
    events = each(store, lambda key: decode(store.read(key), key, Event), newest.values())
    named = zip(newest, events, strict=True)
    return {alias: event.version for alias, event in named if event.version is not None}


def alias_number(store: Store, name: str, alias: str) -> int | None:
    """The version number that one alias names, or None."""
    event = last_event(store, keys.model_aliases(name, alias))
    return event.version if event else None


def move(store: Store, name: str, alias: str, version: int | None, by: str | None) -> tuple[Event | None, bool]:
    """
    The event that made alias name a version, or none where version is None; and whether it was added now.

    None where the alias never named one and is to name none.
    """
    made: list[Event] = []

    def event_after(last: Event | None) -> Event | None:
        previous = last.version if last else None
        if last is not None and previous == version:
            return None
        who = by or whoami()
        made.append(Event(kind="aliased", at=now(), by=who, version=version, alias=alias, previous=previous))
        return made[-1]

    event = add_event(store, keys.model_aliases(name, alias), event_after)
    return event, any(event is one for one in made)


def move_back(store: Store, name: str, change: Event) -> None:
    """
    Undo a change of an alias, unless somebody changed it since.

    It then names what it named before, or nothing where that was deleted meanwhile.
    """
    alias = change.alias or ""
    for version in (change.previous, None):
        if version is not None and deletion_of(store, name, version) is not None:
            continue

        def event_after(last: Event | None, change: Event = change, version: int | None = version) -> Event | None:
            if last != change:
                return None
            return msgspec.structs.replace(change, at=now(), version=version, previous=change.version)

        undone = add_event(store, keys.model_aliases(name, alias), event_after)
        if undone is None or undone.version is None or deletion_of(store, name, undone.version) is None:
            return
        change = undone
