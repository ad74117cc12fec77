"""Numbers of versions: each is given once, whoever registers at the same time and whatever answer is lost."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tensoryard.errors import AlreadyExistsError, UsageError
from tensoryard.registry import Registry
from tensoryard.store import Entry, Store, keys
from tensoryard.store import tickets as tickets_module

Processes = Callable[[int, Callable[[int], None]], list[int]]


def test_numbers_are_never_used_again(registry: Registry, folder: Path) -> None:
    for _ in range(3):
        registry.register_folder("digits", folder)
    registry.delete("digits", 3)

    assert registry.get("digits").version == 2
    assert registry.register_folder("digits", folder).version == 4
    assert [version.version for version in registry.list_versions("digits")] == [4, 2, 1]


def test_numbers_go_on_when_a_ticket_file_is_full(
    registry: Registry, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tickets_module, "TICKETS_PER_FILE", 3)
    made = [registry.register_folder("digits", folder).version for _ in range(8)]

    assert made == list(range(1, 9))
    assert registry.get("digits").version == 8


def test_a_retry_with_the_same_nonce_gives_the_same_version(registry: Registry, folder: Path) -> None:
    first = registry.register_folder("digits", folder, nonce="build 17")
    assert registry.register_folder("digits", folder, nonce="build 17") == first
    assert registry.register_folder("digits", folder, nonce="build 18").version == 2
    (folder / "new").write_bytes(b"x")

    with pytest.raises(UsageError, match="other files"):
        registry.register_folder("digits", folder, nonce="build 17")


def test_32_writers_at_once_lose_nothing(
    registry: Registry, store: Store, folder: Path, processes: Processes
) -> None:
    def register(index: int) -> None:
        Registry(store).register_folder("digits", folder, tags={"writer": str(index)})

    assert processes(32, register) == [0] * 32
    versions = list(registry.list_versions("digits"))
    assert [version.version for version in versions] == list(range(32, 0, -1))
    assert {version.tags["writer"] for version in versions} == {str(index) for index in range(32)}


def test_retries_of_one_nonce_at_once_make_one_version(
    registry: Registry, store: Store, folder: Path, processes: Processes
) -> None:
    assert processes(8, lambda _: void(Registry(store).register_folder("digits", folder, nonce="one"))) == [0] * 8
    assert len(list(registry.list_versions("digits"))) == 1


def void(_: Any) -> None:
    pass


def test_a_ticket_file_from_an_old_backup_costs_numbers_not_versions(
    registry: Registry, store: Store, folder: Path
) -> None:
    made = [registry.register_folder("digits", folder) for _ in range(3)]
    store.delete(keys.model_tickets("digits", 0))

    assert registry.register_folder("digits", folder).version == 4
    assert [registry.get("digits", version.version) for version in made] == made


def test_the_same_costs_a_nonce_nothing(registry: Registry, store: Store, folder: Path) -> None:
    """It keeps its number for good, so it must not be given one that a version has."""
    for _ in range(3):
        registry.register_folder("digits", folder)
    store.delete(keys.model_tickets("digits", 0))

    for _ in range(2):
        assert Registry(store).register_folder("digits", folder, nonce="once").version == 4


class Lossy:
    """A store whose answer to the first put of a version is lost, so that the writer is told its key was taken."""

    def __init__(self, store: Store) -> None:
        self._store, self._lost = store, False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def put(self, key: str, data: bytes, **options: Any) -> Entry:
        entry = self._store.put(key, data, **options)
        if "/versions/" in key and not self._lost:
            self._lost = True
            raise AlreadyExistsError(f"`{key}`: was written before")
        return entry


def test_a_lost_answer_does_not_make_a_second_version(registry: Registry, store: Store, folder: Path) -> None:
    lossy: Any = Lossy(store)

    assert Registry(lossy).register_folder("digits", folder).version == 1
    assert [version.version for version in registry.list_versions("digits")] == [1]
