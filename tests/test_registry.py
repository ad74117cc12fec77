"""What people rely on in the registry: versions are whole, numbered once, verified, and their past is kept."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tensoryard.errors import (
    AlreadyExistsError,
    CorruptRecordError,
    NotFoundError,
    TensoryardError,
    UsageError,
    VerificationError,
)
from tensoryard.registry import FileRecord, ModelVersion, Reference, Registry, listing, parse_reference
from tensoryard.registry.check import check_registry
from tensoryard.registry.listing import newest_of_models
from tensoryard.registry.records import index_tags
from tensoryard.run import RunRecord
from tensoryard.store import Entry, Store, is_folder, keys
from tensoryard.store import tickets as tickets_module
from tensoryard.store.file import FileStore
from tensoryard.store.parallel import AT_ONCE
from tensoryard.store.transfer import sha256_key

Processes = Callable[[int, Callable[[int], None]], list[int]]

MODEL_FILES = {"saved_model.pb": b"graph" * 1000, "variables/variables.index": b"index", "notes.txt": b""}


@pytest.fixture
def registry(store: Store) -> Registry:
    return Registry(store)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model on this machine's disk."""
    for name, data in MODEL_FILES.items():
        path = tmp_path / "exported" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return tmp_path / "exported"


def make_run(
    store: Store, run_id: str, files: Mapping[str, bytes] = MODEL_FILES, *, ended: bool = True, **fields: Any
) -> None:
    """A run as the controller leaves it, its files below outputs/model; fields: of its job."""
    job = {"experiment": run_id.rpartition("-")[0], "source_directory": ".", "entry_script": "train.py", **fields}
    store.put(keys.run(run_id, "job.json"), msgspec.json.encode(job))
    store.append(
        keys.run(run_id, "events.jsonl"),
        b'{"time":1.0,"fact":"environment","data":{"hash":"e1","tensorflow":"2.19"}}\n',
    )
    store.append(keys.run(run_id, "metrics/worker-0.jsonl"), b'{"name":"loss","time":1,"value":0.5}\n')
    store.append(keys.run(run_id, "metrics/worker-0.jsonl"), b'{"name":"loss","time":2,"value":0.25}\n')
    listed = []
    for name, data in files.items():
        path = f"outputs/model/{name}"
        entry = store.put(keys.run(run_id, path), data)
        digest = sha256_key(store, entry.key)
        listed.append({"path": path, "size_bytes": entry.size_bytes, "sha256": digest, "etag": entry.etag})
    if ended:
        outputs = {"files": listed, "warnings": ["1 link was not kept"]}
        store.put(keys.run(run_id, "outputs.json"), msgspec.json.encode(outputs))


def test_a_runs_files_become_a_version_without_being_copied(registry: Registry, store: Store) -> None:
    make_run(store, "mnist-0007")
    warnings: list[str] = []
    version = Registry(store, warnings.append).register_run_files(
        "digits", "mnist-0007", "outputs/model", tags={"framework": "keras"}
    )

    assert (version.name, version.version, version.run_id) == ("digits", 1, "mnist-0007")
    assert [file.path for file in version.files] == sorted(MODEL_FILES)
    assert all(file.key.startswith("runs/mnist-0007/outputs/model/") for file in version.files)
    assert version.size_bytes == sum(map(len, MODEL_FILES.values()))
    assert version.lineage["experiment"] == "mnist"
    assert (version.lineage["environment"], version.lineage["tensorflow"]) == ("e1", "2.19")
    assert version.lineage["metrics"] == {"loss": 0.25}
    assert warnings == ["run `mnist-0007`: 1 link was not kept"]
    assert list(store.list("objects/")) == []
    assert registry.get("digits") == version
    assert store.tags(keys.model_version("digits", 1))["model"] == "digits"
    assert list(store.find_by_tags({"run": "mnist-0007", "version": "00000001"})) == [
        "models/digits/versions/00000001.json"
    ]


