"""Versions are found by what their records say, however far behind the index is, and an index is mended from them."""

import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tensoryard.errors import CorruptRecordError, NotFoundError, UsageError
from tensoryard.registry import FileRecord, ModelVersion, Registry
from tensoryard.registry.check import check_registry
from tensoryard.registry.reindex import Reindexed, reindex
from tensoryard.registry.search import search
from tensoryard.registry.where import parse_where
from tensoryard.store import Entry, Store, is_folder, keys

DIGEST = "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"
VERSION = ModelVersion(
    name="digits",
    version=3,
    nonce="n",
    created_at="2026-11-23T14:05:01.000001Z",
    created_by="ada@host",
    files=(FileRecord(path="x", key="objects/x", size_bytes=1, sha256=DIGEST),),
    tree_digest="ab" * 32,
    size_bytes=2_000_000,
    run_id="mnist-0007",
    lineage={
        "experiment": "mnist",
        "tensorflow": "2.19.1",
        "metrics": {"accuracy": 0.97, "val loss": 1, "note": "ok"},
    },
    tags={"stage": "ready to serve", "size": "big", "step": "12"},
    properties={"framework": "keras"},
)


def add(registry: Registry, name: str, run: str, accuracy: float, **tags: str) -> ModelVersion:
    entry = registry.store.stat("objects/x") or registry.store.put("objects/x", b"x")
    file = FileRecord(path="x", key="objects/x", size_bytes=1, sha256=DIGEST, etag=entry.etag)
    metrics = {"metrics": {"accuracy": accuracy}, "snapshot": f"{accuracy * 1000:064.0f}"}
    return registry.register(name, [file], run_id=run, lineage=metrics, tags=tags)


def found(registry: Registry, text: str, name: str | None = None) -> list[str]:
    return [f"{version.name}:{version.version}" for version in search(registry, parse_where(text), name)]


@pytest.mark.parametrize(
    "text",
    [
        "run=mnist-0007",
        "run = mnist-0007 AND accuracy>=0.97",
        "accuracy>=.97 and accuracy<1 and accuracy!=0.98 and accuracy=0.970",
        "'val loss'=1.0",
        'metrics.note=ok and tags.stage="ready to serve" and stage!=gone',
        "properties.framework=keras",
        "version>2 and version<=3 and size>=2000000 and tags.size=big",
        "step>9",
        "created>=2026-11 and created<=2026-11-23 and created=2026-11-23 and created<2026-12",
        "created='2026-11-23 14:05'",
        f"tree=sha256:{'AB' * 32}",
        "by=ada@host and tensorflow=2.19.1 and experiment!=other",
    ],
)
def test_conditions_that_a_version_fulfils(text: str) -> None:
    from tensoryard.registry.where import holds

    assert [clause for clause in parse_where(text) if not holds(clause, VERSION)] == []


@pytest.mark.parametrize(
    "text",
    [
        "run=mnist-0008",
        "run!=mnist-0007",
        "accuracy>0.97",
        "created>2026-11-23",
        "created<2026-11-23T14:05",
        "nothing=1",
        "nothing!=1",
        "note>1",
        "tags.accuracy=0.97",
        "metrics.stage='ready to serve'",
        "code=ab",
    ],
)
def test_conditions_that_it_does_not(text: str) -> None:
    from tensoryard.registry.where import holds

    (clause,) = parse_where(text)
    assert not holds(clause, VERSION)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "a name"),
        ("run", "one of = != < <= > >="),
        ("run=", "a value, the text ends"),
        ("run=a or x=1", "`and`, got 'or x=1'"),
        ("run=a and", "`and`"),
        ("run=a and ", "`and`"),
        ("run=a andx=1", "`and`"),
        ("run>3", "no order"),
        ("accuracy>high", "number"),
        ("version=three", "whole number"),
        ("created>yesterday", "2026-11-23"),
        ("x='it", "a value"),
        ("x==1", "a value"),
        ("a=1 " * 600, "2000"),
    ],
)
def test_a_mistake_is_said_in_one_paragraph(text: str, said: str) -> None:
    with pytest.raises(UsageError, match="where: ") as caught:
        parse_where(text)

    assert said in caught.value.message
    assert "\n" not in caught.value.message


