"""
Everything that happened to a model, in one order that no machine's clock decides.

Versions are in the order of their numbers, the changes of an alias and of a version's deletion in that of theirs, and
nothing happens to a version before it is there. Where that leaves a choice, the store's clock decides, which is one
for all machines, and then the times that the machines noted.
"""

from collections.abc import Callable, Iterator
from heapq import heappop, heappush
from typing import NamedTuple

from tensoryard.errors import CorruptRecordError, NotFoundError
from tensoryard.registry.records import Event, ModelVersion, decode, decode_version
from tensoryard.store import Entry, Store, keys
from tensoryard.store.parallel import in_batches


class _Told(NamedTuple):
    """written_at: seconds since the epoch by the store's clock; stream: in which events keep their order."""

    written_at: float
    at: str
    stream: str
    number: int
    event: Event


def history(store: Store, name: str, warn: Callable[[str], None]) -> list[Event]:
    """The events of a model, oldest first. warn: called with a sentence for each record that cannot be read."""
    prefix = keys.model(name)
    entries = [entry for entry in store.list(prefix) if entry.key.endswith(".json")]

    def read(entry: Entry) -> _Told | None:
        try:
            event = _event(store, name, entry.key)
        except CorruptRecordError as error:
            warn(error.message)
            return None
        except NotFoundError:  # removed since the listing
            return None
        stream, _, number = entry.key.rpartition("/")
        if event is None:
            return None
        return _Told(entry.modified_at, event.at, stream, keys.parse_numbered(number) or 0, event)

    return [told.event for told in _ordered([told for told in in_batches(store, read, entries) if told])]


def _event(store: Store, name: str, key: str) -> Event | None:
    """What a key tells of, or None when it tells nothing."""
    kind = key.removeprefix(keys.model(name)).partition("/")[0]
    if kind == "versions":
        parsed = keys.parse_model_version(key)
        if parsed is None:
            return None
        version: ModelVersion = decode_version(store.read(key), key, *parsed)
        return Event(kind="registered", at=version.created_at, by=version.created_by, version=version.version)
    if kind in ("aliases", "events"):
        return decode(store.read(key), key, Event)
    return None


def _ordered(told: list[_Told]) -> Iterator[_Told]:
    streams: dict[str, list[_Told]] = {}
    for one in sorted(told, key=lambda one: -one.number):
        streams.setdefault(one.stream, []).append(one)
    registered = {one.event.version for one in told if one.event.kind == "registered"}
    waiting: dict[int, list[str]] = {}
    ready: list[_Told] = []

    def offer(stream: str) -> None:
        """The next of a stream is ready, unless the version that it is about has still to come."""
        if streams[stream]:
            event = streams[stream][-1].event
            if event.kind != "registered" and event.version is not None and event.version in registered:
                waiting.setdefault(event.version, []).append(stream)
            else:
                heappush(ready, streams[stream].pop())

    for stream in streams:
        offer(stream)
    while ready:
        one = heappop(ready)
        yield one
        if one.event.kind == "registered" and one.event.version is not None:
            registered.discard(one.event.version)
            for stream in waiting.pop(one.event.version, ()):
                offer(stream)
        offer(one.stream)
