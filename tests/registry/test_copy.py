"""Versions that name a run's files where they are, and versions that keep copies of their own."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from tensoryard.errors import NotFoundError, VerificationError
from tensoryard.registry import Registry
from tensoryard.store import Store, is_folder, keys
from tensoryard.store.transfer import sha256_key
from text_folders import Counting, write

FILES = {"saved_model.pb": b"graph" * 1000, "variables/index": b"index", "variables/again": b"index"}


def make_run(store: Store, run_id: str = "mnist-0007") -> None:
    """A finished run with FILES below outputs/model."""
    job = {"experiment": "mnist", "source_directory": ".", "entry_script": "train.py"}
    store.put(keys.run(run_id, "job.json"), msgspec.json.encode(job))
    store.append(keys.run(run_id, "events.jsonl"), b'{"time":1.0,"fact":"prepared"}\n')
    listed = []
    for name, data in FILES.items():
        entry = store.put(keys.run(run_id, f"outputs/model/{name}"), data)
        about = {"size_bytes": entry.size_bytes, "sha256": sha256_key(store, entry.key), "etag": entry.etag}
        listed.append({"path": f"outputs/model/{name}", **about})
    store.put(keys.run(run_id, "outputs.json"), msgspec.json.encode({"files": listed, "warnings": []}))


class NoBytes:
    """A store whose outputs can neither be read nor sent, so that only it itself can copy them."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        assert name != "put_file"
        return getattr(self._store, name)

    def read(self, key: str, *arguments: Any) -> bytes:
        assert "/outputs/" not in key
        return self._store.read(key, *arguments)

    def view(self, key: str, *arguments: Any) -> memoryview:
        assert "/outputs/" not in key
        return self._store.view(key, *arguments)

    def stream(self, key: str, *arguments: Any) -> Any:
        assert "/outputs/" not in key
        return self._store.stream(key, *arguments)


def test_a_copy_moves_nothing_through_this_machine(store: Store) -> None:
    make_run(store)
    # A folder is this machine's own.
    client: Any = store if is_folder(store) else NoBytes(store)
    version = Registry(client).register_run_files("digits", "mnist-0007", "outputs/model", copy=True)

    assert {file.key for file in version.files} == {keys.content(file.sha256) for file in version.files}
    assert len(list(store.list("objects/"))) == 2
    assert Registry(store).verify("digits") == []


def test_registering_a_finished_run_reads_none_of_its_files(store: Store) -> None:
    make_run(store)
    client: Any = NoBytes(store)
    version = Registry(client).register_run_files("digits", "mnist-0007", "outputs/model")

    entries = {entry.key: entry.etag for entry in store.list("runs/mnist-0007/outputs/")}
    assert {file.key: file.etag for file in version.files} == entries


def test_registering_a_folder_reads_nothing_back(store: Store, tmp_path: Path) -> None:
    folder = write(tmp_path / "model", {"saved_model.pb": "graph", "variables/index": "index"})
    counting: Any = Counting(store)
    for _ in range(2):
        Registry(counting).register_folder("digits", folder)

    assert [key for key in counting.read_keys if key.startswith(keys.CONTENTS)] == []
    assert Registry(store).verify("digits") == []


@pytest.fixture(params=["overwritten", "deleted"])
def broken(request: pytest.FixtureRequest, store: Store) -> Registry:
    """A registry with a version of which one file was lost after its registration."""
    make_run(store)
    registry = Registry(store)
    registry.register_run_files("digits", "mnist-0007", "outputs/model")
    key = "runs/mnist-0007/outputs/model/variables/index"
    if request.param == "deleted":
        store.delete(key)
    else:
        store.put(key, b"INDEX", overwrite=True)
    return registry


def test_a_source_changed_after_registration_is_named_and_never_delivered(broken: Registry, tmp_path: Path) -> None:
    assert [problem.path for problem in broken.verify("digits:1")] == ["variables/index"]
    with pytest.raises((NotFoundError, VerificationError), match="`variables/index` cannot be delivered"):
        broken.download("digits:1", tmp_path / "got")
    assert not (tmp_path / "got" / "variables" / "index").exists()
