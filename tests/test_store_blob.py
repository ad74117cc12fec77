"""What holds for blob storage alone: a network that fails, roles, kinds of accounts. The rest is in test_store.py."""

import os
import random
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from launching import same
from services.faulty import FAULTS, Asked, Faulty, Said
from tensoryard.errors import AlreadyExistsError, NotFoundError, StoreError, UsageError, VerificationError
from tensoryard.store import Entry, blob_errors, blob_list, blob_upload, transfer
from tensoryard.store.blob import BlobStore
from tensoryard.store.blob_account import BlobAccount, Patience

QUICK = Patience(attempts=6, first_wait_s=0.01, longest_wait_s=0.1)
# Only where no answer ever comes: on a busy machine it may be late all by itself.
SOON = QUICK._replace(answer_s=0.5)
BIG = os.urandom((1 << 20) + 7)


@pytest.fixture
def network(blob_account: BlobAccount, monkeypatch: pytest.MonkeyPatch) -> Iterator[Faulty]:
    from azure.storage.blob import _download

    # Between its own tries at a torn answer the SDK waits a second, whatever our patience.
    monkeypatch.setattr(_download, "time", SimpleNamespace(sleep=lambda seconds: None))
    proxy = Faulty(blob_account.endpoint)
    yield proxy
    proxy.close()


@pytest.fixture
def steady(blob_account: BlobAccount) -> BlobStore:
    """The same store by a network without faults, to look with."""
    return BlobStore(blob_account)


@pytest.fixture
def shaky(blob_account: BlobAccount, network: Faulty) -> BlobStore:
    return BlobStore(replace(blob_account, endpoint=network.endpoint), QUICK)


def _state(store: BlobStore) -> dict[str, Any]:
    """All that a store holds, of the large value its ETag; tags only of what the operations below tag."""
    found: dict[str, Any] = {
        entry.key: entry.etag if entry.key == "m/big" else store.read(entry.key) for entry in store.list("")
    }
    return {**found, **{f"{key} tags": store.tags(key) for key in found if key.startswith("m/")}}


def _prepared(store: BlobStore, folder: Path) -> Path:
    there = {entry.key for entry in store.list("")}
    for key in there - {"m/big"}:
        store.delete(key)
    if "m/big" not in there:
        store.put("m/big", BIG)
    store.put("m/old", b"old", tags={"a": "1"})
    store.append("m/log", b"one\n")
    path = folder / "file"
    path.write_bytes(BIG[:300_000])
    return path


