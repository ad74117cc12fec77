"""
Versions that are hidden, brought back, or given up for good: the newest event of a version says which.

What is given up never comes back. It is one more numbered event, so of a `restore` and a clean-up at the same moment
one comes first, and the other finds out.
"""

import msgspec

from tensoryard.errors import AlreadyExistsError, NotFoundError
from tensoryard.registry.events import add_event, last_event
from tensoryard.registry.records import Event, now, whoami
from tensoryard.store import Store, keys

GONE = ("deleted", "purged")


def deletion_of(store: Store, name: str, number: int) -> Event | None:
    """The event that hides a version, or None where nothing does. Raises CorruptRecordError if it is unreadable."""
    prefix = keys.model_events(name, number)
    try:
        # Nearly always there is none, and to ask for it costs a tenth of a listing.
        store.read(keys.numbered(prefix, 1))
    except NotFoundError:
        return None
    event = last_event(store, prefix)
    return event if event is not None and event.kind in GONE else None


def hide(store: Store, name: str, version: int, reason: str, by: str | None) -> tuple[Event | None, bool]:
    """The event that hides a version, and whether it was added now; else it was hidden already."""
    made: list[Event] = []

    def event_after(last: Event | None) -> Event | None:
        if last is not None and last.kind in GONE:
            return None
        made.append(Event(kind="deleted", at=now(), by=by or whoami(), version=version, reason=reason or None))
        return made[-1]

    event = add_event(store, keys.model_events(name, version), event_after)
    return event, any(event is one for one in made)


def unhide(store: Store, name: str, version: int, deletion: Event) -> None:
    """Undo a deletion, unless somebody restored the version since."""

    def event_after(last: Event | None) -> Event | None:
        return Event(kind="restored", at=now(), by=deletion.by, version=version) if last == deletion else None

    add_event(store, keys.model_events(name, version), event_after)


def bring_back(store: Store, name: str, version: int, by: str | None) -> Event | None:
    """The event that brings a version back, None when it was never hidden. Raises NotFoundError when it is purged."""

    def event_after(last: Event | None) -> Event | None:
        if last is None or last.kind == "restored":
            return None
        if last.kind == "purged":
            raise NotFoundError(*gone(name, version, last))
        return Event(kind="restored", at=now(), by=by or whoami(), version=version)

    return add_event(store, keys.model_events(name, version), event_after)


def give_up(store: Store, name: str, version: int, *, after: int) -> bool:
    """Whether a version is given up from now on. after: the number of its newest event, which is its deletion."""
    event = Event(kind="purged", at=now(), by=whoami(), version=version)
    try:
        store.put(keys.numbered(keys.model_events(name, version), after + 1), msgspec.json.encode(event))
    except AlreadyExistsError:  # restored meanwhile, or given up by another clean-up
        last = last_event(store, keys.model_events(name, version))
        return last is not None and last.kind == "purged"
    return True


def gone(name: str, version: int, event: Event, why: str = "") -> tuple[str, str]:
    """(message, hint) about a version that is hidden or given up. why: how it came to be asked for."""
    reason = f": {event.reason}" if event.reason else ""
    if event.kind == "purged":
        return (
            f"`{name}:{version}`: {why}it was deleted, and `tyard models gc` of {event.by} gave it up at {event.at}",
            f"`tyard models list {name}` shows the versions that are there",
        )
    return (
        f"`{name}:{version}`: {why}it was deleted by {event.by} at {event.at}{reason}",
        f"`tyard models restore {name}:{version}` brings it back",
    )
