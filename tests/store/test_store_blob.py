"""What holds for blob storage alone, on a network that works. What holds for every store is in test_store.py."""

import os
import subprocess
import sys
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from launching import same
from tensoryard.errors import AlreadyExistsError, UsageError, VerificationError
from tensoryard.store import blob_upload, transfer
from tensoryard.store.blob import BlobStore
from tensoryard.store.blob_account import BlobAccount


@pytest.fixture
def steady(blob_account: BlobAccount) -> BlobStore:
    """The same store by a network without faults, to look with."""
    return BlobStore(blob_account)


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
