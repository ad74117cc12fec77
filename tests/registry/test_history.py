"""The order of what happened is that of numbers and of what was written first, whatever machines' clocks said."""

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from tensoryard.registry import FileRecord, Registry
from tensoryard.run import RunRecord
from tensoryard.store import Entry, Store

DIGEST = "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"


class Clock:
    """The store's own clock, which goes on by a second with every value; the machines' clocks are all wrong."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._written: dict[str, float] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def put(self, key: str, data: bytes, **options: Any) -> Entry:
        self._written[key] = float(len(self._written))
        return self._store.put(key, data, **options)

    def list(self, prefix: str, *, start_after: str = "") -> Iterator[Entry]:
        for entry in self._store.list(prefix, start_after=start_after):
            yield entry._replace(modified_at=self._written.get(entry.key, 0.0))


def act(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int | None, str | None]]:
    """What was done, by machines of which each has another time."""
    hours = iter([9, 23, 3, 12, 1, 18, 0, 7, 22, 4, 15, 2])

    def wrong_time() -> str:
        return f"2026-11-23T{next(hours):02d}:00:00.000000Z"

    for module in ("registry", "aliases", "deletions"):
        monkeypatch.setattr(f"tensoryard.registry.{module}.now", wrong_time)
    entry = registry.store.put("objects/x", b"x")
    file = FileRecord(path="x", key="objects/x", size_bytes=1, sha256=DIGEST, etag=entry.etag)
    registry.register("digits", [file])
    registry.alias("digits", "champion", 1)
    registry.register("digits", [file])
    registry.alias("digits", "champion", 2)
    registry.delete("digits", 1)
    registry.register("digits", [file])
    registry.restore("digits", 1)
    registry.alias("digits", "rival", 3)
    registry.alias("digits", "champion", 1)
    registry.delete("digits", 2)
    return [
        ("registered", 1, None),
        ("aliased", 1, "champion"),
        ("registered", 2, None),
        ("aliased", 2, "champion"),
        ("deleted", 1, None),
        ("registered", 3, None),
        ("restored", 1, None),
        ("aliased", 3, "rival"),
        ("aliased", 1, "champion"),
        ("deleted", 2, None),
    ]


def test_wrong_clocks_of_machines_change_no_order(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    clock: Any = Clock(store)
    registry = Registry(clock)
    done = act(registry, monkeypatch)

    assert [(event.kind, event.version, event.alias) for event in registry.history("digits")] == done
    assert registry.get("digits").version == 3
    assert registry.aliases("digits") == {"champion": 1, "rival": 3}


def test_nothing_happens_to_a_version_before_it_is_there(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the store's clock does not tell either, as it counts whole seconds or everything came from a backup."""

    class OneMoment(Clock):
        def put(self, key: str, data: bytes, **options: Any) -> Entry:
            return self._store.put(key, data, **options)

    clock: Any = OneMoment(store)
    registry = Registry(clock)
    done = act(registry, monkeypatch)
    told = [(event.kind, event.version, event.alias) for event in registry.history("digits")]

    assert sorted(told, key=str) == sorted(done, key=str)
    for version in (1, 2, 3):
        assert next(kind for kind, number, _ in told if number == version) == "registered"
    for alias in ("champion", "rival"):
        of_alias = [one for one in told if one[2] == alias]
        assert of_alias == [one for one in done if one[2] == alias]
    for kinds in (("registered",), ("deleted", "restored")):
        for version in (1, 2, 3) if len(kinds) > 1 else (None,):
            stream = [one for one in told if one[0] in kinds and version in (None, one[1])]
            assert stream == [one for one in done if one[0] in kinds and version in (None, one[1])]


def test_a_clock_that_is_set_back_changes_no_order_of_a_metrics_values(store: Store) -> None:
    run = RunRecord(store, "mnist-0007")
    for time, value in ((5, 0.9), (1, 0.5), (2, 0.3)):
        line = {"name": "loss", "time": time, "value": value}
        store.append(run.key("metrics/worker-0.jsonl"), msgspec.json.encode(line) + b"\n")

    assert run.metrics() == {"loss": [0.9, 0.5, 0.3]}
