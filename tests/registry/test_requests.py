"""How many requests the registry makes on blob storage: each is a way to Azure and back."""

from dataclasses import replace

import msgspec
import pytest

from services.faulty import Faulty
from tensoryard.registry import FileRecord, ModelVersion, Registry, listing
from tensoryard.registry.listing import newest_of_models
from tensoryard.store import Store, keys
from tensoryard.store.blob import BlobStore
from tensoryard.store.blob_account import BlobAccount

DIGEST = "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"


@pytest.fixture
def near(blob_account: BlobAccount) -> BlobStore:
    """The same store by another way, which is not counted."""
    return BlobStore(blob_account)


@pytest.fixture
def registry(blob_account: BlobAccount, network: Faulty) -> Registry:
    return Registry(BlobStore(replace(blob_account, endpoint=network.endpoint)))


def outputs(store: Store, count: int) -> list[FileRecord]:
    entries = [store.put(keys.run("mnist-0007", f"outputs/model/{number}"), b"x") for number in range(count)]
    return [
        FileRecord(path=str(number), key=entry.key, size_bytes=1, sha256=DIGEST, etag=entry.etag)
        for number, entry in enumerate(entries)
    ]


def fill(store: Store, name: str, count: int) -> None:
    """A model with a record for each of its last few numbers, as if all of them were there."""
    file, rest = divmod(count, 40_000)
    for number in range(file):
        store.put(keys.model_tickets(name, number), b"x" * (40_000 * 16))
    store.put(keys.model_tickets(name, file), b"x" * (rest * 16))
    for number in range(max(1, count - 2), count + 1):
        version = ModelVersion(
            name=name,
            version=number,
            nonce=str(number),
            created_at="2026-11-23T14:05:01.000001Z",
            created_by="ada@host",
            files=(FileRecord(path="x", key="objects/x", size_bytes=1, sha256=DIGEST),),
            tree_digest="ab" * 32,
            size_bytes=1,
        )
        store.put(keys.model_version(name, number), msgspec.json.encode(version))


@pytest.mark.parametrize("files", [1, 30])
def test_a_registration_with_known_digests_takes_three_requests(
    registry: Registry, near: BlobStore, network: Faulty, files: int
) -> None:
    """One to see that the files are still those, one for the number, one for the record with its index."""
    records = outputs(near, files)
    registry.register("digits", records)
    # The first of a model: that it has no tickets, a name that is alike before and after they are made, their file.
    assert len(network.seen) == 3 + 4
    fresh = Registry(BlobStore(registry.store.account))  # type: ignore[attr-defined]

    for one, number in ((registry, 2), (fresh, 3), (fresh, 4)):
        network.again(lambda asked: None)
        assert one.register("digits", records).version == number
        assert [asked.method for asked in network.seen[1:]] == ["PUT", "PUT"]


def test_a_fresh_process_takes_one_request_more_for_each_40_000_versions(
    registry: Registry, near: BlobStore, network: Faulty
) -> None:
    records = outputs(near, 1)
    near.append(keys.model_tickets("digits", 0), b"x" * (40_000 * 16))
    near.append(keys.model_tickets("digits", 1), b"x" * 16)

    for number, requests in ((40_002, 3 + 1), (40_003, 3)):
        network.again(lambda asked: None)
        assert registry.register("digits", records).version == number
        assert len(network.seen) == requests
    assert near.stat(keys.model_tickets("digits", 0)).size_bytes == 40_000 * 16  # type: ignore[union-attr]


def test_the_newest_of_many_versions_takes_as_many_requests_as_that_of_few(
    registry: Registry, near: BlobStore, network: Faulty
) -> None:
    """A fourth where there is more than one file of tickets, which is one for 40,000 of them."""
    asked = {}
    for count in (1_000, 10_000, 100_000):
        fill(near, f"m{count}", count)
        network.again(lambda asked: None)
        assert registry.get(f"m{count}").version == count
        asked[count] = len(network.seen)
    assert asked == {1_000: 3, 10_000: 3, 100_000: 4}


def test_a_page_of_models_is_one_listing_and_a_record_for_each_model(
    registry: Registry, near: BlobStore, network: Faulty
) -> None:
    for number in range(80):
        fill(near, f"m{number:02d}", 1)
    list(newest_of_models(registry, after="m78"))
    network.again(lambda asked: None)

    page = newest_of_models(registry, after="m02")
    assert [next(page).version.name for _ in range(3)] == ["m03", "m04", "m05"]
    listed, *read = [asked.path.partition("/models")[2] for asked in network.seen]
    assert "comp=list" in listed
    assert {path.partition("/")[2].partition("?")[0] for path in read} == {
        keys.model_version(f"m{number:02d}", 1) for number in range(3, 55)
    }


def test_models_with_very_many_keys_are_listed_by_their_names(
    registry: Registry, near: BlobStore, network: Faulty, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "_KEYS", 10)
    for name in ("a", "a-1", "a.b", "b", "c"):
        fill(near, name, 3)
    near_registry = Registry(near)
    near_registry.alias("a", "champion", 2)
    near_registry.delete("b", 3)
    network.again(lambda asked: None)

    found = [(one.version.name, one.version.version, one.aliases) for one in newest_of_models(registry)]

    assert found == [("a-1", 3, {}), ("a.b", 3, {}), ("a", 3, {"champion": 2}), ("b", 2, {}), ("c", 3, {})]
    assert sum("comp=list" in asked.path and "delimiter=" not in asked.path for asked in network.seen) <= 8
