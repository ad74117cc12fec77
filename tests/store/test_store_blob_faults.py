"""Blob storage behind a network that fails: nothing is lost and nothing is there twice, and waits are bounded."""

import os
import random
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from azure.storage.blob import BlobServiceClient

from blob_operations import BIG, OPERATIONS, QUICK
from launching import same
from services.faulty import FAULTS, Faulty
from tensoryard.errors import AlreadyExistsError, StoreError
from tensoryard.store import blob_errors, blob_upload
from tensoryard.store.blob import BlobStore
from tensoryard.store.blob_account import BlobAccount, Patience

# Only where no answer ever comes: on a busy machine it may be late all by itself.
SOON = QUICK._replace(answer_s=0.5)


@pytest.fixture
def steady(blob_account: BlobAccount) -> BlobStore:
    """The same store by a network without faults, to look with."""
    return BlobStore(blob_account)


@pytest.fixture
def shaky(blob_account: BlobAccount, network: Faulty) -> BlobStore:
    return BlobStore(replace(blob_account, endpoint=network.endpoint), QUICK)


class Holdings:
    """
    All that a store holds in the container of the operations below, of the large value its ETag.

    Looked at hundreds of times, so a value that is still there under its ETag is not read again.
    """

    def __init__(self, store: BlobStore, service: BlobServiceClient) -> None:
        self._store = store
        self._container = service.get_container_client(store.account.containers.runs)
        self._read: dict[tuple[str, str], bytes] = {}

    def state(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for blob in self._container.list_blobs(include=["tags"]):
            known = (blob.name, blob.etag)
            if blob.name != "m/big" and known not in self._read:
                self._read[known] = self._store.read(blob.name)
            found[blob.name] = self._read.get(known, blob.etag), blob.tags
        return found


PREPARED: dict[str, Callable[[BlobStore], object]] = {
    "m/big": lambda store: store.put("m/big", BIG),
    "m/old": lambda store: store.put("m/old", b"old", tags={"a": "1"}),
    "m/log": lambda store: store.append("m/log", b"one\n"),
}


def _prepare(store: BlobStore, keys: Iterable[str] = PREPARED) -> None:
    """Let these keys be as the operations are to find them."""
    for key in keys:
        store.delete(key)
        if key in PREPARED:
            PREPARED[key](store)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The file that the operations put into the store."""
    (tmp_path / "file").write_bytes(BIG[:300_000])
    return tmp_path / "file"


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("name", OPERATIONS)
def test_one_fault_at_any_request_of_an_operation_changes_nothing(
    name: str,
    fault: str,
    steady: BlobStore,
    network: Faulty,
    blob_account: BlobAccount,
    blob_service: BlobServiceClient,
    path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(blob_upload, "WHOLE_BYTES", 0)
    monkeypatch.setattr(blob_upload, "BLOCK_BYTES", 100_000)
    operation = OPERATIONS[name]
    _prepare(steady)
    holdings = Holdings(steady, blob_service)
    before = holdings.state()
    wanted = operation(steady, path)
    state = holdings.state()
    changed = [key for key in {**before, **state} if before.get(key) != state.get(key)]
    patience = SOON if fault == "answer late" else QUICK
    faults = 0
    while True:
        _prepare(steady, changed)
        network.again(lambda asked, at=faults: fault if asked.number == at else None)  # type: ignore[misc]
        # A store of its own: one that remembers lengths spares requests.
        tried = operation(BlobStore(replace(blob_account, endpoint=network.endpoint), patience), path)
        assert same(tried, wanted)
        assert holdings.state() == state
        if len(network.seen) <= faults:  # the operation is done before this request
            break
        faults += 1
    assert faults >= 1


@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault != "answer late"])
@pytest.mark.parametrize("size_bytes", [1000, 2_000_000])
def test_one_fault_of_a_file_that_goes_by_one_request_changes_nothing(
    fault: str, size_bytes: int, steady: BlobStore, shaky: BlobStore, network: Faulty, tmp_path: Path
) -> None:
    path = tmp_path / "file"
    path.write_bytes(os.urandom(size_bytes))
    network.again(lambda asked: fault if asked.number == 0 else None)

    assert shaky.put_file("m/file", path).size_bytes == size_bytes
    assert same(steady.read("m/file"), path.read_bytes())
    with pytest.raises(AlreadyExistsError):
        shaky.put_file("m/file", path)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_place_whose_answer_got_lost_is_nobodys_and_the_next_is_claimed(
    fault: str, steady: BlobStore, network: Faulty, blob_account: BlobAccount
) -> None:
    steady.append("log", b"one\n")
    network.again(lambda asked: fault if asked.number == 0 else None)
    patience = SOON if fault == "answer late" else QUICK

    place = BlobStore(replace(blob_account, endpoint=network.endpoint), patience).claim("log", b"two\n", 100)

    assert {4: b"one\ntwo\n", 8: b"one\ntwo\ntwo\n"}[place or 0] == steady.read("log")
    assert [asked.method for asked in network.seen] == ["PUT", "PUT"]


@pytest.mark.parametrize("fault", ["request lost", "answer torn", "503"])
@pytest.mark.parametrize("name", OPERATIONS)
def test_a_network_that_stays_broken_is_one_plain_error_after_a_few_tries(
    name: str, fault: str, steady: BlobStore, shaky: BlobStore, network: Faulty, path: Path
) -> None:
    _prepare(steady)
    network.again(lambda asked: fault)

    with pytest.raises(StoreError, match=r"failed: the storage account .* (answered|did not answer)") as caught:
        OPERATIONS[name](shaky, path)

    assert len(network.seen) <= QUICK.attempts + 2
    assert "\n" not in caught.value.message


def test_a_large_body_has_the_time_that_a_slow_line_takes_for_it(
    steady: BlobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What requests takes for the time to connect ends the sending of a body too, however much of it there is."""
    import requests

    given: dict[int, float] = {}
    request = requests.Session.request

    def noted(self: requests.Session, *what: Any, **how: Any) -> requests.Response:
        given[len(how["data"] or b"")] = how["timeout"][0]
        return request(self, *what, **how)

    monkeypatch.setattr(requests.Session, "request", noted)
    steady.put("m/small", b"x")
    steady.put("m/large", BIG * 8)

    assert given[1] < 11
    assert given[len(BIG) * 8] > 200


def test_waits_grow_and_are_never_alike_and_heed_the_service(
    shaky: BlobStore, network: Faulty, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    monkeypatch.setattr(blob_errors.time, "sleep", waits.append)
    network.again(lambda asked: "503")

    with pytest.raises(StoreError, match="503 ServerBusy"):
        shaky.stat("a")

    assert len(waits) == QUICK.attempts - 1
    assert len(set(waits[:3])) == 3
    assert waits[0] < 0.02 < waits[3] <= QUICK.longest_wait_s


def test_retry_after_is_waited_for_but_not_for_ever() -> None:
    from azure.core.exceptions import HttpResponseError

    def waited(asked: str) -> float:
        response = SimpleNamespace(status_code=503, reason="busy", headers={"Retry-After": asked})
        return blob_errors.wait_s(HttpResponseError(response=response), 1, Patience())

    assert 4 <= waited("4") <= 5
    assert waited("3600") == Patience().longest_wait_s


@pytest.mark.parametrize("seed", range(3))
def test_writers_on_a_shaky_network_lose_and_double_nothing(
    seed: int, steady: BlobStore, network: Faulty, blob_account: BlobAccount
) -> None:
    """Eight writers append to one key and race for numbered ones, while a fifth of the requests meet a fault."""
    chance = random.Random(seed)
    kinds = [fault for fault in FAULTS if fault != "answer late"]
    network.again(lambda asked: chance.choice(kinds) if chance.random() < 0.2 else None)
    patience = Patience(attempts=12, first_wait_s=0.01, longest_wait_s=0.05, answer_s=20)
    placed: list[tuple[int, bytes]] = []
    won: list[tuple[str, int]] = []
    lock = threading.Lock()

    def write(writer: int) -> None:
        store = BlobStore(replace(blob_account, endpoint=network.endpoint), patience)
        for count in range(8):
            data = f"{writer}-{count} ".encode() * (writer + 1) + b"\n"
            offset = store.append("log", data)
            with lock:
                placed.append((offset, data))
            try:
                store.put(f"m/{count}", str(writer).encode())
            except AlreadyExistsError:
                continue
            with lock:
                won.append((f"m/{count}", writer))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(8)))

    assert len(placed) == 64
    assert steady.read("log") == b"".join(data for _, data in sorted(placed))
    assert all(steady.read("log", offset, len(data)) == data for offset, data in placed)
    assert sorted(won) == [(entry.key, int(steady.read(entry.key))) for entry in steady.list("m/")]
    assert len(won) == 8


