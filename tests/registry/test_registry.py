"""What becomes a version of a model: files of a run or of this machine, whole, under a name of its own."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models_made import MODEL_FILES, make_run, read_folder
from tensoryard.errors import NotFoundError, UsageError, VerificationError
from tensoryard.registry import FileRecord, Registry
from tensoryard.registry.check import check_registry
from tensoryard.registry.records import index_tags
from tensoryard.run import RunRecord
from tensoryard.store import Entry, Store, keys
from tensoryard.store.file import FileStore
from tensoryard.store.transfer import sha256_key


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


def test_a_tag_that_grows_too_long_for_the_index_is_kept_all_the_same(registry: Registry, store: Store) -> None:
    """On blob storage `=` is a letter that stands for others, so that it takes the room of three itself."""
    store.put("objects/x", b"x")
    file = FileRecord(path="x", key="objects/x", size_bytes=1, sha256=sha256_key(store, "objects/x"))
    tags = {"args": "--epochs=1" + "x" * 245, "short": "a=b"}

    version = registry.register("digits", [file], tags=tags)

    assert tags == registry.get("digits", version.version).tags
    indexed = store.tags(keys.model_version("digits", version.version))
    assert (indexed["short"], indexed.get("args")) == ("a=b", None)


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
