"""A clean-up removes what nobody needs and nothing else, whoever is at work beside it and wherever it is killed."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tensoryard import snapshot
from tensoryard.errors import CorruptRecordError, NotFoundError, TensoryardError
from tensoryard.registry import FileRecord, Registry
from tensoryard.registry.gc import Collected, collect
from tensoryard.store import Entry, Store, keys
from tensoryard.store.file import FileStore
from tensoryard.store.transfer import sha256_key

DAY_S = 86_400.0


class Aged:
    """A store in which all that was there when it was made, and was not touched since, is `days` old."""

    def __init__(self, store: Store, days: float = 100.0) -> None:
        self.store = store
        self._days = days
        self._old = {(entry.key, entry.etag) for entry in store.list("")}
        self.before_call: Callable[[str], None] = lambda name: None

    def __getattr__(self, name: str) -> Any:
        def call(*arguments: Any, **options: Any) -> Any:
            self.before_call(name)
            return getattr(self.store, name)(*arguments, **options)

        return call

    def list(self, prefix: str, *, start_after: str = "") -> Iterator[Entry]:
        self.before_call("list")
        for entry in self.store.list(prefix, start_after=start_after):
            if (entry.key, entry.etag) in self._old:
                entry = entry._replace(modified_at=entry.modified_at - self._days * DAY_S)
            yield entry


def aged(store: Store, days: float = 100.0) -> Any:
    return Aged(store, days)


def folder_of(tmp_path: Path, word: str) -> Path:
    folder = tmp_path / f"model-{word}"
    folder.mkdir(exist_ok=True)
    (folder / "weights").write_bytes(word.encode())
    (folder / "shared").write_bytes(b"of all")
    return folder


def contents(store: Store) -> set[bytes]:
    return {store.read(entry.key) for entry in store.list(keys.CONTENTS)}


def make_snapshot(store: Store, run_id: str, tmp_path: Path, word: str) -> None:
    taken = snapshot.take(store, folder_of(tmp_path, word), lambda text: None)
    store.put(keys.run(run_id, "snapshot.json"), msgspec.json.encode(taken))


def test_a_version_deleted_long_ago_is_given_up_with_what_only_it_needs(store: Store, tmp_path: Path) -> None:
    registry = Registry(store)
    for word in ("one", "two", "three"):
        registry.register_folder("digits", folder_of(tmp_path, word))
    registry.delete("digits", 1, reason="old", by="ada")
    registry.delete("digits", 2)
    registry.restore("digits", 2)
    registry.delete("digits", 3)
    old = aged(store)

    would = collect(old)

    assert [(one.version, one.deleted_by, one.reason) for one in would.versions[:1]] == [(1, "ada", "old")]
    assert (len(would.versions), would.contents, would.size_bytes, would.young) == (2, 2, 8, 0)
    assert len(contents(store)) == 4
    assert registry.restore("digits", 3) is not None

    done = collect(old, apply=True)

    assert [one.version for one in done.versions] == [1]
    assert (done.contents, done.size_bytes) == (1, 3)
    assert contents(store) == {b"two", b"three", b"of all"}
    assert [registry.verify(f"digits:{number}") for number in (2, 3)] == [[], []]
    with pytest.raises(NotFoundError, match="gave it up"):
        registry.restore("digits", 1)
    with pytest.raises(NotFoundError, match="gave it up"):
        registry.get("digits", 1)
    assert [event.kind for event in registry.history("digits") if event.version == 1] == [
        "registered",
        "deleted",
        "purged",
    ]
    assert registry.register_folder("digits", folder_of(tmp_path, "four")).version == 4
    assert [version.version for version in registry.list_versions("digits")] == [4, 3, 2]
    assert collect(old, apply=True) == Collected(versions=[], contents=0, size_bytes=0, young=0, held=[])


def test_what_was_deleted_lately_can_still_be_restored(store: Store, tmp_path: Path) -> None:
    registry = Registry(store)
    registry.register_folder("digits", folder_of(tmp_path, "one"))
    registry.delete("digits", 1)

    done = collect(aged(store, days=29), apply=True)

    assert (done.versions, done.contents) == ([], 0)
    registry.restore("digits", 1)
    assert registry.verify("digits:1") == []


def test_a_version_that_an_alias_names_is_not_given_up(store: Store, tmp_path: Path) -> None:
    registry = Registry(store)
    registry.register_folder("digits", folder_of(tmp_path, "one"))
    registry.alias("digits", "champion", 1)
    registry.delete("digits", 1, force=True)

    done = collect(aged(store), apply=True)

    assert (done.versions, done.contents, done.held) == ([], 0, ["digits:1"])


def test_leftovers_go_and_what_a_snapshot_or_a_zero_copy_version_needs_stays(store: Store, tmp_path: Path) -> None:
    make_snapshot(store, "mnist-0001", tmp_path, "code")
    entry = store.put(keys.run("mnist-0001", "outputs/m"), b"output")
    file = FileRecord(path="m", key=entry.key, size_bytes=6, sha256=sha256_key(store, entry.key))
    registry = Registry(store)
    registry.register("digits", [file])
    registry.register("copied", [file], copy=True)
    registry.delete("digits", 1)
    store.put(keys.content("0" * 64), b"of a registration that was killed")

    done = collect(aged(store), apply=True)

    assert [one.name for one in done.versions] == ["digits"]
    assert contents(store) == {b"code", b"of all", b"output"}
    assert store.read(entry.key) == b"output"


def test_what_is_young_stays_whatever_the_clock_of_this_machine_says(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.put(keys.content("0" * 64), b"of a registration that goes on")
    monkeypatch.setattr("time.time", lambda: 4e9)

    done = collect(store, apply=True)

    assert (done.contents, done.young) == (0, 1)
    assert len(contents(store)) == 1


@pytest.mark.parametrize("key", [keys.model_version("digits", 1), keys.run("mnist-0001", "snapshot.json")])
def test_nothing_is_removed_while_a_record_cannot_be_read(store: Store, key: str) -> None:
    store.append(keys.model_tickets("digits", 0), b"x" * 16)
    store.put(key, b"{")
    store.put(keys.content("0" * 64), b"who knows")

    with pytest.raises(CorruptRecordError, match="cannot be read") as caught:
        collect(aged(store), apply=True)

    assert "nothing was removed" in str(caught.value.hint)
    assert len(contents(store)) == 1


def at_every_call(store: Store, tmp_path: Path, act: Callable[[Registry], None]) -> Iterator[tuple[int, Registry]]:
    """A clean-up of a deleted version during which somebody acts, before its first call, before its second, ..."""
    registry = Registry(store)
    at = 0
    while True:
        for entry in list(store.list("")):
            store.delete(entry.key)
        registry.register_folder("digits", folder_of(tmp_path, "one"))
        registry.delete("digits", 1)
        old = aged(store)
        calls = 0

        def before(call: str, at: int = at) -> None:
            nonlocal calls
            calls += 1
            if calls == at + 1:
                act(registry)

        old.before_call = before
        collect(old, apply=True)
        if calls <= at:
            return
        yield at, registry
        at += 1


def test_a_registration_at_any_moment_of_a_clean_up_loses_nothing(store: Store, tmp_path: Path) -> None:
    """Contents that nobody needs any more are there, and just then somebody registers the same bytes again."""
    moments = 0

    def register(registry: Registry) -> None:
        registry.register_folder("digits", folder_of(tmp_path, "one"))

    for at, registry in at_every_call(store, tmp_path, register):
        assert registry.verify("digits:2") == [], f"registered before call {at}"
        moments += 1
    assert moments > 8


def test_a_restore_at_any_moment_of_a_clean_up_is_refused_or_whole(store: Store, tmp_path: Path) -> None:
    restored: list[bool] = []

    def restore(registry: Registry) -> None:
        try:
            registry.restore("digits", 1)
            restored.append(True)
        except NotFoundError:
            restored.append(False)

    for at, registry in at_every_call(store, tmp_path, restore):
        if restored[at]:
            assert registry.verify("digits:1") == [], f"restored before call {at}"
    assert (restored[0], restored[-1]) == (True, False)


class Died(BaseException):
    pass


def test_killed_at_any_call_the_next_one_does_the_rest(tmp_path: Path) -> None:
    at = 0
    while True:
        store = FileStore(tmp_path / f"store-{at}")
        registry = Registry(store)
        for word in ("one", "two"):
            registry.register_folder("digits", folder_of(tmp_path, word))
        registry.delete("digits", 1)
        old = aged(store)
        calls = 0

        def die(call: str, at: int = at) -> None:
            nonlocal calls
            if calls == at:
                raise Died
            calls += 1

        old.before_call = die
        try:
            collect(old, apply=True)
            break
        except Died:
            old.before_call = lambda call: None
        assert registry.verify("digits:2") == []
        collect(old, apply=True)
        assert contents(store) == {b"two", b"of all"}
        at += 1
    assert at > 8


def test_what_a_killed_clean_up_left_goes_with_the_next_one_after_a_day(store: Store) -> None:
    for word in ("old", "young"):
        store.put(keys.clean_up_clock(word), b"")
    old = aged(store)
    old._old = {one for one in old._old if one[0] == keys.clean_up_clock("old")}

    collect(old, apply=True)
    assert [entry.key for entry in store.list("")] == [keys.clean_up_clock("young")]


def test_two_clean_ups_at_once_do_not_trip_over_each_other(
    store: Store, tmp_path: Path, processes: Callable[[int, Callable[[int], None]], list[int]]
) -> None:
    registry = Registry(store)
    for word in map(str, range(8)):
        registry.register_folder("digits", folder_of(tmp_path, word))
    for number in range(1, 8):
        registry.delete("digits", number)
    old = aged(store)

    assert processes(4, lambda index: void(collect(old, apply=True))) == [0] * 4

    assert contents(store) == {b"7", b"of all"}
    assert registry.verify("digits:8") == []


def void(_: object) -> None:
    pass


ACTIONS = st.lists(
    st.tuples(
        st.sampled_from(["folder", "copy", "pinned", "delete", "restore", "alias", "snapshot", "collect", "age"]),
        st.integers(0, 3),
    ),
    max_size=25,
)


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(actions=ACTIONS)
def test_whatever_is_done_all_that_is_there_or_can_be_restored_is_whole(
    actions: list[tuple[str, int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    tmp_path = tmp_path_factory.mktemp("gc")
    store = FileStore(tmp_path / "store")
    registry = Registry(store)
    old = aged(store)
    made = 0
    snapshots: dict[str, snapshot.Snapshot] = {}
    given_up: set[int] = set()
    for place, (action, which) in enumerate(actions):
        word = str(which)
        try:
            if action == "folder":
                made = registry.register_folder("m", folder_of(tmp_path, word)).version
            elif action in ("copy", "pinned"):
                key = keys.run(f"r-000{which}", "outputs/m")
                if store.stat(key) is None:
                    store.put(key, word.encode())
                file = FileRecord(path="m", key=key, size_bytes=1, sha256=sha256_key(store, key))
                made = registry.register("m", [file], copy=action == "copy").version
            elif action == "delete":
                registry.delete("m", which + 1)
            elif action == "restore":
                registry.restore("m", which + 1)
                assert which + 1 not in given_up
            elif action == "alias":
                registry.alias("m", "champion", which + 1)
            elif action == "snapshot":
                run_id = f"s-{place:04d}"
                snapshots[run_id] = snapshot.take(store, folder_of(tmp_path, word), lambda text: None)
                store.put(keys.run(run_id, "snapshot.json"), msgspec.json.encode(snapshots[run_id]))
            elif action == "age":
                old = aged(store)
            else:
                given_up |= {one.version for one in collect(old, apply=True).versions}
        except TensoryardError:
            pass
    live = {version.version for version in registry.list_versions("m")} if made else set()
    assert not live & given_up
    for number in range(1, made + 1):
        if number not in live | given_up:
            registry.restore("m", number)
        if number not in given_up:
            assert registry.verify(f"m:{number}") == []
    for taken in snapshots.values():
        assert all(store.stat(keys.content(file.sha256)) for file in taken.files)
