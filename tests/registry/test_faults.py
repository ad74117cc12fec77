"""
The registry on a network that fails: at any request a fault, and all is as without it; a network that stays broken,
and one error says what was done and what was not.
"""

import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from finished_runs import FILES, finished_run, write_keys
from services.faulty import FAULTS, Faulty
from tensoryard.downloads import download_path
from tensoryard.errors import NotFoundError, StoreError
from tensoryard.registry import Registry
from tensoryard.registry.check import check_registry
from tensoryard.registry.gc import collect
from tensoryard.registry.records import index_tags
from tensoryard.registry.reindex import reindex
from tensoryard.registry.search import search
from tensoryard.registry.signing import sign_version, signature_problems
from tensoryard.registry.where import parse_where
from tensoryard.store import blob_upload, keys, transfer
from tensoryard.store.blob import BlobStore
from tensoryard.store.blob_account import BlobAccount, Patience
from tensoryard.store.file import FileStore
from tensoryard.store.file_tags import Tags
from tensoryard.uploads import upload_files

QUICK = Patience(attempts=3, first_wait_s=0.005, longest_wait_s=0.02)
RUN = "mnist-0007"
DATA = {"a": b"1", "sub/b": b"", "sub/large": bytes(250_000)}


@pytest.fixture
def steady(blob_account: BlobAccount) -> Registry:
    """The same models by a network without faults, to prepare and to look with."""
    store = BlobStore(blob_account)
    finished_run(store, RUN)
    return Registry(store)


class Work(NamedTuple):
    """
    Something to do once. before: whether two versions are there then; done: looks whether it was done exactly once;
    undone: whether not at all.
    """

    do: Callable[[Registry, str, Path], Any]
    done: Callable[[Registry, str, Path], bool]
    undone: Callable[[Registry, str, Path], bool]
    before: Callable[[Registry, str], object]


def _versions(registry: Registry, name: str) -> list[int]:
    try:
        return [version.version for version in registry.list_versions(name)]
    except NotFoundError:
        return []


def _events(registry: Registry, name: str) -> list[str]:
    return [event.kind for event in registry.history(name) if event.kind != "registered"]


def _register(registry: Registry, name: str, **how: Any) -> Any:
    return registry.register_run_files(name, RUN, "outputs/model", **how)


def _two(registry: Registry, name: str) -> None:
    for _ in range(2):
        _register(registry, name)


def _two_aliased(registry: Registry, name: str) -> None:
    _two(registry, name)
    registry.alias(name, "champion", 1)


def _two_deleted(registry: Registry, name: str) -> None:
    _two(registry, name)
    registry.delete(name, 2)


def _one_to_clean_up(registry: Registry, name: str) -> None:
    """Nothing else is there, as a clean-up looks at all of it."""
    for entry in [*registry.store.list("models/"), *registry.store.list("objects/")]:
        registry.store.delete(entry.key)
    _two_deleted(registry, name)
    registry.store.put(keys.content("0" * 64), b"spare")


def _two_out_of_the_index(registry: Registry, name: str) -> None:
    _two(registry, name)
    for number in (1, 2):
        registry.store.set_tags(keys.model_version(name, number), {"model": "another"})


def _indexed(registry: Registry, name: str) -> list[bool]:
    versions = registry.list_versions(name)
    return [registry.store.tags(keys.model_version(name, one.version)) == index_tags(one) for one in versions]


def _signed(registry: Registry, name: str, folder: Path) -> bool:
    try:
        return signature_problems(registry.store, registry.get(name), folder / "public.pem") == []
    except NotFoundError:
        return False


def _upload(registry: Registry, name: str, folder: Path, *only: str) -> None:
    files = {path: folder / "data" / path for path in only or DATA}
    upload_files(registry.store, files, name, overwrite=False, show_progress=False)


def _uploaded(registry: Registry, name: str, folder: Path) -> dict[str, bytes]:
    start = keys.data_below(name)
    return {entry.key.removeprefix(start): registry.store.read(entry.key) for entry in registry.store.list(start)}


def _fetch(registry: Registry, name: str, folder: Path) -> None:
    how = {"whole_paths": False, "overwrite": False, "show_progress": False}
    download_path(registry.store, name, folder / name, **how)


def _data_only(registry: Registry, name: str) -> None:
    for path, data in DATA.items():
        registry.store.put(keys.data(f"{name}/{path}"), data)


def _error_of(work: Callable[[], object]) -> StoreError | None:
    try:
        work()
    except StoreError as error:
        return error
    return None


