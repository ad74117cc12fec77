"""job.yaml and `--set`: what of them is taken, and how; what is wrong is in test_job_file_errors.py."""

from contextlib import suppress
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from job_folders import START, fails, source_folder
from tensoryard.errors import JobError, TensoryardError
from tensoryard.job import DatastoreReference, Job, ParameterServerTraining
from tensoryard.job_file import changed_job, load_job


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return source_folder(tmp_path)


def test_a_folder_stands_for_its_job_file(folder: Path) -> None:
    (folder / "job.yaml").write_text(START)
    assert load_job(folder) == load_job(folder / "job.yaml")
    assert load_job(folder).experiment == "source"
    assert load_job(folder).source_directory == str(folder)


def test_a_job_file_that_is_not_there(folder: Path) -> None:
    error = fails(folder / "jobs.yaml")
    assert error.message == f"{folder}/jobs.yaml: no such file"
    assert error.hint == "`tyard init DIR` makes a new job folder"


@pytest.mark.parametrize(
    ("given", "meant"),
    [("source/jbo.yaml", "source/job.yaml"), ("suorce/job.yaml", "source/job.yaml"), ("sources", "source")],
)
def test_a_mistyped_job_file_is_answered_with_the_nearest(folder: Path, given: str, meant: str) -> None:
    (folder / "job.yaml").write_text(START)
    assert fails(folder.parent / given).hint == f"did you mean `{folder.parent / meant}`?"


def test_a_job_file_behind_a_file_cannot_be_read(folder: Path) -> None:
    assert (
        fails(folder / "train.py" / "job.yaml").message
        == f"{folder}/train.py/job.yaml: cannot be read: Not a directory"
    )


def test_a_byte_order_mark_does_no_harm(folder: Path) -> None:
    (folder / "job.yaml").write_bytes(b"\xef\xbb\xbf" + START.encode())
    assert load_job(folder).entry_script == "train.py"


def test_values_reach_the_script_as_they_are_written(folder: Path) -> None:
    """YAML reads yes, 007 and 1e-3 as a truth, an octal and a text; a script wants what stands there."""
    (folder / "job.yaml").write_text(
        START
        + "framework_version: 2.20\npython_version: 3.10\n"
        + "script_params: {--a: yes, --b: 007, --c: 1e-3, --d: 2024-01-31, --e: null, --f: 1_000, --g: ~, --h: '~'}\n"
        + "environment_variables: {A: on, B: 0x1F, C: ''}\n"
    )
    job = load_job(folder)
    assert job.script_params == {
        "--a": "yes",
        "--b": "007",
        "--c": "1e-3",
        "--d": "2024-01-31",
        "--e": None,
        "--f": "1_000",
        "--g": None,
        "--h": "~",
    }
    assert job.environment_variables == {"A": "on", "B": "0x1F", "C": ""}
    assert (job.framework_version, job.python_version) == ("2.20", "3.10")


def test_a_date_that_is_none_is_text(folder: Path) -> None:
    (folder / "job.yaml").write_text(START + "experiment: 2024-02-30")
    assert load_job(folder).experiment == "2024-02-30"


def test_a_merged_mapping_may_be_overridden(folder: Path) -> None:
    (folder / "job.yaml").write_text(
        START
        + "inputs:\n  train: &data {datastore: default, path: mnist, mode: download}\n"
        + "  test: {<<: *data, path: mnist-test}\n"
    )
    assert load_job(folder).inputs["test"] == DatastoreReference("default", "mnist-test", "download")


