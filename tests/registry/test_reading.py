"""Versions and models looked up and listed: what is not there or not to be read is said, and the rest is shown."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tensoryard.errors import CorruptRecordError, NotFoundError, UsageError
from tensoryard.registry import ModelVersion, Reference, Registry, listing, parse_reference
from tensoryard.registry.check import check_registry
from tensoryard.registry.listing import newest_of_models
from tensoryard.store import Store, is_folder, keys
from tensoryard.store.file import FileStore
from tensoryard.store.parallel import AT_ONCE


def test_what_is_not_there_is_answered_with_the_nearest(registry: Registry, folder: Path) -> None:
    with pytest.raises(NotFoundError, match="no such model"):
        registry.get("digits")
    registry.register_folder("digits", folder)
    registry.alias("digits", "champion", 1)

    with pytest.raises(NotFoundError) as caught:
        registry.get("digist")
    assert caught.value.hint == "did you mean `digits`?"
    with pytest.raises(NotFoundError) as caught:
        registry.get("digits", "champoin")
    assert caught.value.hint == "did you mean `champion`?"
    for call in (
        lambda: registry.get("digits", 9),
        lambda: registry.get("digits", 0),
        lambda: registry.delete("digits", 9),
        lambda: registry.restore("digits", 9),
        lambda: registry.alias("digits", "champion", 9),
    ):
        with pytest.raises(NotFoundError, match="the newest is 1"):
            call()


def test_a_folder_of_a_writer_that_was_killed_is_no_model(tmp_path: Path) -> None:
    registry = Registry(FileStore(tmp_path))
    (tmp_path / "models" / "digits" / "tickets").mkdir(parents=True)

    with pytest.raises(NotFoundError, match="there is no such model") as caught:
        registry.get("digits")
    assert caught.value.hint is None
    assert check_registry(registry.store).models == 0


def test_a_page_goes_on_where_the_last_one_ended(registry: Registry, folder: Path) -> None:
    for _ in range(5):
        registry.register_folder("digits", folder)

    assert [version.version for version in registry.list_versions("digits", before=3)] == [2, 1]
    assert list(registry.list_versions("digits", before=1)) == []


CORRUPT: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda data: b"",
    "torn": lambda data: data[: len(data) // 2],
    "not json": lambda data: b"\xff\xfe\x00",
    "another type": lambda data: b"[1, 2]",
    "deep": lambda data: b"[" * 100_000,
    "another version": lambda data: data.replace(b'"version":2', b'"version":7'),
    "newer schema": lambda data: data.replace(b'"schema":1', b'"schema":99'),
    "escape": lambda data: data.replace(b'"notes.txt"', b'"../notes.txt"'),
    "no files": lambda data: msgspec.json.encode(msgspec.json.decode(data) | {"files": []}),
}


@pytest.mark.parametrize("how", CORRUPT)
def test_a_corrupt_record_is_named_and_passed_over(store: Store, folder: Path, how: str) -> None:
    warnings: list[str] = []
    registry = Registry(store, warnings.append)
    for _ in range(3):
        registry.register_folder("digits", folder)
    key = keys.model_version("digits", 2)
    store.put(key, CORRUPT[how](store.read(key)), overwrite=True)

    assert [version.version for version in registry.list_versions("digits")] == [3, 1]
    assert [key in warning for warning in warnings] == [True]
    with pytest.raises(CorruptRecordError, match=key):
        registry.get("digits", 2)
    assert [event.version for event in registry.history("digits")] == [1, 3]
    registry.delete("digits", 2)
    registry.delete("digits", 3)
    assert registry.get("digits").version == 1


@given(
    name=st.from_regex(r"[a-zA-Z0-9]([a-zA-Z0-9._-]{0,61}[a-zA-Z0-9_-])?", fullmatch=True),
    version=st.integers(1, 99_999_999),
)
def test_references_are_read_as_they_are_written(name: str, version: int) -> None:
    assert parse_reference(name) == Reference(name)
    assert parse_reference(f"{name}:latest") == Reference(name)
    assert parse_reference(f"{name}:{version}") == Reference(name, version=version)
    assert parse_reference(f"{name}@champion") == Reference(name, alias="champion")


@given(text=st.text(max_size=20))
def test_any_other_reference_is_refused_in_words(text: str) -> None:
    try:
        reference = parse_reference(text)
    except UsageError:
        return

    assert text.startswith(reference.name)


def test_the_record_of_schema_1_is_still_read(registry: Registry, store: Store) -> None:
    """Written by the first release, never to be recorded again."""
    record = (
        b'{"schema":1,"name":"digits","version":1,"nonce":"n","created_at":"2026-11-23T11:20:55.000000Z",'
        b'"created_by":"anna@node1","files":[{"path":"a.h5","key":"runs/mnist-0001/outputs/a.h5","size_bytes":1,'
        b'"sha256":"2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881","etag":"e"}],'
        b'"tree_digest":"t","size_bytes":1,"run_id":"mnist-0001","source_path":"outputs","lineage":{"metrics":{}},'
        b'"tags":{"k":"v"},"properties":{}}'
    )
    store.append(keys.model_tickets("digits", 0), b"x" * 16)
    store.put(keys.model_version("digits", 1), record)

    version = registry.get("digits")
    assert isinstance(version, ModelVersion)
    assert (version.created_by, version.files[0].path, version.tags) == ("anna@node1", "a.h5", {"k": "v"})


def test_listing_reads_only_what_it_shows(registry: Registry, store: Store, folder: Path) -> None:
    for _ in range(20):
        registry.register_folder("digits", folder)
    reads: list[str] = []

    class Counting:
        def __getattr__(self, name: str) -> Any:
            def call(*arguments: Any, **options: Any) -> Any:
                reads.append(name)
                return getattr(store, name)(*arguments, **options)

            return call

    counting: Any = Counting()
    versions: Iterator[ModelVersion] = Registry(counting).list_versions("digits")
    assert [next(versions).version for _ in range(2)] == [20, 19]
    # Over a network some are read at once, before anybody asked for them.
    assert reads.count("read") == (2 if is_folder(store) else 2 * AT_ONCE)
    assert "list" not in reads


def test_a_page_of_models_passes_over_what_has_no_version(
    store: Store, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    warnings: list[str] = []
    registry = Registry(store, warn=warnings.append)
    for name in ("a", "a-1", "b", "c", "d", "d"):
        registry.register_folder(name, folder)
    registry.alias("a", "champion", 1)
    registry.alias("a", "old", 1)
    registry.alias("a", "old", None)
    registry.delete("b", 1)
    registry.delete("d", 2)
    store.delete(keys.model_version("c", 1))
    store.put(keys.model_version("c", 1), b"{")
    store.append(keys.model_tickets("e", 0), b"x" * 16)  # of a registration that was killed
    store.put(f"{keys.MODELS}stray", b"")
    there = [("a-1", 1, {}), ("a", 1, {"champion": 1}), ("d", 1, {})]
    for at_once in (250, 3):
        monkeypatch.setattr(listing, "_KEYS", at_once)
        found = [(one.version.name, one.version.version, one.aliases) for one in newest_of_models(registry)]
        assert found == there
        found = [(o.version.name, o.version.version, o.aliases) for o in newest_of_models(registry, after="a-1")]
        assert found == there[1:]
    assert len(warnings) == 4
    assert all(keys.model_version("c", 1) in warning for warning in warnings)
