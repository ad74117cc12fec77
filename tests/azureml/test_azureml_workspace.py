"""Azure ML's workspace, its parts, and the import lines of the migration page."""

from collections.abc import Callable
from pathlib import Path

import pytest

from azureml_runs import completed
from tensoryard.azureml.core import ComputeTarget, Datastore, Experiment, Workspace
from tensoryard.azureml.core.compute_target import ComputeTargetException
from tensoryard.azureml.train.dnn import TensorFlow
from tensoryard.errors import (
    JobError,
    UsageError,
)
from tensoryard.job import DatastoreReference


def test_it_lists_what_it_has(ws: Workspace, estimator: Callable[..., TensorFlow]) -> None:
    completed(ws, estimator)
    assert (ws.name, [*ws.experiments], [*ws.datastores], [*ws.compute_targets]) == (
        "local",
        ["tf-mnist"],
        ["default"],
        ["local"],
    )
    assert ws.get_details()["name"] == "local"
    assert Datastore.get_default(ws).path("x") == DatastoreReference("default", "x")


def test_a_compute_target_that_is_not_there_names_those_that_are(
    ws: Workspace, estimator: Callable[..., TensorFlow]
) -> None:
    with pytest.raises(ComputeTargetException, match="there is no `gpu-cluster`, this workspace has `local`"):
        ComputeTarget(workspace=ws, name="gpu-cluster")
    target = ComputeTarget(workspace=ws, name="local")
    assert estimator(compute_target=target).job("test").compute_target == "local"
    with pytest.raises(JobError, match="compute_target: got `gpu-cluster`"):
        Experiment(ws, "test").submit(estimator(compute_target="gpu-cluster"))


@pytest.mark.parametrize(
    "call",
    [
        lambda: Workspace.create(name="x", subscription_id="y"),
        lambda: Workspace.get("x", subscription_id="y"),
    ],
)
def test_what_is_not_made_from_python_says_what_to_do(call: Callable[[], object]) -> None:
    with pytest.raises(UsageError) as caught:
        call()
    assert caught.value.hint


def test_classes_that_are_gone_say_what_to_use() -> None:
    with pytest.raises(ImportError, match=r"ds.upload"):
        from tensoryard.azureml.core import Dataset  # noqa: F401


def test_experiments_need_a_name_that_is_one(ws: Workspace) -> None:
    with pytest.raises(UsageError, match="experiment: got `a b`"):
        Experiment(ws, "a b")
    with pytest.raises(JobError, match="expected `TensorFlow"):
        Experiment(ws, "test").submit("train.py")  # type: ignore[arg-type]


def test_every_import_line_of_the_migration_page_works() -> None:
    page = Path(__file__).parents[2] / "docs" / "migrate-from-azureml.md"
    lines = [line for line in page.read_text().splitlines() if line.startswith("from tensoryard")]
    assert len(lines) > 3
    for line in lines:
        exec(line, {})