@pytest.mark.parametrize(
    ("change", "field", "value"),
    [
        ("node_count=1", "node_count", 1),
        ("use_gpu=true", "use_gpu", True),
        ("experiment=tuning", "experiment", "tuning"),
        ("framework_version=2.20", "framework_version", "2.20"),
        ("script_params.--epochs=007", "script_params", {"--epochs": "007", "--rate": "1"}),
        ("script_params.--epochs= a # b ", "script_params", {"--epochs": " a # b ", "--rate": "1"}),
        ("script_params.--epochs=a=b", "script_params", {"--epochs": "a=b", "--rate": "1"}),
        ("script_params.--a.b=1", "script_params", {"--epochs": "3", "--rate": "1", "--a.b": "1"}),
        (
            "script_params.--data={datastore: default, path: x}",
            "script_params",
            {"--epochs": "3", "--rate": "1", "--data": DatastoreReference("default", "x")},
        ),
        ("script_params={}", "script_params", {}),
        ("pip_packages=[numpy, pillow]", "pip_packages", ("numpy", "pillow")),
        ("tags.a=", "tags", {"a": ""}),
        ("max_run_duration_seconds=null", "max_run_duration_seconds", None),
    ],
)
def test_set_changes_one_field(folder: Path, change: str, field: str, value: object) -> None:
    (folder / "job.yaml").write_text(START + "script_params: {--epochs: 3, --rate: 1}\nmax_run_duration_seconds: 60")
    assert getattr(load_job(folder, [change]), field) == value


def test_set_reaches_into_a_field(folder: Path) -> None:
    (folder / "job.yaml").write_text(START + "distributed_training: {parameter_server: {worker_count: 3}}")
    training = load_job(folder, ["distributed_training.parameter_server.chief=false"]).distributed_training
    assert isinstance(training, ParameterServerTraining)
    assert (training.parameter_server.worker_count, training.parameter_server.chief) == (3, False)


@pytest.mark.parametrize(
    ("change", "message", "hint"),
    [
        ("epochs", "--set: got `epochs`, expected field=value", "for example `--set script_params.--epochs=3`"),
        ("=3", "--set: got `=3`, expected field=value", "for example `--set script_params.--epochs=3`"),
        ("node_cout=3", "--set: unknown field `node_cout`", "did you mean `node_count`?"),
        ("node_count=0", "--set: node_count: got `0`, expected a whole number, at least 1", None),
        ("node_count=", "--set: node_count: got nothing, expected a whole number", None),
        (
            "distributed_training.parameter_server.worker_count=x",
            "--set: distributed_training.parameter_server.worker_count: got `x`, expected a whole number",
            None,
        ),
        ("entry_script=other.py", "--set: entry_script: `other.py` is not a file in `{folder}`", ...),
    ],
)
def test_a_wrong_set_names_the_option(folder: Path, change: str, message: str, hint: object) -> None:
    (folder / "job.yaml").write_text(START)
    error = fails(folder, change)
    assert message.replace("{folder}", str(folder)) == error.message
    assert hint is ... or hint == error.hint


def test_a_job_that_ran_can_be_changed_without_its_folder() -> None:
    job = Job(experiment="x", entry_script="train.py", source_directory="/gone", script_params={"--epochs": 3})
    assert changed_job(job, ["script_params.--epochs=5"], "x-0001").script_params == {"--epochs": "5"}
    with pytest.raises(JobError, match=r"^--set: `source_directory` belongs to the snapshot of `x-0001`"):
        changed_job(job, ["source_directory=."], "x-0001")


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=60) | st.binary(max_size=60))
def test_any_text_is_a_job_or_an_error_in_words(tmp_path_factory: pytest.TempPathFactory, text: str | bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "job.yaml"
    path.write_bytes(text.encode(errors="surrogatepass") if isinstance(text, str) else text)
    with pytest.raises(TensoryardError, match=r"job\.yaml"):
        load_job(path)


@settings(max_examples=300, deadline=None)
@given(
    field=st.sampled_from(Job.__struct_fields__),
    value=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
        lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=8), inner, max_size=2),
        max_leaves=4,
    ),
)
def test_any_value_of_a_field_is_taken_or_refused_in_words(
    tmp_path_factory: pytest.TempPathFactory, field: str, value: object
) -> None:
    folder = tmp_path_factory.getbasetemp()
    (folder / "train.py").touch()
    text = yaml.safe_dump({"entry_script": "train.py", field: value}, allow_unicode=True)
    (folder / "job.yaml").write_text(text, encoding="utf-8")
    with suppress(TensoryardError):
        load_job(folder)
