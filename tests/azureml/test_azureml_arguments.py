"""
The arguments of Azure ML's SDK v1, in its order: those that mean something here, and those refused in words.

Source: azureml-core 1.61.0.post4 and its documentation; arguments that begin with _ are left out, but for one.
"""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from azureml_runs import completed
from launching import in_a_folder
from tensoryard import context
from tensoryard.azureml.core import Datastore, Experiment, Model, Run, ScriptRunConfig, Workspace
from tensoryard.azureml.core.runconfig import MpiConfiguration, TensorflowConfiguration
from tensoryard.azureml.train.dnn import TensorFlow
from tensoryard.errors import NotFoundError, UsageError

LABELS = "model_framework model_framework_version"
DATASETS = "sample_input_dataset sample_output_dataset resource_configuration"
ARGUMENTS: dict[str, tuple[Callable[..., Any], str]] = {
    "Workspace.from_config": (Workspace.from_config, "path auth"),
    "Workspace.get_run": (Workspace.get_run, "run_id"),
    "Datastore": (Datastore, "workspace name"),
    "Datastore.get": (Datastore.get, "workspace datastore_name"),
    "Datastore.path": (Datastore.path, "path data_reference_name"),
    "Datastore.upload": (Datastore.upload, "src_dir target_path overwrite show_progress"),
    "Datastore.upload_files": (
        Datastore.upload_files,
        "files relative_root target_path overwrite show_progress",
    ),
    "Datastore.download": (Datastore.download, "target_path prefix overwrite show_progress"),
    "Experiment": (Experiment, "workspace name"),
    "Experiment.list": (Experiment.list, "workspace experiment_name view_type tags"),
    "Experiment.submit": (Experiment.submit, "config tags"),
    "Experiment.get_runs": (Experiment.get_runs, "type tags properties include_children"),
    "MpiConfiguration": (MpiConfiguration, "process_count_per_node node_count"),
    "TensorflowConfiguration": (TensorflowConfiguration, "worker_count parameter_server_count"),
    "ScriptRunConfig": (ScriptRunConfig, "source_directory script arguments"),
    "Run": (Run, "experiment run_id"),
    "Run.get": (Run.get, "workspace run_id"),
    "Run.get_context": (Run.get_context, "allow_offline"),
    "Run.get_metrics": (Run.get_metrics, "name recursive run_type populate"),
    "Run.tag": (Run.tag, "key value"),
    "Run.upload_file": (Run.upload_file, "name path_or_stream datastore_name"),
    "Run.download_file": (Run.download_file, "name output_file_path"),
    "Run.download_files": (
        Run.download_files,
        "prefix output_directory output_paths batch_size append_prefix timeout_seconds",
    ),
    "Run.wait_for_completion": (Run.wait_for_completion, "show_output wait_post_processing raise_on_error"),
    "Run.register_model": (
        Run.register_model,
        f"model_name model_path tags properties {LABELS} description datasets {DATASETS}",
    ),
    "the script's Run.get_context": (context.Run.get_context, "allow_offline"),
    "the script's Run.log": (context.Run.log, "name value description step"),
    "the script's Run.log_list": (context.Run.log_list, "name value description"),
    "the script's Run.log_row": (context.Run.log_row, "name description"),
    "Model": (Model, "workspace name id tags properties version run_id model_framework expand"),
    "Model.register": (
        Model.register,
        f"workspace model_path model_name tags properties description datasets {LABELS} child_paths {DATASETS}",
    ),
    "Model.list": (
        Model.list,
        "workspace name tags properties run_id latest dataset_id expand page_count model_framework",
    ),
    "Model.download": (Model.download, "target_dir exist_ok exists_ok"),
    "Model.get_model_path": (Model.get_model_path, "model_name version _workspace"),
}


@pytest.mark.parametrize("name", ARGUMENTS)
def test_arguments_are_those_of_the_sdk_in_its_order(name: str) -> None:
    """What is ours alone comes after them, or by its name only."""
    function, arguments = ARGUMENTS[name]
    named = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    found = [one.name for one in inspect.signature(function).parameters.values() if one.kind in named]
    found = found[1:] if found[0] == "self" else found

    assert found[: len(arguments.split())] == arguments.split()