OPERATIONS: dict[str, Callable[[BlobStore, Path], Any]] = {
    "put": lambda store, path: store.put("m/new", b"new", tags={"b": "2"})[:2],
    "put over": lambda store, path: store.put("m/old", b"newer", overwrite=True)[:2],
    "put file": lambda store, path: store.put_file("m/file", path)[:2],
    "put file over": lambda store, path: store.put_file("m/old", path, overwrite=True)[:2],
    "append": lambda store, path: store.append("m/log", b"two\n"),
    "append new": lambda store, path: store.append("m/fresh", b"first\n"),
    "append twice": lambda store, path: [store.append("m/log", data) for data in (b"two\n", b"three\n")],
    "append at": lambda store, path: store.append("m/log", b"two\n", at=4),
    "append at new": lambda store, path: store.append("m/fresh", b"two\n", at=0),
    "append nothing": lambda store, path: store.append("m/fresh", b""),
    "read": lambda store, path: store.read("m/old", 1),
    "read much": lambda store, path: store.read("m/big", 3, 1 << 20),
    "view": lambda store, path: bytes(store.view("m/big", 3, 1 << 20)),
    "stream": lambda store, path: b"".join(store.stream("m/big", 3, getattr(store.stat("m/big"), "etag", ""))),
    "read all": lambda store, path: store.read("m/big"),
    "stat": lambda store, path: store.stat("m/old") is not None,
    "list": lambda store, path: [entry[:2] for entry in store.list("m/")],
    "list part": lambda store, path: [entry[:2] for entry in store.list("m/o")],
    "list keys": lambda store, path: list(store.list_keys("m/", at_once=2)),
    "children": lambda store, path: list(store.children("m/")),
    "tags": lambda store, path: store.tags("m/old"),
    "set tags": lambda store, path: store.set_tags("m/old", {"c": "3"}),
    "find": lambda store, path: list(store.find_by_tags({"a": "1"}, "m/")),
    "delete": lambda store, path: store.delete("m/old"),
    "delete seen": lambda store, path: store.delete("m/old", etag=getattr(store.stat("m/old"), "etag", "")),
    "touch": lambda store, path: store.touch("m/old"),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("name", OPERATIONS)
def test_one_fault_at_any_request_of_an_operation_changes_nothing(
    name: str,
    fault: str,
    steady: BlobStore,
    network: Faulty,
    blob_account: BlobAccount,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(blob_upload, "WHOLE_BYTES", 0)
    monkeypatch.setattr(blob_upload, "BLOCK_BYTES", 100_000)
    operation = OPERATIONS[name]
    path = _prepared(steady, tmp_path)
    before = _state(steady)
    wanted = operation(steady, path)
    state = _state(steady)
    patience = SOON if fault == "answer late" else QUICK
    faults = 0
    while True:
        if state != before:
            _prepared(steady, tmp_path)
        network.again(lambda asked, at=faults: fault if asked.number == at else None)  # type: ignore[misc]
        # A store of its own: one that remembers lengths spares requests.
        tried = operation(BlobStore(replace(blob_account, endpoint=network.endpoint), patience), path)
        assert same(tried, wanted)
        assert _state(steady) == state
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


@pytest.mark.parametrize("fault", ["request lost", "answer torn", "503"])
@pytest.mark.parametrize("name", OPERATIONS)
def test_a_network_that_stays_broken_is_one_plain_error_after_a_few_tries(
    name: str, fault: str, steady: BlobStore, shaky: BlobStore, network: Faulty, tmp_path: Path
) -> None:
    path = _prepared(steady, tmp_path)
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


def _hierarchical(asked: Asked) -> Said | None:
    """What an account with a hierarchical namespace says of tags, which Azurite does not play."""
    if "comp=tags" in asked.path or "comp=blobs" in asked.path:
        return Said(400, "InvalidQueryParameterValue")
    if "x-ms-tags" in asked.headers:
        return Said(409, "FeatureNotYetSupportedForHierarchicalNamespaceAccounts")
    if "restype=account" in asked.path:
        return Said(200, headers={"x-ms-is-hns-enabled": "true", "x-ms-sku-name": "Standard_LRS"})
    return None


def test_an_account_without_index_tags_keeps_them_beside_and_says_so_once(
    blob_account: BlobAccount, network: Faulty
) -> None:
    network.again(_hierarchical)
    said: list[str] = []
    store = BlobStore(replace(blob_account, endpoint=network.endpoint), QUICK, said.append)

    store.put("m/1", b"1", tags={"model": "digits", "run": "a b=c/日本"})
    store.put("m/2", b"2", tags={"model": "digits"})
    store.put("n/1", b"3")

    assert store.tags("m/1") == {"model": "digits", "run": "a b=c/日本"}
    assert list(store.find_by_tags({"model": "digits"})) == ["m/1", "m/2"]
    assert list(store.find_by_tags({"model": "digits", "run": "a b=c/日本"}, "m/")) == ["m/1"]
    assert [entry.key for entry in store.list("")] == ["m/1", "m/2", "n/1"]
    assert list(store.children("")) == ["m/", "n/"]
    store.set_tags("m/2", {"model": "letters"})
    assert list(store.find_by_tags({"model": "letters"}, "m/")) == ["m/2"]
    store.put("m/1", b"new", overwrite=True)
    assert store.tags("m/1") == {}
    assert list(store.find_by_tags({"model": "digits"})) == []
    store.delete("m/2")
    assert list(store.find_by_tags({"model": "letters"})) == []
    assert len(said) == 1
    assert "has no index tags" in said[0]


@pytest.mark.parametrize("first", ["tags", "set_tags", "find"])
def test_an_account_without_index_tags_is_noticed_by_whatever_comes_first(
    first: str, blob_account: BlobAccount, network: Faulty
) -> None:
    network.again(_hierarchical)
    account = replace(blob_account, endpoint=network.endpoint)
    BlobStore(account, QUICK, lambda message: None).put("m/1", b"1", tags={"a": "b"})
    said: list[str] = []
    store = BlobStore(account, QUICK, said.append)

    if first == "tags":
        assert store.tags("m/1") == {"a": "b"}
    elif first == "set_tags":
        store.set_tags("m/1", {"a": "c"})
    else:
        assert list(store.find_by_tags({"a": "b"})) == ["m/1"]

    assert len(said) == 1
    with pytest.raises(NotFoundError):
        store.tags("absent")


def test_folders_of_a_hierarchical_namespace_are_no_keys(blob_account: BlobAccount, network: Faulty) -> None:
    folder = {"x-ms-meta-hdi_isfolder": "true", "Content-Range": "bytes 0-0/1"}
    network.again(lambda asked: Said(200, headers=folder) if asked.path.endswith("/m") else None)
    store = BlobStore(replace(blob_account, endpoint=network.endpoint), QUICK)

    assert store.stat("m") is None
    with pytest.raises(NotFoundError):
        store.read("m")
    network.again(lambda asked: Said(409, "DirectoryIsNotEmpty") if asked.method == "DELETE" else None)
    store.delete("m")


def test_a_listing_in_the_order_of_folders_comes_out_in_the_order_of_keys(
    blob_account: BlobAccount, network: Faulty, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An account with a hierarchical namespace lists `a/x` before `a-1`."""
    BlobStore(blob_account).put("a/x", b"")
    network.again(_hierarchical)
    keys = ["a/x", "a/y", "a-1", "b"]
    pages = [[Entry(key, 1, "e", 0.0)] for key in keys]
    monkeypatch.setattr(
        blob_list, "_pages", lambda clients, container, *rest: iter(pages if "runs" in container else [])
    )
    store = BlobStore(replace(blob_account, endpoint=network.endpoint), QUICK)

    assert [entry.key for entry in store.list("")] == sorted(keys)
    assert list(store.list_keys("")) == sorted(keys)


SUBSCRIPTION = "/subscriptions/1/resourceGroups/g/providers/Microsoft.Storage/storageAccounts/acct"


@pytest.mark.parametrize(
    ("name", "role"),
    [
        ("put", "Storage Blob Data Contributor"),
        ("put file", "Storage Blob Data Contributor"),
        ("append", "Storage Blob Data Contributor"),
        ("delete", "Storage Blob Data Contributor"),
        ("read", "Storage Blob Data Reader"),
        ("read much", "Storage Blob Data Reader"),
        ("list", "Storage Blob Data Reader"),
        ("children", "Storage Blob Data Reader"),
        ("stat", "Storage Blob Data Reader"),
        ("tags", "Tensoryard blob tags"),
        ("find", "Tensoryard blob tags"),
    ],
)
def test_a_missing_role_is_named_with_the_command_that_grants_it(
    name: str, role: str, blob_account: BlobAccount, network: Faulty, tmp_path: Path
) -> None:
    """Azurite knows no roles, so this is the answer that Azure gives."""
    path = tmp_path / "file"
    path.write_bytes(b"x")
    network.again(lambda asked: Said(403, "AuthorizationPermissionMismatch"))
    store = BlobStore(replace(blob_account, endpoint=network.endpoint, resource=SUBSCRIPTION), QUICK)

    with pytest.raises(StoreError) as caught:
        OPERATIONS[name](store, path)

    assert f"the role `{role}` on the container" in caught.value.message
    assert caught.value.hint is not None
    given = f'"{role}"'
    if role == "Tensoryard blob tags":  # a role of the workspace's own, whose name goes on with that of the workspace
        group = SUBSCRIPTION.partition("/providers/")[0]
        given = f'"$(az role definition list --scope {group} --custom-role-only true ' + (
            f'--query "[?starts_with(roleName, \'{role} (\')].name" --output tsv)"'
        )
    assert f"az role assignment create --role {given} --assignee-object-id <your object id>" in caught.value.hint
    assert (
        f"--scope {SUBSCRIPTION}/blobServices/default/containers/{blob_account.containers.runs}" in caught.value.hint
    )
    assert len(network.seen) <= 3


def test_whose_role_is_missing_is_read_from_their_token(blob_account: BlobAccount) -> None:
    from azure.core.credentials import AccessToken
    from azure.core.exceptions import HttpResponseError

    from services.azure_sign_in import PRINCIPAL, token

    class Signed:
        def get_token(self, *scopes: str, **how: Any) -> AccessToken:
            return AccessToken(token("t"), 0)

    account = replace(blob_account, credential=Signed(), resource=SUBSCRIPTION)
    headers = {"x-ms-error-code": "AuthorizationPermissionMismatch"}
    response = SimpleNamespace(status_code=403, reason="Forbidden", headers=headers)
    error = HttpResponseError(response=response)
    hint = blob_errors.explained(account, "runs/a", "reading", blob_errors.READER, error).hint

    assert hint is not None
    assert f"--assignee-object-id {PRINCIPAL} --assignee-principal-type ServicePrincipal" in hint


def test_a_record_is_written_without_its_tags_when_only_they_are_forbidden(
    steady: BlobStore, blob_account: BlobAccount, network: Faulty
) -> None:
    network.again(
        lambda asked: Said(403, "AuthorizationPermissionMismatch") if "x-ms-tags" in asked.headers else None
    )
    said: list[str] = []
    store = BlobStore(replace(blob_account, endpoint=network.endpoint), QUICK, said.append)

    store.put("models/m/1", b"1", tags={"model": "m"})
    store.put("models/m/2", b"2", tags={"model": "m"})

    assert [entry.key for entry in steady.list("models/")] == ["models/m/1", "models/m/2"]
    assert len(said) == 1
    assert "not indexed" in said[0]
    assert "starts_with(roleName, 'Tensoryard blob tags (')" in said[0]


@pytest.mark.parametrize(
    ("said", "told", "hint"),
    [
        (Said(403, "AuthorizationFailure"), "does not let this machine in", "network rules"),
        (Said(403, "AuthenticationFailed"), "not signed in to Azure", "az login"),
        (Said(401, "InvalidAuthenticationInfo"), "not signed in to Azure", "az login"),
        (Said(404, "ContainerNotFound"), "has no container", "pulumi up"),
        (Said(409, "BlobArchived"), "answered 409 BlobArchived", ""),
    ],
)
def test_what_the_account_refuses_is_said_in_words(
    said: Said, told: str, hint: str, shaky: BlobStore, network: Faulty
) -> None:
    network.again(lambda asked: said)

    for use in (
        lambda: shaky.read("runs/a"),
        lambda: list(shaky.list("runs/")),
        lambda: shaky.append("runs/b", b"x"),
    ):
        with pytest.raises(StoreError, match=told) as caught:
            use()
        assert hint in (caught.value.hint or "")


def test_what_an_append_blob_cannot_do_is_said(shaky: BlobStore, network: Faulty) -> None:
    shaky.put("a", b"whole")
    with pytest.raises(StoreError, match="`a`: appending failed: it was written whole"):
        shaky.append("a", b"more")
    with pytest.raises(StoreError, match="got 104857601 bytes to append at once"):
        shaky.append("log", bytes((100 << 20) + 1))
    full = Said(409, "BlockCountExceedsLimit")
    network.again(lambda asked: full if "comp=appendblock" in asked.path else None)
    with pytest.raises(StoreError, match="50,000 times"):
        shaky.append("log", b"x")


def test_tags_of_any_signs_come_back_and_too_many_are_refused(steady: BlobStore) -> None:
    tags = {"=": "=3D", "with 'quotes'": 'and "more"', "plain": "a-b_c:d/e.f+g"}
    steady.put("a", b"", tags=tags)

    assert steady.tags("a") == tags
    assert list(steady.find_by_tags(tags)) == ["a"]
    with pytest.raises(UsageError, match="got 11 tags"):
        steady.put("b", b"", tags={str(number): "" for number in range(11)})
    with pytest.raises(UsageError, match="a value of 258"):
        steady.put("b", b"", tags={"a": "é" * 43})
    with pytest.raises(UsageError, match="no tags"):
        next(steady.find_by_tags({}))
    assert steady.stat("b") is None


def test_two_large_uploads_of_one_key_are_never_mixed(
    steady: BlobStore, blob_account: BlobAccount, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blob_upload, "WHOLE_BYTES", 0)
    monkeypatch.setattr(blob_upload, "BLOCK_BYTES", 50_000)
    files = [tmp_path / str(number) for number in range(4)]
    for number, path in enumerate(files):
        path.write_bytes(bytes([number]) * 600_000)
    won = []

    def upload(number: int) -> None:
        try:
            BlobStore(blob_account).put_file("once", files[number])
            won.append(number)
        except AlreadyExistsError:
            pass
        BlobStore(blob_account).put_file("often", files[number], overwrite=True)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(upload, range(4)))

    assert len(won) == 1
    assert same(steady.read("once"), files[won[0]].read_bytes())
    assert any(same(steady.read("often"), path.read_bytes()) for path in files)


def test_a_download_of_what_is_replaced_meanwhile_is_refused(
    steady: BlobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "CHUNK_BYTES", 1000)
    steady.put("data/a", b"0" * 50_000)
    chunks = transfer.chunks(steady, "data/a")
    next(chunks)
    steady.put("data/a", b"1" * 50_000, overwrite=True)

    with pytest.raises(VerificationError, match="was replaced while it was read"):
        list(chunks)


def test_blobs_of_others_whose_names_are_no_keys_are_left_out(steady: BlobStore, blob_account: BlobAccount) -> None:
    from azure.storage.blob import ContainerClient

    from tensoryard.store.blob_account import API_VERSION

    names = blob_account.containers
    with ContainerClient(blob_account.endpoint, names.data, blob_account.credential, api_version=API_VERSION) as data:
        for name in ("data/good", "data/a//b", "elsewhere"):
            data.upload_blob(name, b"x")

    assert [entry.key for entry in steady.list("data/")] == ["data/good"]
    assert [entry.key for entry in steady.list("")] == ["data/good"]


def _forked(works: Callable[[], bool]) -> int:
    """The exit code of a forked process: 0 if it works. However it ends, it never goes on with the tests itself."""
    child = os.fork()
    if child == 0:
        code = 9
        try:
            code = 0 if works() else 8
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_a_process_forked_from_one_that_listed_can_list_too(steady: BlobStore) -> None:
    """obstore's threads are not there after a fork, where it would wait for them for ever."""
    steady.put("a", bytes(2 << 20))
    assert len(list(steady.list(""))) == 1

    def reads() -> bool:
        return [entry.key for entry in steady.list("")] == ["a"] and len(steady.read("a", 0, 2 << 20)) == 2 << 20

    assert _forked(reads) == 0


def test_a_forked_process_never_lets_go_of_its_parents_clients(steady: BlobStore) -> None:
    """To end one of obstore's waits for its threads' locks, which one of them may have held at the fork."""

    class Client:
        def __del__(self) -> None:
            if os.getpid() != parent:
                os._exit(9)

    parent = os.getpid()
    steady.put("a", b"1")
    steady._clients._fast["x"] = Client()  # type: ignore[assignment]
    try:
        assert _forked(lambda: steady.read("a") == b"1") == 0
    finally:
        del steady._clients._fast["x"]


def test_nothing_of_azure_is_imported_by_a_workspace_in_a_folder(tmp_path: Path) -> None:
    program = (
        "import sys, pathlib; from tensoryard import Workspace; import tensoryard.cli.main\n"
        f"store = Workspace(pathlib.Path({str(tmp_path)!r})).store; store.put('a', b'1')\n"
        "sys.exit(any(name.split('.')[0] in ('azure', 'obstore', 'requests') for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