@settings(max_examples=300, deadline=None)
@given(
    st.one_of(
        st.text(max_size=40),
        st.lists(
            st.sampled_from(["run", "accuracy", "version", "created", "=", ">=", "!=", "<", "and", " ", "'", '"', "1",
                             "0.97", "²", "\ud800", "\n", "nan", "1e999", "٣", "a b", "mnist-0007"]),
            max_size=10,
        ).map("".join),
    )
)  # fmt: skip
def test_any_text_is_a_question_or_refused(text: str) -> None:
    from tensoryard.registry.where import holds

    try:
        clauses = parse_where(text)
    except UsageError as error:
        refused = error.message
        assert refused.encode().count(b"\n") == 0
        return
    assert clauses
    for clause in clauses:
        holds(clause, VERSION)


class Lagging:
    """A store whose index has not heard of anything yet; that of a folder always has."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def find_by_tags(self, tags: Mapping[str, str], prefix: str = "") -> Iterator[str]:
        return self._store.find_by_tags(tags, prefix) if is_folder(self._store) else iter(())


@pytest.mark.parametrize("lagging", [False, True])
def test_a_fresh_registration_is_found_at_once(store: Store, lagging: bool) -> None:
    behind: Any = Lagging(store) if lagging else store
    registry = Registry(behind)
    for number, accuracy in enumerate([0.9, 0.98, 0.99]):
        add(registry, "a", f"m-000{number}", accuracy)
        add(registry, "b", f"m-000{number}", accuracy)

    assert found(registry, "run=m-0001 and accuracy>=0.97") == ["a:2", "b:2"]
    assert found(registry, "run=m-0000 and accuracy>=0.97") == []
    assert found(registry, "run=m-0001", "b") == ["b:2"]
    assert found(registry, "run=m-0001 and model=a") == ["a:2"]
    assert found(registry, "version=3 and model=a") == ["a:3"]
    assert found(registry, f"code={980:064.0f}") == ["a:2", "b:2"]
    assert found(registry, "accuracy>=0.97", "a") == ["a:3", "a:2"]
    assert found(registry, "accuracy>=0.9") == ["a:3", "a:2", "a:1", "b:3", "b:2", "b:1"]
    assert [v.version for v in search(registry, parse_where("accuracy>=0.9"), "a", before=3)] == [2, 1]
    assert [v.version for v in search(registry, parse_where("run=m-0001"), "a", before=2)] == []
    registry.delete("a", 2)
    assert found(registry, "run=m-0001") == ["b:2"]


def test_the_index_narrows_what_is_read(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    registry = Registry(store)
    for number in range(20):
        add(registry, "digits", f"m-{number:04d}", 0.5)
    listed = store.list

    def an_old_one(prefix: str, *, start_after: str = "") -> Iterator[Entry]:
        for entry in listed(prefix, start_after=start_after):
            old = keys.parse_model_version(entry.key) not in (("digits", 19), ("digits", 20))
            yield entry._replace(modified_at=entry.modified_at - 10_000 * old)

    reads: list[str] = []
    read = store.read
    monkeypatch.setattr(store, "list", an_old_one)
    monkeypatch.setattr(store, "read", lambda key, *rest: (reads.append(key), read(key, *rest))[1])

    assert found(registry, "run=m-0004") == ["digits:5"]
    records = [key for key in reads if keys.parse_model_version(key)]
    fresh = () if is_folder(store) else (19, 20)
    assert sorted(records) == [keys.model_version("digits", number) for number in (5, *fresh)]


def test_a_wrong_clock_of_this_machine_hides_nothing_fresh(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    behind: Any = Lagging(store)
    registry = Registry(behind)
    add(registry, "digits", "m-0001", 0.9)
    now = time.time()

    for off in (-50_000, 50_000):
        monkeypatch.setattr("time.time", lambda off=off: now + off)
        assert found(registry, "run=m-0001") == ["digits:1"]


def test_a_name_that_nothing_has_is_answered_with_the_nearest(store: Store) -> None:
    registry = Registry(store)
    assert found(registry, "acuracy>=0.9") == []
    add(registry, "digits", "m-0001", 0.9, stage="a")

    with pytest.raises(UsageError, match="no version has 'acuracy'; what they have is `accuracy`") as caught:
        found(registry, "acuracy>=0.9")
    assert caught.value.hint == "did you mean `accuracy`?"
    assert found(registry, "metrics.acuracy>=0.9") == []
    with pytest.raises(NotFoundError, match="no such model"):
        found(registry, "run=m-0001", "digit")
    with pytest.raises(UsageError, match="model: got"):
        found(registry, "model=../x")


def test_a_record_that_cannot_be_read_is_passed_over_with_a_warning(store: Store) -> None:
    warnings: list[str] = []
    registry = Registry(store, warnings.append)
    add(registry, "digits", "m-0001", 0.9)
    add(registry, "digits", "m-0001", 0.9)
    store.put(keys.model_version("digits", 1), b"{", overwrite=True, tags={"run": "m-0001"})

    assert found(registry, "run=m-0001") == ["digits:2"]
    assert len(warnings) == 1


def test_reindex_writes_what_was_lost_or_changed_and_then_finds_all_of_it_right(store: Store) -> None:
    warnings: list[str] = []
    registry = Registry(store, warnings.append)
    for number in range(4):
        add(registry, "digits", f"m-{number:04d}", 0.9)
    add(registry, "letters", "m-0001", 0.9)
    registry.delete("digits", 4)
    store.set_tags(keys.model_version("digits", 1), {})
    store.set_tags(keys.model_version("digits", 2), {"run": "other"})
    store.put(keys.model_version("letters", 2), b"{")

    assert reindex(registry, "letters") == Reindexed(right=1, mended=0, unreadable=1)
    assert reindex(registry) == Reindexed(right=3, mended=2, unreadable=1)
    assert reindex(registry) == Reindexed(right=5, mended=0, unreadable=1)
    assert list(store.find_by_tags({"run": "m-0001"}, keys.MODELS)) == [
        keys.model_version("digits", 2),
        keys.model_version("letters", 1),
    ]
    assert len(warnings) == 3
    with pytest.raises(NotFoundError, match="no such model"):
        reindex(registry, "digit")


@pytest.mark.parametrize("store", ["file"], indirect=True)
def test_what_a_folders_index_lost_is_told_of_and_mended(store: Store, tmp_path: Path) -> None:
    """On blob storage the tags themselves are the index."""
    registry = Registry(store)
    for number in range(3):
        add(registry, "digits", f"m-{number:04d}", 0.9)
    (log,) = (tmp_path / "store/.tags-log/models/digits").rglob("*log")
    log.write_bytes(b"".join(log.read_bytes().splitlines(keepends=True)[:-1]))

    assert found(registry, "run=m-0002") == []
    kinds = [(one.kind, one.version) for one in check_registry(store).findings]
    assert kinds == [("index", 3)]
    assert reindex(registry) == Reindexed(right=2, mended=1, unreadable=0)
    assert found(registry, "run=m-0002") == ["digits:3"]


@pytest.mark.parametrize(
    "path", ["CON", "a/nul.txt", "a./b", "b ", "a:b", "what?", "x" * 300, "a\\b", "../a", "/a", "a//b"]
)
def test_names_that_some_disk_or_store_refuses_are_refused_at_register_and_in_others_records(
    store: Store, path: str
) -> None:
    import msgspec

    registry = Registry(store)
    entry = store.put("objects/x", b"x")
    file = FileRecord(path=path, key="objects/x", size_bytes=1, sha256=DIGEST, etag=entry.etag)

    with pytest.raises(UsageError, match="file of a model: got ") as caught:
        registry.register("digits", [file])
    assert "\n" not in caught.value.message
    store.append(keys.model_tickets("digits", 0), b"x" * 48)
    store.put(keys.model_version("digits", 3), msgspec.json.encode(msgspec.structs.replace(VERSION, files=(file,))))
    with pytest.raises(CorruptRecordError, match="file of a model: got ") as refused:
        registry.resolve("digits:3")
    assert "\n" not in refused.value.message


@pytest.mark.parametrize("paths", [("a/b", "A"), ("é", "e\u0301"), ("x", "x")])
def test_paths_that_are_one_file_on_some_disks_are_refused(store: Store, paths: tuple[str, str]) -> None:
    entry = store.put("objects/x", b"x")

    with pytest.raises(UsageError, match="files of a model: "):
        Registry(store).register(
            "digits",
            [FileRecord(path=path, key="objects/x", size_bytes=1, sha256=DIGEST, etag=entry.etag) for path in paths],
        )