def test_a_version_keeps_no_secret_of_its_runs_job(registry: Registry, store: Store) -> None:
    """Its record is there for ever."""
    packages = [
        "tool @ https://ada:s3cret@host/tool-1.0-py3-none-any.whl?at=a@b",
        "own @ git+https://s3cret@host/own.git@main",
        "kept @ git+ssh://git@host/kept.git",
        "numpy>=1.26",
    ]
    make_run(
        store,
        "mnist-0007",
        environment_variables={"WANDB_API_KEY": "s3cret", "A": "1"},
        pip_packages=packages,
        conda_channels=["https://ada:s3cret@host/channel"],
    )
    version = registry.register_run_files("digits", "mnist-0007", "outputs/model")

    assert b"s3cret" not in store.read(keys.model_version("digits", 1))
    assert version.lineage["job"]["environment_variables"] == ["A", "WANDB_API_KEY"]
    assert version.lineage["job"]["conda_channels"] == ["https://host/channel"]
    assert version.lineage["job"]["pip_packages"] == [
        "tool @ https://host/tool-1.0-py3-none-any.whl?at=a@b",
        "own @ git+https://host/own.git@main",
        "kept @ git+ssh://git@host/kept.git",
        "numpy>=1.26",
    ]


@pytest.mark.parametrize("path", ["outputs/model/notes.txt", "./outputs/model//notes.txt"])
def test_one_file_is_a_model_too(registry: Registry, store: Store, path: str) -> None:
    make_run(store, "mnist-0007")

    assert [file.path for file in registry.register_run_files("notes", "mnist-0007", path).files] == ["notes.txt"]


def test_what_was_uploaded_to_a_run_is_registered_with_what_it_wrote(
    registry: Registry, store: Store, tmp_path: Path
) -> None:
    make_run(store, "mnist-0007")
    (tmp_path / "plot.png").write_bytes(b"picture")
    run = RunRecord(store, "mnist-0007")
    run.upload("outputs/model/plots/plot.png", tmp_path / "plot.png")
    run.upload("report.png", tmp_path / "plot.png")

    registry.register_run_files("digits", "mnist-0007", "outputs/model/")
    registry.register_run_files("report", "mnist-0007", "report.png")

    registry.download("digits", tmp_path / "got")
    assert read_folder(tmp_path / "got") == {**MODEL_FILES, "plots/plot.png": b"picture"}
    assert registry.get("digits").source_path == "outputs/model"
    assert [file.path for file in registry.get("report").files] == ["report.png"]
    assert registry.verify("report") == []


def test_a_name_that_differs_only_in_case_from_a_model_is_refused(registry: Registry, folder: Path) -> None:
    """On a file system that ignores case both would have one folder."""
    registry.register_folder("digits", folder)

    with pytest.raises(UsageError, match="model: got `Digits`, but there is `digits`, which differs only in case"):
        registry.register_folder("Digits", folder)
    assert [*registry.list_models()] == ["digits"]
    assert registry.register_folder("digits", folder).version == 2


def test_the_same_is_refused_where_the_file_system_ignores_case(tmp_path: Path, folder: Path) -> None:
    class IgnoringCase(FileStore):
        def stat(self, key: str) -> Entry | None:
            return super().stat(key.lower())

    registry = Registry(IgnoringCase(tmp_path / "store"))
    registry.register_folder("digits", folder)

    with pytest.raises(UsageError, match="there is `digits`"):
        registry.register_folder("Digits", folder)
    assert registry.register_folder("digits", folder).version == 2


def test_of_two_new_names_that_differ_in_case_one_is_refused_whoever_comes_between(
    tmp_path: Path, folder: Path
) -> None:
    class Between:
        """A store in which somebody registers the other name before the n-th call."""

        def __init__(self, store: Store, calls: int) -> None:
            self.store, self.left = store, calls

        def __getattr__(self, name: str) -> Any:
            self.left -= 1
            if self.left == 0:
                made.extend(_registered(self.store, "Digits", folder))
            return getattr(self.store, name)

    for calls in range(1, 60):
        store = FileStore(tmp_path / str(calls))
        between: Any = Between(store, calls)
        made: list[str] = []
        made.extend(_registered(between, "digits", folder))

        assert len(made) <= 1
        assert check_registry(store).findings == []
        again = _registered(store, "digits", folder)
        assert again == ([] if made == ["Digits"] else ["digits"])
        if between.left > 0:
            break
    assert calls > 5


def _registered(store: Store, name: str, folder: Path) -> list[str]:
    try:
        return [Registry(store).register_folder(name, folder).name]
    except UsageError:
        return []


def test_a_copy_outlives_its_run(registry: Registry, store: Store, tmp_path: Path) -> None:
    make_run(store, "mnist-0007")
    registry.register_run_files("digits", "mnist-0007", "outputs/model", copy=True)
    for entry in list(store.list("runs/")):
        store.delete(entry.key)

    assert registry.verify("digits") == []
    registry.download("digits", tmp_path / "got")
    assert read_folder(tmp_path / "got") == MODEL_FILES


