"""The job's own rules, as Python programs meet them."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from launching import parameter_server
from tensoryard.errors import JobError, LayoutError
from tensoryard.job import DatastoreReference, Job, decode_job, encode_job

TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=10)


@given(
    params=st.dictionaries(TEXTS, TEXTS | st.integers(-(2**63), 2**63 - 1) | st.none(), max_size=4),
    tags=st.dictionaries(TEXTS, TEXTS, max_size=4),
    packages=st.lists(TEXTS, max_size=3),
)
def test_a_job_is_the_same_after_its_record(
    params: dict[str, str | int | None], tags: dict[str, str], packages: list[str]
) -> None:
    job = Job(experiment="x", entry_script="a.py", script_params=params, tags=tags, pip_packages=tuple(packages))
    assert decode_job(encode_job(job)) == job
    assert [*decode_job(encode_job(job)).script_params] == [*params], "arguments keep their order"


def test_a_record_holds_what_was_asked_for_only() -> None:
    assert msgspec.json.decode(encode_job(Job(experiment="x", entry_script="a.py"))) == {
        "experiment": "x",
        "entry_script": "a.py",
    }


def test_arguments_are_in_the_order_they_were_given() -> None:
    data = DatastoreReference("default", "mnist")
    job = Job(
        experiment="x",
        entry_script="a.py",
        script_params={"--b": 1, "--a": 1e-05, "--flag": None, "--data": data, "": ""},
    )
    assert job.arguments({data: "/d"}) == ["--b", "1", "--a", "1e-05", "--flag", "--data", "/d", "", ""]


@pytest.mark.parametrize(
    ("fields", "names"),
    [
        ({}, ["worker-0"]),
        (
            {"distributed_training": "mpi", "node_count": 2, "process_count_per_node": 2},
            [f"rank-{n}" for n in range(4)],
        ),
        ({"distributed_training": "multi_worker_mirrored", "node_count": 2}, ["worker-0", "worker-1"]),
        (
            {"distributed_training": parameter_server(worker_count=2, evaluator=True)},
            ["chief-0", "worker-0", "worker-1", "ps-0", "evaluator-0"],
        ),
    ],
)
def test_tasks_of_each_way(fields: dict[str, object], names: list[str]) -> None:
    assert [task.name for task in Job(**{"experiment": "x", "entry_script": "a.py"} | fields).tasks()] == names


def test_too_many_tasks_for_the_slots_name_the_way_on() -> None:
    with pytest.raises(LayoutError) as caught:
        Job(
            experiment="x",
            entry_script="a.py",
            distributed_training=parameter_server(worker_count=4),
            node_count=2,
            process_count_per_node=2,
        )
    assert caught.value.hint == "set `process_count_per_node` to 3, or `node_count` to 3"


@pytest.mark.parametrize("script", ["/etc/passwd", "../a.py", "a/../../b.py", ""])
def test_a_script_outside_of_the_source_folder_is_refused(script: str) -> None:
    with pytest.raises(JobError, match=r"^entry_script: got .* it must be a path inside source_directory\n\nhint: "):
        Job(experiment="x", entry_script=script)


@pytest.mark.parametrize("name", ["UID", "SHLVL", "_", "BASH_COMMAND", "PWD"])
def test_a_name_that_bash_keeps_to_itself_is_refused(name: str) -> None:
    with pytest.raises(JobError, match=f"got the name `{name}`, which cannot be set: bash keeps it for itself"):
        Job(experiment="x", entry_script="a.py", environment_variables={name: "1"})
