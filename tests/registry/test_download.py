"""Models fetched and verified: the bytes that were registered, or an error that says what became of them."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from models_made import MODEL_FILES, make_run, read_folder
from tensoryard.errors import TensoryardError, UsageError, VerificationError
from tensoryard.registry import Registry
from tensoryard.store import Store, keys
from tensoryard.store.part import Part


def test_download_goes_on_and_refuses_a_folder_with_anything_else(
    registry: Registry, folder: Path, tmp_path: Path
) -> None:
    registry.register_folder("digits", folder)
    target = tmp_path / "got"
    target.mkdir()
    (target / "notes.txt").write_bytes(MODEL_FILES["notes.txt"])
    (target / ".tyard-part-0123").write_bytes(b"half")

    registry.download("digits", target)
    assert read_folder(target) == MODEL_FILES
    registry.download("digits", target)
    (target / "saved_model.pb").write_bytes(b"mine")
    with pytest.raises(UsageError, match=r"saved_model.pb`: is there with other bytes"):
        registry.download("digits", target)
    (target / "saved_model.pb").unlink()
    (target / "extra").write_bytes(b"mine")
    with pytest.raises(UsageError, match="`extra`, which the model does not have"):
        registry.download("digits", target)
    assert not (target / "saved_model.pb").exists()


def test_two_downloads_into_one_folder_leave_each_other_alone(
    registry: Registry, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second comes while the first is at a file, and finds the part of it."""
    registry.register_folder("digits", folder)
    target = tmp_path / "got"
    publish = Part.publish

    def after_another(part: Part, *what: Any, **how: Any) -> str:
        monkeypatch.setattr(Part, "publish", publish)
        registry.download("digits", target)
        return publish(part, *what, **how)

    monkeypatch.setattr(Part, "publish", after_another)
    registry.download("digits", target)

    assert read_folder(target) == MODEL_FILES


def test_download_does_not_follow_a_link_out_of_the_target(registry: Registry, folder: Path, tmp_path: Path) -> None:
    registry.register_folder("digits", folder)
    target, outside = tmp_path / "got", tmp_path / "outside"
    target.mkdir()
    outside.mkdir()
    (target / "variables").symlink_to(outside)

    with pytest.raises(UsageError, match="`variables`"):
        registry.download("digits", target)
    assert list(outside.iterdir()) == []


def test_changed_and_missing_files_are_found_and_never_delivered(
    registry: Registry, store: Store, tmp_path: Path
) -> None:
    make_run(store, "mnist-0007")
    version = registry.register_run_files("digits", "mnist-0007", "outputs/model")
    by_path = {file.path: file for file in version.files}
    graph = by_path["saved_model.pb"]
    store.put(graph.key, b"X" * graph.size_bytes, overwrite=True)
    store.put(by_path["notes.txt"].key, b"longer", overwrite=True)
    store.delete(by_path["variables/variables.index"].key)

    assert {problem.path: problem.what.split()[0] for problem in registry.verify("digits")} == {
        "saved_model.pb": "changed:",
        "notes.txt": "changed:",
        "variables/variables.index": "missing:",
    }
    with pytest.raises(TensoryardError) as caught:
        registry.download("digits", tmp_path / "got")
    assert "`tyard models verify digits:1`" in (caught.value.hint or "")
    assert not (tmp_path / "got").exists()


def test_another_etag_of_the_same_bytes_is_no_problem(registry: Registry, store: Store) -> None:
    make_run(store, "mnist-0007")
    version = registry.register_run_files("digits", "mnist-0007", "outputs/model")
    key = version.files[0].key
    store.put(key, store.read(key), overwrite=True)

    entry = store.stat(key)
    assert entry is not None
    assert entry.etag != version.files[0].etag
    assert registry.verify("digits") == []


def test_a_list_of_files_that_was_edited_is_found(
    registry: Registry, store: Store, folder: Path, tmp_path: Path
) -> None:
    registry.register_folder("digits", folder)
    key = keys.model_version("digits", 1)
    record = msgspec.json.decode(store.read(key))
    record["files"] = record["files"][1:]
    store.put(key, msgspec.json.encode(record), overwrite=True)

    assert [problem.path for problem in registry.verify("digits")] == [""]
    with pytest.raises(VerificationError, match="list of files was changed"):
        registry.download("digits", tmp_path / "got")