def test_a_path_that_the_run_does_not_have_is_answered_with_what_it_has(registry: Registry, store: Store) -> None:
    make_run(store, "mnist-0007")

    with pytest.raises(NotFoundError, match=r"no `outputs/modle`; it has `outputs/model/saved_model.pb`") as caught:
        registry.register_run_files("digits", "mnist-0007", "outputs/modle")
    assert caught.value.hint == "did you mean `outputs/model`?"
    with pytest.raises(UsageError):
        registry.register_run_files("digits", "mnist-0007", "outputs/../../mnist-0008/outputs")
    assert list(registry.list_models()) == []


def test_a_run_that_has_not_ended_or_is_not_there_is_said_so(registry: Registry, store: Store) -> None:
    make_run(store, "mnist-0007", ended=False)

    with pytest.raises(NotFoundError, match="has not ended"):
        registry.register_run_files("digits", "mnist-0007", "outputs/model")
    with pytest.raises(NotFoundError, match="there is no `mnist-0008`"):
        registry.register_run_files("digits", "mnist-0008", "outputs/model")


def test_a_run_that_failed_before_it_ran_is_said_so(registry: Registry, store: Store) -> None:
    make_run(store, "mnist-0007", ended=False)
    for line in (
        b'{"time":2.0,"stage":"Preparing"}\n',
        b'{"time":3.0,"stage":"Failed","reason":"no such package"}\n',
    ):
        store.append(keys.run("mnist-0007", "events.jsonl"), line)

    with pytest.raises(NotFoundError, match="failed before its script ran, so it has no outputs"):
        registry.register_run_files("digits", "mnist-0007", "outputs/model")


def test_files_that_changed_since_the_run_are_not_registered(registry: Registry, store: Store) -> None:
    make_run(store, "mnist-0007")
    key = keys.run("mnist-0007", "outputs/model/saved_model.pb")
    good = store.read(key)
    store.put(key, good[:-1] + b"x", overwrite=True)
    with pytest.raises(VerificationError, match="other bytes"):
        registry.register_run_files("digits", "mnist-0007", "outputs/model")
    store.put(key, b"short", overwrite=True)
    with pytest.raises(VerificationError, match="has 5 bytes"):
        registry.register_run_files("digits", "mnist-0007", "outputs/model")
    store.delete(key)
    with pytest.raises(NotFoundError, match="not in the store any more"):
        registry.register_run_files("digits", "mnist-0007", "outputs/model")
    # The same bytes under another etag, as after the store was moved, are no change.
    store.put(key, good)
    assert registry.register_run_files("digits", "mnist-0007", "outputs/model").version == 1


def test_a_folder_of_this_machine_becomes_a_version(registry: Registry, folder: Path, tmp_path: Path) -> None:
    registry.register_folder("digits", folder)
    (folder / "saved_model.pb").write_bytes(b"changed")

    assert registry.verify("digits") == []
    registry.download("digits:1", tmp_path / "got")
    assert read_folder(tmp_path / "got") == MODEL_FILES