def _got(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


WORKS: dict[str, Work] = {
    "register": Work(
        lambda registry, name, folder: _register(registry, name),
        lambda registry, name, folder: len(_versions(registry, name)) == 1,
        lambda registry, name, folder: not _versions(registry, name),
        lambda registry, name: None,
    ),
    "register a copy with a nonce": Work(
        lambda registry, name, folder: _register(registry, name, copy=True, nonce="once"),
        lambda registry, name, folder: len(_versions(registry, name)) == 1,
        lambda registry, name, folder: not _versions(registry, name),
        lambda registry, name: [registry.store.delete(entry.key) for entry in registry.store.list("objects/")],
    ),
    "alias": Work(
        lambda registry, name, folder: registry.alias(name, "champion", 2),
        lambda registry, name, folder: (
            registry.aliases(name) == {"champion": 2} and _events(registry, name) == ["aliased"] * 2
        ),
        lambda registry, name, folder: registry.aliases(name) == {"champion": 1},
        _two_aliased,
    ),
    "delete": Work(
        lambda registry, name, folder: registry.delete(name, 2),
        lambda registry, name, folder: _versions(registry, name) == [1] and _events(registry, name) == ["deleted"],
        lambda registry, name, folder: _versions(registry, name) == [2, 1],
        _two,
    ),
    "restore": Work(
        lambda registry, name, folder: registry.restore(name, 2),
        lambda registry, name, folder: (
            _versions(registry, name) == [2, 1] and _events(registry, name) == ["deleted", "restored"]
        ),
        lambda registry, name, folder: _versions(registry, name) == [1],
        _two_deleted,
    ),
    "download": Work(
        lambda registry, name, folder: registry.download(name, folder / name),
        lambda registry, name, folder: _got(folder / name) == FILES,
        lambda registry, name, folder: _got(folder / name).items() <= FILES.items(),
        _two,
    ),
    "gc": Work(
        lambda registry, name, folder: collect(registry.store, apply=True, deleted_before_days=0, untouched_s=0),
        lambda registry, name, folder: (
            _events(registry, name) == ["deleted", "purged"] and not [*registry.store.list("objects/")]
        ),
        lambda registry, name, folder: (
            _events(registry, name) == ["deleted"] and bool([*registry.store.list("objects/")])
        ),
        _one_to_clean_up,
    ),
    "reindex": Work(
        lambda registry, name, folder: reindex(registry, name),
        lambda registry, name, folder: _indexed(registry, name) == [True, True],
        lambda registry, name, folder: _indexed(registry, name) == [False, False],
        _two_out_of_the_index,
    ),
    "sign": Work(
        lambda registry, name, folder: sign_version(registry.store, registry.get(name), folder / "private.pem"),
        lambda registry, name, folder: (
            _signed(registry, name, folder) and len([*registry.store.list(f"models/{name}/signatures/")]) == 1
        ),
        lambda registry, name, folder: not _signed(registry, name, folder),
        _two,
    ),
    "upload data": Work(
        lambda registry, name, folder: _upload(registry, name, folder),
        lambda registry, name, folder: _uploaded(registry, name, folder) == DATA,
        lambda registry, name, folder: not _uploaded(registry, name, folder),
        lambda registry, name: None,
    ),
    "upload a file": Work(
        lambda registry, name, folder: _upload(registry, name, folder, "a"),
        lambda registry, name, folder: _uploaded(registry, name, folder) == {"a": DATA["a"]},
        lambda registry, name, folder: not _uploaded(registry, name, folder),
        lambda registry, name: None,
    ),
    "download data": Work(
        _fetch,
        lambda registry, name, folder: _got(folder / name) == DATA,
        lambda registry, name, folder: _got(folder / name).items() < DATA.items(),
        _data_only,
    ),
}
# Who breaks off tells how far it came.
TELL_HOW_FAR = {"download", "gc", "reindex", "upload data", "download data"}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys, and data of which the largest file goes by blocks and comes by several requests."""
    for name, data in DATA.items():
        path = tmp_path / "data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    write_keys(tmp_path)
    monkeypatch.setattr(blob_upload, "WHOLE_BYTES", 100_000)
    monkeypatch.setattr(blob_upload, "BLOCK_BYTES", 100_000)
    monkeypatch.setattr(transfer, "CHUNK_BYTES", 100_000)
    monkeypatch.setattr(transfer, "SMALL_BYTES", 100_000)


@pytest.mark.parametrize("kind", WORKS)
def test_a_lost_answer_at_any_request_changes_nothing(
    kind: str, steady: Registry, network: Faulty, blob_account: BlobAccount, tmp_path: Path
) -> None:
    """Under the store's single operations every other fault is tried in test_store_blob_faults.py."""
    work = WORKS[kind]
    at = 0
    while True:
        name = f"digits{at}"
        work.before(steady, name)
        network.again(lambda asked, at=at: "answer lost" if asked.number == at else None)  # type: ignore[misc]
        work.do(Registry(BlobStore(replace(blob_account, endpoint=network.endpoint), QUICK)), name, tmp_path)
        assert work.done(steady, name, tmp_path)
        if len(network.seen) <= at:  # it was done before this request
            break
        at += 1
    assert at > 2
    assert check_registry(steady.store).findings == []


# What is said, and whether it is so then: done, not done, or either. The first that is said counts.
SAID = {
    "was deleted, but whether": {"done"},
    "was changed, but whether": {"done"},
    "nothing was registered": {"undone"},
    "was not changed": {"undone"},
    "was not deleted": {"undone"},
    "was not restored": {"undone"},
    "is not known": {"done", "undone"},
    "files are in": {"done", "undone"},
    "nothing was purged or removed": {"undone"},
    "nothing was looked at": {"undone"},
    "was not signed": {"undone"},
    "not finished": {"done", "undone", "partly"},
    "files were uploaded": {"done", "undone", "partly"},
    "files were downloaded": {"undone"},
    "reading failed": {"undone"},
    "listing failed": {"undone"},
}


@pytest.mark.parametrize(
    ("kind", "fault"), [*((kind, "answer lost") for kind in WORKS), ("register", "request lost"), ("alias", "503")]
)
def test_a_network_that_breaks_for_good_is_one_error_that_says_what_was_done(
    kind: str, fault: str, steady: Registry, network: Faulty, blob_account: BlobAccount, tmp_path: Path
) -> None:
    work = WORKS[kind]
    unknown = at = 0
    while True:
        name = f"digits{at}"
        work.before(steady, name)
        network.again(lambda asked, at=at: fault if asked.number >= at else None)  # type: ignore[misc]
        error = _error_of(
            lambda name=name: work.do(  # type: ignore[misc]
                Registry(BlobStore(replace(blob_account, endpoint=network.endpoint), QUICK)), name, tmp_path
            )
        )
        if error is None:
            break
        assert len(network.seen) <= at + 8 * QUICK.attempts
        assert "\n" not in error.message
        said = next(so for words, so in SAID.items() if words in error.message)
        is_so = {"done"} if work.done(steady, name, tmp_path) else set()
        is_so |= {"undone"} if work.undone(steady, name, tmp_path) else set()
        assert (is_so or {"partly"}) & said, (error.message, is_so)
        unknown += "is not known" in error.message
        left = {"index"} if kind == "reindex" else set()
        wrong = [one for one in check_registry(steady.store, name).findings if one.kind not in left]
        assert wrong == []
        work.do(steady, name, tmp_path)
        if kind != "register":  # which nobody told that it is the same one
            assert work.done(steady, name, tmp_path)
        at += 1
    assert at > 2
    assert unknown > 0 or kind in TELL_HOW_FAR or fault == "503"


def test_who_registers_again_without_a_nonce_is_told_where_to_look(
    steady: Registry, network: Faulty, blob_account: BlobAccount
) -> None:
    registry = Registry(BlobStore(replace(blob_account, endpoint=network.endpoint), QUICK))
    network.again(lambda asked: "answer lost" if "/versions/" in asked.path and asked.method == "PUT" else None)

    with pytest.raises(StoreError, match="model `digits`: whether a version was registered is not known: ") as caught:
        _register(registry, "digits")
    assert "`tyard models list digits` tells" in (caught.value.hint or "")
    assert _versions(steady, "digits") == [1]
    with pytest.raises(StoreError) as caught:
        _register(registry, "digits", nonce="once")
    assert "the same again with this nonce never makes a second one" in (caught.value.hint or "")
    assert _register(steady, "digits", nonce="once").version == 2
    assert _versions(steady, "digits") == [2, 1]


def test_a_disk_that_is_full_before_the_tags_is_told_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = Registry(FileStore(tmp_path / "store"))
    finished_run(registry.store, RUN)

    def full(tags: Tags, key: str, wanted: dict[str, str]) -> None:
        raise StoreError("`.tags`: No space left on device when writing tags")

    monkeypatch.setattr(Tags, "put", full)
    with pytest.raises(StoreError, match=r"whether a version was registered is not known: .*No space left"):
        _register(registry, "digits", nonce="once")
    assert _versions(registry, "digits") == [1]
    # What they were to be had been noted, so a search finds it all the same.
    assert [one.version for one in search(registry, parse_where(f"run={RUN}"))] == [1]
    monkeypatch.undo()
    assert _register(registry, "digits", nonce="once").version == 1
    assert check_registry(registry.store).findings == []


def test_many_at_once_on_a_shaky_network_lose_and_double_nothing(
    steady: Registry, network: Faulty, blob_account: BlobAccount
) -> None:
    chance = random.Random(1)
    kinds = [fault for fault in FAULTS if fault != "answer late"]
    network.again(lambda asked: chance.choice(kinds) if chance.random() < 0.15 else None)
    patience = Patience(attempts=12, first_wait_s=0.005, longest_wait_s=0.05, answer_s=20)

    def work(writer: int) -> list[int]:
        registry = Registry(BlobStore(replace(blob_account, endpoint=network.endpoint), patience))
        made = [_register(registry, "digits", nonce=f"{writer}-{count}").version for count in range(2)]
        made += [_register(registry, "digits", copy=True).version]
        registry.alias("digits", f"of-{writer}", made[0])
        registry.alias("digits", "champion", made[1])
        registry.delete("digits", made[2])
        return made

    with ThreadPoolExecutor(6) as pool:
        made = sorted(number for numbers in pool.map(work, range(6)) for number in numbers)

    assert len(set(made)) == 18
    kinds_told = [event.kind for event in steady.history("digits")]
    assert {kind: kinds_told.count(kind) for kind in set(kinds_told)} == {
        "registered": 18,
        "aliased": 12,
        "deleted": 6,
    }
    assert len(_versions(steady, "digits")) == 12
    assert check_registry(steady.store, read_files=True).findings == []
