"""Numbered events below a prefix: the newest is the value, all of them are its history."""

import random
import time
from collections.abc import Callable

import msgspec

from tensoryard.errors import AlreadyExistsError, CorruptRecordError, StoreError
from tensoryard.registry.records import Event, decode
from tensoryard.store import Store, keys

# Of n writers at once one wins each round, so this is how many can change one alias at the same moment.
_TRIES = 200


def last_event(store: Store, prefix: str) -> Event | None:
    """The newest event, or None when there is none. Raises CorruptRecordError when it cannot be read."""
    numbers = _numbers(store, prefix)
    if not numbers:
        return None
    key = keys.numbered(prefix, numbers[-1])
    return decode(store.read(key), key, Event)


def add_event(store: Store, prefix: str, event_after: Callable[[Event | None], Event | None]) -> Event | None:
    """
    The event that was added after the newest one, or the newest one where nothing had to be added.

    event_after: given the newest event (None where there is none that can be read), returns the one to add or None.
    It is asked again whenever another writer was first. Raises StoreError when that never ends.
    """
    for attempt in range(_TRIES):
        numbers = _numbers(store, prefix)
        try:
            last = last_event(store, prefix) if numbers else None
        except CorruptRecordError:
            last = None
        event = event_after(last)
        if event is None:
            return last
        number = numbers[-1] + 1 if numbers else 1
        try:
            store.put(keys.numbered(prefix, number), msgspec.json.encode(event))
            return event
        except AlreadyExistsError:
            time.sleep(random.uniform(0, 0.001 * min(attempt + 1, 50)))  # noqa: S311  spreads writers, guards nothing
    raise StoreError(f"`{prefix}`: others changed it {_TRIES} times while this tried to", "try again")


def _numbers(store: Store, prefix: str) -> list[int]:
    parsed = (keys.parse_numbered(name) for name in store.children(prefix))
    return [number for number in parsed if number is not None]
