"""Azure ML's model: registered from a run or a folder, found again, downloaded."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from azureml_runs import completed
from launching import in_a_folder
from tensoryard.azureml.core import Model, Workspace
from tensoryard.azureml.train.dnn import TensorFlow
from tensoryard.errors import (
    AlreadyExistsError,
    NotFoundError,
    TensoryardError,
    UsageError,
)


def test_a_folder_of_a_run_becomes_a_version_and_comes_back(
    ws: Workspace, estimator: Callable[..., TensorFlow], tmp_path: Path
) -> None:
    run = completed(ws, estimator, tags={"data": "mnist"})
    model = run.register_model(
        model_name="tf-dnn-mnist", model_path="outputs/model", tags={"a": "b"}, description="first"
    )
    assert (model.name, model.version, model.id, model.run_id) == ("tf-dnn-mnist", 1, "tf-dnn-mnist:1", run.id)
    assert (model.tags, model.description) == ({"data": "mnist", "a": "b"}, "first")
    assert abs((datetime.now(UTC) - model.created_time).total_seconds()) < 3600
    path = model.download(target_dir="here")
    assert path == "here/model"
    assert (tmp_path / path / "variables/data").read_text() == "numbers"
    with pytest.raises(AlreadyExistsError, match="is there already"):
        model.download("here")
    (tmp_path / path / "saved_model.pb").write_text("changed")
    assert model.download("here", exist_ok=True) == path
    assert (tmp_path / path / "saved_model.pb").read_text() == "graph"
    assert {entry.name for entry in (tmp_path / "here").iterdir()} == {"model"}


def test_one_file_of_a_run_comes_back_as_a_file(
    ws: Workspace, estimator: Callable[..., TensorFlow], tmp_path: Path
) -> None:
    model = completed(ws, estimator).register_model("one", "./outputs//one.txt")
    assert model.download("here") == "here/one.txt"
    assert (tmp_path / "here/one.txt").read_text() == "one"
    assert Model.get_model_path("one", _workspace=ws) == "tensoryard-models/one/1/one.txt"


def test_models_are_found_by_name_number_alias_and_tag(ws: Workspace, estimator: Callable[..., TensorFlow]) -> None:
    run = completed(ws, estimator)
    first = run.register_model("digits", "outputs/model", tags={"stage": "old"})
    second = run.register_model("digits", "outputs/model", tags={"stage": "new"})
    run.register_model("other", "outputs/one.txt")
    ws.registry.alias("digits", "champion", 1)
    assert Model(ws, "digits").version == 2
    assert Model(ws, name="digits", version=1).id == first.id
    assert Model(ws, id="digits:1").id == Model(ws, id="digits@champion").id == first.id
    assert Model(ws, "digits", tags=[["stage", "old"]]).id == first.id
    assert [model.id for model in Model.list(ws)] == [second.id, first.id, "other:1"]
    assert [model.id for model in Model.list(ws, name="digits", tags=[["stage", "new"]])] == [second.id]
    assert [model.id for model in Model.list(ws, tags=["stage"], latest=True)] == [second.id]
    assert [model.id for model in Model.list(ws, run_id=run.id, latest=True)] == [second.id, "other:1"]
    assert Model.list(ws, run_id="mnist-9999") == Model.list(ws, model_framework="TensorFlow", page_count=1) == []
    assert {name: model.version for name, model in ws.models.items()} == {"digits": 2, "other": 1}
    with pytest.raises(NotFoundError):
        Model(ws, "digits", tags=["nothing"])
    with pytest.raises(NotFoundError, match="there is no such model"):
        Model(ws, "digit")
    with pytest.raises(UsageError, match="either a name or an id"):
        Model(ws)
    second.delete()
    assert Model(ws, "digits").version == 1


def test_local_files_are_registered(ws: Workspace, tmp_path: Path) -> None:
    (tmp_path / "exported").mkdir()
    (tmp_path / "exported" / "a").write_text("1")
    model = Model.register(ws, model_path="exported", model_name="mine", tags={"a": "b"})
    assert Path(model.download("here"), "a").read_text() == "1"
    assert Model.get_model_path("mine", 1, ws) == "tensoryard-models/mine/1/exported"


def test_a_download_that_cannot_be_written_is_an_error_of_ours(ws: Workspace, tmp_path: Path) -> None:
    (tmp_path / "one.txt").write_text("1")
    model = Model.register(ws, "one.txt", "mine", model_framework="TensorFlow", model_framework_version="2.21")
    assert model.properties == {"model_framework": "TensorFlow", "model_framework_version": "2.21"}
    (tmp_path / "here" / "one.txt" / "x").mkdir(parents=True)
    with pytest.raises(TensoryardError):
        model.download("here", exist_ok=True)
    with pytest.raises(TensoryardError):
        model.download("one.txt")


@in_a_folder
def test_a_path_that_the_run_does_not_have_is_told(ws: Workspace, estimator: Callable[..., TensorFlow]) -> None:
    with pytest.raises(NotFoundError) as caught:
        completed(ws, estimator).register_model("digits", "outputs/modle")
    assert caught.value.hint == "did you mean `outputs/model`?"