def test_every_answer_of_an_append_lost_adds_its_bytes_once(
    steady: BlobStore, shaky: BlobStore, network: Faulty
) -> None:
    network.again(lambda asked: "answer lost" if "comp=appendblock" in asked.path else None)

    assert [shaky.append("log", b"%d\n" % number) for number in range(5)] == [0, 2, 4, 6, 8]
    assert steady.read("log") == b"0\n1\n2\n3\n4\n"


def test_the_second_writer_of_a_key_is_told_so_even_when_its_first_try_got_no_answer(
    steady: BlobStore, shaky: BlobStore, network: Faulty
) -> None:
    steady.put("a", b"other's")
    network.again(lambda asked: "answer lost" if asked.number == 0 else None)

    with pytest.raises(AlreadyExistsError, match="`a`"):
        shaky.put("a", b"mine")
    assert steady.read("a") == b"other's"


def test_an_append_to_a_blob_that_another_deletes_makes_it_anew(steady: BlobStore, blob_account: BlobAccount) -> None:
    steady.append("log", b"one\n")
    BlobStore(blob_account).delete("log")

    assert steady.append("log", b"two\n") == 0


def test_a_service_that_is_not_there_is_said_within_few_tries(blob_account: BlobAccount) -> None:
    nobody = replace(blob_account, endpoint="http://127.0.0.1:9/devstoreaccount1")

    with pytest.raises(StoreError, match="did not answer") as caught:
        BlobStore(nobody, QUICK).stat("a")
    assert caught.value.hint is not None
    assert "resolve from here" in caught.value.hint
