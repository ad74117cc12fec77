"""Aliases, deletion and restoring: what a name stands for now, and what it stood for."""

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from tensoryard.errors import CorruptRecordError, NotFoundError, UsageError
from tensoryard.registry import Registry
from tensoryard.store import Store, keys

Processes = Callable[[int, Callable[[int], None]], list[int]]


def test_an_alias_moved_by_many_at_once_keeps_every_move(
    registry: Registry, store: Store, folder: Path, processes: Processes
) -> None:
    for _ in range(8):
        registry.register_folder("digits", folder)

    def move(index: int) -> None:
        Registry(store).alias("digits", "champion", index + 1)

    assert processes(8, move) == [0] * 8
    moves = [event for event in registry.history("digits") if event.kind == "aliased"]
    assert sorted(event.version or 0 for event in moves) == list(range(1, 9))
    by_number = [
        msgspec.json.decode(store.read(entry.key)) for entry in store.list(keys.model_aliases("digits", "champion"))
    ]
    assert [event.get("previous") for event in by_number] == [None] + [event["version"] for event in by_number[:-1]]
    assert registry.get("digits", "champion").version == by_number[-1]["version"]


def test_alias_names_the_version_it_was_last_given(registry: Registry, folder: Path) -> None:
    for _ in range(2):
        registry.register_folder("digits", folder)
    registry.alias("digits", "champion", 1, by="anna")
    moved = registry.alias("digits", "champion", 2, by="ben")
    again = registry.alias("digits", "champion", 2, by="cleo")

    assert (moved.previous, moved.version, moved.by) == (1, 2, "ben")
    assert again == moved
    assert registry.resolve("digits@champion").version == 2
    assert registry.aliases("digits") == {"champion": 2}
    registry.alias("digits", "champion", None)
    assert registry.aliases("digits") == {}
    with pytest.raises(NotFoundError, match="has no alias `champion`"):
        registry.get("digits", "champion")
    with pytest.raises(NotFoundError, match="has no alias `champion`"):
        registry.alias("digits", "champion", None)


@pytest.mark.parametrize("alias", ["latest", "3", "v3", "", "a/b", "-x"])
def test_an_alias_that_reads_as_a_version_is_refused(registry: Registry, folder: Path, alias: str) -> None:
    registry.register_folder("digits", folder)

    with pytest.raises(UsageError, match="alias: got"):
        registry.alias("digits", alias, 1)


def test_deleting_hides_a_version_and_restoring_brings_it_back(registry: Registry, folder: Path) -> None:
    for _ in range(2):
        registry.register_folder("digits", folder)
    registry.delete("digits", 2, reason="wrong split", by="anna")
    registry.delete("digits", 2, by="ben")

    with pytest.raises(NotFoundError, match=r"deleted by anna at .*: wrong split") as caught:
        registry.get("digits", 2)
    assert caught.value.hint == "`tyard models restore digits:2` brings it back"
    assert registry.restore("digits", 2) is not None
    assert registry.get("digits").version == 2
    assert [event.kind for event in registry.history("digits")] == ["registered", "registered", "deleted", "restored"]


def test_a_version_that_an_alias_names_is_deleted_only_by_force(registry: Registry, folder: Path) -> None:
    registry.register_folder("digits", folder)
    registry.alias("digits", "champion", 1)

    with pytest.raises(UsageError, match="alias `champion`"):
        registry.delete("digits", 1)
    registry.delete("digits", 1, force=True)
    with pytest.raises(NotFoundError, match="alias `champion` names it"):
        registry.get("digits", "champion")
    with pytest.raises(NotFoundError, match="has no version"):
        registry.get("digits")


def test_a_corrupt_alias_is_named_and_can_be_set_again(registry: Registry, store: Store, folder: Path) -> None:
    registry.register_folder("digits", folder)
    registry.alias("digits", "champion", 1)
    key = keys.numbered(keys.model_aliases("digits", "champion"), 1)
    store.put(key, b"{", overwrite=True)

    with pytest.raises(CorruptRecordError, match=key):
        registry.get("digits", "champion")
    registry.alias("digits", "champion", 1)
    assert registry.get("digits", "champion").version == 1