def test_what_cannot_be_registered_is_refused(registry: Registry, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(NotFoundError, match="no files"):
        registry.register_folder("digits", tmp_path / "empty")
    with pytest.raises(NotFoundError, match="no such file"):
        registry.register_folder("digits", tmp_path / "absent")
    (folder / "link").symlink_to(tmp_path / "empty")
    with pytest.raises(UsageError, match="link to a folder"):
        registry.register_folder("digits", folder)
    for name in ("", "a/b", "../x", "-x", "x" * 64, "naïve"):
        with pytest.raises(UsageError, match="model: got"):
            registry.register_folder(name, folder)
    assert list(registry.list_models()) == []


@pytest.mark.parametrize("paths", [["../x"], ["/etc/x"], ["a/../b"], ["a", "A"], ["a", "a"], [], ["a\nb"]])
def test_paths_that_escape_or_collide_are_refused(registry: Registry, store: Store, paths: list[str]) -> None:
    entry = store.put("objects/x", b"x")
    files = [
        FileRecord(path=path, key="objects/x", size_bytes=1, sha256=sha256_key(store, "objects/x"), etag=entry.etag)
        for path in paths
    ]

    with pytest.raises(UsageError):
        registry.register("digits", files)


def test_numbers_are_never_used_again(registry: Registry, folder: Path) -> None:
    for _ in range(3):
        registry.register_folder("digits", folder)
    registry.delete("digits", 3)

    assert registry.get("digits").version == 2
    assert registry.register_folder("digits", folder).version == 4
    assert [version.version for version in registry.list_versions("digits")] == [4, 2, 1]


def test_numbers_go_on_when_a_ticket_file_is_full(
    registry: Registry, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tickets_module, "TICKETS_PER_FILE", 3)
    made = [registry.register_folder("digits", folder).version for _ in range(8)]

    assert made == list(range(1, 9))
    assert registry.get("digits").version == 8


def test_a_retry_with_the_same_nonce_gives_the_same_version(registry: Registry, folder: Path) -> None:
    first = registry.register_folder("digits", folder, nonce="build 17")
    assert registry.register_folder("digits", folder, nonce="build 17") == first
    assert registry.register_folder("digits", folder, nonce="build 18").version == 2
    (folder / "new").write_bytes(b"x")

    with pytest.raises(UsageError, match="other files"):
        registry.register_folder("digits", folder, nonce="build 17")


def test_32_writers_at_once_lose_nothing(
    registry: Registry, store: Store, folder: Path, processes: Processes
) -> None:
    def register(index: int) -> None:
        Registry(store).register_folder("digits", folder, tags={"writer": str(index)})

    assert processes(32, register) == [0] * 32
    versions = list(registry.list_versions("digits"))
    assert [version.version for version in versions] == list(range(32, 0, -1))
    assert {version.tags["writer"] for version in versions} == {str(index) for index in range(32)}


def test_retries_of_one_nonce_at_once_make_one_version(
    registry: Registry, store: Store, folder: Path, processes: Processes
) -> None:
    assert processes(8, lambda _: void(Registry(store).register_folder("digits", folder, nonce="one"))) == [0] * 8
    assert len(list(registry.list_versions("digits"))) == 1


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


def read_folder(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def void(_: Any) -> None:
    pass


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


def test_a_corrupt_alias_is_named_and_can_be_set_again(registry: Registry, store: Store, folder: Path) -> None:
    registry.register_folder("digits", folder)
    registry.alias("digits", "champion", 1)
    key = keys.numbered(keys.model_aliases("digits", "champion"), 1)
    store.put(key, b"{", overwrite=True)

    with pytest.raises(CorruptRecordError, match=key):
        registry.get("digits", "champion")
    registry.alias("digits", "champion", 1)
    assert registry.get("digits", "champion").version == 1


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


@settings(
    max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None
)
@given(
    tags=st.dictionaries(st.text(max_size=20), st.text(max_size=300), max_size=12),
    path=st.text(min_size=1, max_size=20),
)
def test_any_text_is_kept_or_refused_in_words(store: Store, tags: dict[str, str], path: str) -> None:
    registry = Registry(store)
    if store.stat("objects/x") is None:
        store.put("objects/x", b"x")
    file = FileRecord(path=path, key="objects/x", size_bytes=1, sha256=sha256_key(store, "objects/x"))
    try:
        version = registry.register("digits", [file], tags=tags)
    except UsageError:
        return

    assert registry.get("digits", version.version) == version
    assert (version.tags, version.files[0].path) == (tags, path)
    indexed = index_tags(version)
    assert len(indexed) <= 10
    assert store.tags(keys.model_version("digits", version.version)) == indexed


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


def test_a_ticket_file_from_an_old_backup_costs_numbers_not_versions(
    registry: Registry, store: Store, folder: Path
) -> None:
    made = [registry.register_folder("digits", folder) for _ in range(3)]
    store.delete(keys.model_tickets("digits", 0))

    assert registry.register_folder("digits", folder).version == 4
    assert [registry.get("digits", version.version) for version in made] == made


def test_the_same_costs_a_nonce_nothing(registry: Registry, store: Store, folder: Path) -> None:
    """It keeps its number for good, so it must not be given one that a version has."""
    for _ in range(3):
        registry.register_folder("digits", folder)
    store.delete(keys.model_tickets("digits", 0))

    for _ in range(2):
        assert Registry(store).register_folder("digits", folder, nonce="once").version == 4


class Lossy:
    """A store whose answer to the first put of a version is lost, so that the writer is told its key was taken."""

    def __init__(self, store: Store) -> None:
        self._store, self._lost = store, False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def put(self, key: str, data: bytes, **options: Any) -> Entry:
        entry = self._store.put(key, data, **options)
        if "/versions/" in key and not self._lost:
            self._lost = True
            raise AlreadyExistsError(f"`{key}`: was written before")
        return entry


def test_a_lost_answer_does_not_make_a_second_version(registry: Registry, store: Store, folder: Path) -> None:
    lossy: Any = Lossy(store)

    assert Registry(lossy).register_folder("digits", folder).version == 1
    assert [version.version for version in registry.list_versions("digits")] == [1]


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