@in_a_folder
def test_arguments_that_mean_something_here_mean_the_same(
    ws: Workspace, estimator: Callable[..., TensorFlow], tmp_path: Path
) -> None:
    run = completed(ws, estimator)
    experiment = run.experiment
    assert run.get_metrics("accuracy", True, "azureml.scriptrun", True) == {run.id: {"accuracy": 0.9}}
    assert [one.id for one in experiment.get_runs(include_children=True)] == [run.id]
    assert [one.name for one in Experiment.list(ws, view_type="All")] == ["tf-mnist"]
    assert Experiment.list(ws, view_type="ArchivedOnly") == []
    run.download_files("outputs/model", "bare", None, 1, False)
    assert (tmp_path / "bare" / "saved_model.pb").read_text() == "graph"
    for datastore_name in ("default", "workspaceblobstore"):
        run.upload_file(f"{datastore_name}.pb", "bare/saved_model.pb", datastore_name)
    with pytest.raises(NotFoundError, match="there is no `other`, this workspace has `default`"):
        run.upload_file("other.pb", "bare/saved_model.pb", "other")
    first = run.register_model("digits", "outputs/model", model_framework="TensorFlow")
    run.register_model("digits", "outputs/model")
    assert Model(ws, "digits", model_framework="TensorFlow", expand=False).id == first.id
    assert [model.id for model in Model.list(ws, "digits", None, None, run.id, True)] == ["digits:2"]
    first.download("here")
    assert first.download("here", exists_ok=True) == "here/model"


def test_values_are_in_the_order_of_their_steps_where_all_have_one(
    tmp_path: Path, ws: Workspace, estimator: Callable[..., TensorFlow]
) -> None:
    script = "from tensoryard import Run\nrun = Run.get_context(allow_offline=False)\n"
    script += "for step in (3, 1, 2): run.log('loss', step / 10, 'of training', step); run.log('seen', step)\n"
    script += "run.log('some', 1, step=9); run.log('some', 2)"

    assert completed(ws, estimator, script=script).get_metrics() == {
        "loss": [0.1, 0.2, 0.3],
        "seen": [3, 1, 2],
        "some": [1, 2],
    }


def test_a_script_that_may_not_run_by_hand_says_how_to_start_it() -> None:
    with pytest.raises(RuntimeError, match="start the script by `tyard run`"):
        Run.get_context(allow_offline=False)


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("auth", lambda ws, argument: Workspace.from_config(**argument)),
        ("data_reference_name", lambda ws, argument: ws.get_default_datastore().path("mnist", **argument)),
        ("tags", lambda ws, argument: Experiment.list(ws, **argument)),
        ("dataset_id", lambda ws, argument: Model.list(ws, **argument)),
        ("child_paths", lambda ws, argument: Model.register(ws, "model", "digits", **argument)),
        ("datasets", lambda ws, argument: Model.register(ws, "model", "digits", **argument)),
        ("sample_input_dataset", lambda ws, argument: Model.register(ws, "model", "digits", **argument)),
        ("resource_configuration", lambda ws, argument: Model.register(ws, "model", "digits", **argument)),
        ("run_config", lambda ws, argument: ScriptRunConfig(".", "train.py", **argument)),
    ],
)
def test_an_argument_that_means_nothing_here_is_refused_with_what_to_do(
    tmp_path: Path, name: str, call: Callable[[Workspace, dict[str, Any]], Any]
) -> None:
    with pytest.raises(UsageError, match=f"`{name}` is not supported") as caught:
        call(Workspace(tmp_path / "workspace"), {name: "given"})

    assert caught.value.hint
    assert list(tmp_path.iterdir()) == []


@in_a_folder
def test_arguments_of_a_run_that_mean_nothing_here_are_refused(
    ws: Workspace, estimator: Callable[..., TensorFlow]
) -> None:
    run = completed(ws, estimator)
    with pytest.raises(UsageError, match="`timeout_seconds` is not supported"):
        run.download_files("outputs", timeout_seconds=60)
    for name in ("datasets", *DATASETS.split()):
        with pytest.raises(UsageError, match=f"`{name}` is not supported"):
            run.register_model("digits", "outputs/model", **{name: "given"})
    assert Model.list(ws) == []
