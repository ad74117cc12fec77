"""Azure ML's run: what it tells, how it is waited for, its files and tags."""

import io
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from azureml_runs import completed
from launching import Yard, in_a_folder, wait_until
from tensoryard.azureml.core import Experiment, Run, Workspace
from tensoryard.azureml.exceptions import ActivityFailedException
from tensoryard.azureml.train.dnn import TensorFlow
from tensoryard.azureml.widgets import RunDetails
from tensoryard.cli.runs import runs
from tensoryard.errors import (
    AlreadyExistsError,
    NotFoundError,
    UsageError,
)
from tensoryard.store import is_folder


def test_a_run_tells_its_status_details_metrics_and_files(
    ws: Workspace, estimator: Callable[..., TensorFlow]
) -> None:
    run = Experiment(workspace=ws, name="tf-mnist").submit(estimator(), tags={"purpose": "test"})
    details = run.wait_for_completion()
    assert (run.id, run.number, run.experiment.name, run.get_status()) == (
        "tf-mnist-0001",
        1,
        "tf-mnist",
        "Completed",
    )
    assert details == run.get_details()
    assert {name: details[name] for name in ("runId", "target", "status", "tags")} == {
        "runId": "tf-mnist-0001",
        "target": "local",
        "status": "Completed",
        "tags": {"purpose": "test"},
    }
    assert details["startTimeUtc"] <= details["endTimeUtc"]
    assert "error" not in details
    where = details["logFiles"]["logs/worker-0.log"]
    said = Path(where).read_bytes() if is_folder(ws.store) else ws.store.read(where)
    assert said == b"trained tf-mnist-0001\n"
    assert run.get_metrics() == {"loss": [0.5, 0.25], "accuracy": 0.9}
    assert run.get_metrics("accuracy") == {"accuracy": 0.9}
    assert run.get_file_names() == [
        "logs/launch.log",
        "logs/worker-0.log",
        "metrics/worker-0.jsonl",
        "outputs/argv.json",
        "outputs/model/saved_model.pb",
        "outputs/model/variables/data",
        "outputs/one.txt",
    ]
    assert {"snapshot", "environment"} <= {*run.get_properties()}
    assert repr(ws.get_run("latest")) == "Run(Experiment: tf-mnist, Id: tf-mnist-0001, Status: Completed)"


@in_a_folder
def test_output_is_shown_as_it_comes(
    ws: Workspace, estimator: Callable[..., TensorFlow], capsys: pytest.CaptureFixture[str]
) -> None:
    Experiment(ws, "tf-mnist").submit(estimator()).wait_for_completion(show_output=True)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "RunId: tf-mnist-0001"
    assert "worker-0 | trained tf-mnist-0001" in lines
    assert [line for line in lines if line in ("Preparing", "Scaling", "Running", "Completed")] == [
        "Preparing",
        "Scaling",
        "Running",
        "Completed",
    ]


@in_a_folder
def test_a_failed_run_raises_its_reason_and_the_end_of_its_log(
    ws: Workspace, estimator: Callable[..., TensorFlow]
) -> None:
    run = Experiment(ws, "test").submit(estimator("print('so far'); raise ValueError('no such data')"))
    with pytest.raises(ActivityFailedException) as caught:
        run.wait_for_completion(show_output=True)
    assert "exited with code 1" in str(caught.value)
    assert "ValueError: no such data" in str(caught.value)
    details = run.wait_for_completion(raise_on_error=False)
    assert details["status"] == "Failed"
    assert "no such data" in details["error"]["error"]["message"]


@in_a_folder
def test_cancel_stops_a_run_and_waiting_for_it_raises_nothing(
    ws: Workspace, estimator: Callable[..., TensorFlow]
) -> None:
    script = "import time; open('outputs/started', 'w').close(); time.sleep(1000)"
    run = Experiment(ws, "test").submit(estimator(script))
    wait_until(lambda: (ws.work_folder(run.id) / "outputs" / "started").exists(), "the script has started")
    wait_until(lambda: run.get_status() == "Running", "that is told")
    run.cancel()
    assert run.wait_for_completion()["status"] == "Canceled"


@in_a_folder
def test_a_waiting_run_is_queued_as_azure_ml_calls_it(ws: Workspace, estimator: Callable[..., TensorFlow]) -> None:
    script = "import os, time\nwhile not os.path.exists('outputs/go'): time.sleep(0.01)"
    first = Experiment(ws, "test").submit(estimator(script))
    second = Experiment(ws, "test").submit(estimator())
    wait_until(lambda: second.get_status() == "Queued" and first.get_status() == "Running", "one waits")
    (ws.work_folder(first.id) / "outputs" / "go").touch()
    assert second.wait_for_completion()["status"] == "Completed"


@pytest.mark.parametrize("show_output", [False, True])
@in_a_folder
def test_waiting_brings_a_killed_controller_back(
    ws: Workspace, yard: Yard, estimator: Callable[..., TensorFlow], show_output: bool
) -> None:
    script = "import os, time\nopen('outputs/started', 'w').close()\n"
    script += "while not os.path.exists('outputs/go'): time.sleep(0.01)"
    run = Experiment(ws, "test").submit(estimator(script))
    wait_until(lambda: (ws.work_folder(run.id) / "outputs" / "started").exists(), "the script has started")
    yard.controllers[0].kill()
    yard.controllers[0].join()
    (ws.work_folder(run.id) / "outputs" / "go").touch()
    assert run.wait_for_completion(show_output=show_output)["status"] == "Completed"
    assert len(yard.controllers) > 1


@in_a_folder
def test_waiting_from_a_thread_works(ws: Workspace, estimator: Callable[..., TensorFlow]) -> None:
    run = Experiment(ws, "test").submit(estimator())
    seen: list[str] = []
    thread = threading.Thread(target=lambda: seen.append(run.wait_for_completion(show_output=True)["status"]))
    thread.start()
    thread.join()
    assert seen == ["Completed"]


def test_files_are_downloaded_by_name_and_by_prefix(
    ws: Workspace, estimator: Callable[..., TensorFlow], tmp_path: Path
) -> None:
    run = completed(ws, estimator)
    run.download_file("outputs/one.txt")
    (tmp_path / "there").mkdir()
    run.download_file(name="outputs/one.txt", output_file_path="there")
    run.download_file("outputs/one.txt", "new/renamed")
    for path in ("one.txt", "there/one.txt", "new/renamed"):
        assert (tmp_path / path).read_text() == "one"
    run.download_files(prefix="outputs/model", output_directory="all")
    run.download_files(prefix="outputs/model", output_directory="bare", append_prefix=False)
    assert (tmp_path / "all/outputs/model/variables/data").read_text() == "numbers"
    assert (tmp_path / "bare/variables/data").read_text() == "numbers"
    run.download_files("outputs/model/s", output_paths=["x.pb"])
    assert (tmp_path / "x.pb").read_text() == "graph"
    with pytest.raises(NotFoundError) as caught:
        run.download_file("outputs/oen.txt")
    assert caught.value.hint == "did you mean `outputs/one.txt`?"
    with pytest.raises(NotFoundError, match="starts with `nothing`"):
        run.download_files("nothing")
    with pytest.raises(UsageError, match="got 1 different paths for 2 files"):
        run.download_files("outputs/model", output_paths=["same", "same"])


def test_a_file_can_be_added_once_and_registered(
    ws: Workspace,
    estimator: Callable[..., TensorFlow],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = completed(ws, estimator)
    monkeypatch.setattr(Workspace, "from_config", lambda: ws)
    (tmp_path / "plot.png").write_bytes(b"picture")
    run.upload_file("outputs/plots/plot.png", "plot.png")
    run.upload_file(name="notes.txt", path_or_stream=io.BytesIO(b"note"))
    assert {"outputs/plots/plot.png", "notes.txt"} <= {*run.get_file_names()}
    for taken in ("outputs/plots/plot.png", "outputs/one.txt"):
        with pytest.raises(AlreadyExistsError):
            run.upload_file(taken, "plot.png")
    for odd in ("../escape", "/absolute", "a/../../b"):
        with pytest.raises(UsageError):
            run.upload_file(odd, "plot.png")
    run.download_file("outputs/plots/plot.png", "back.png")
    assert (tmp_path / "back.png").read_bytes() == b"picture"
    command = CliRunner().invoke(runs, ["download", run.id, "outputs/plots", "--to", "by-command"])
    assert command.exit_code == 0
    assert (tmp_path / "by-command/outputs/plots/plot.png").read_bytes() == b"picture"
    model = run.register_model("plots", "outputs/plots")
    assert Path(model.download("got"), "plot.png").read_bytes() == b"picture"
    both = run.register_model("all", "outputs")
    assert {path.name for path in Path(both.download("both")).rglob("*.*")} == {
        "argv.json",
        "saved_model.pb",
        "one.txt",
        "plot.png",
    }


def test_tags_are_added_and_found(ws: Workspace, estimator: Callable[..., TensorFlow]) -> None:
    first, second = completed(ws, estimator), completed(ws, estimator, tags={"kind": "b"})
    first.tag("kind", "a")
    first.tag("seen")
    assert first.get_tags() == {"kind": "a", "seen": ""}
    runs = Experiment(ws, "tf-mnist")
    assert [run.id for run in runs.get_runs()] == [second.id, first.id]
    assert [run.id for run in runs.get_runs(tags={"kind": "a"})] == [first.id]
    assert [run.id for run in runs.get_runs(tags="kind")] == [second.id, first.id]
    snapshot = first.get_properties()["snapshot"]
    assert [run.id for run in runs.get_runs(properties={"snapshot": snapshot})] == [second.id, first.id]
    assert [*Experiment(ws, "other").get_runs()] == []
    with pytest.raises(UsageError, match="leave it out"):
        next(runs.get_runs(type="azureml.scriptrun"))


@in_a_folder
def test_logging_from_outside_of_the_script_is_answered_with_where_to(
    ws: Workspace, estimator: Callable[..., TensorFlow]
) -> None:
    run = Experiment(ws, "tf-mnist").submit(estimator())
    with pytest.raises(AttributeError, match=r"no `log`: metrics are logged in the script, `Run.get_context"):
        run.log("loss", 0.5)  # type: ignore[attr-defined]
    run.wait_for_completion()


@in_a_folder
def test_a_run_that_is_not_there_names_the_nearest(ws: Workspace, estimator: Callable[..., TensorFlow]) -> None:
    completed(ws, estimator)
    with pytest.raises(NotFoundError) as caught:
        Run.get(ws, "tf-mnsit-0001")
    assert "tf-mnist-0001" in (caught.value.hint or "")


def test_resume_from_takes_a_run(ws: Workspace, estimator: Callable[..., TensorFlow]) -> None:
    first = completed(ws, estimator)
    second = completed(ws, estimator, script="print(open('outputs/one.txt').read())", resume_from=first)
    second.download_file("logs/worker-0.log", "log")
    assert Path("log").read_text() == "one\n"


def test_a_script_by_hand_has_a_context_that_prints(capsys: pytest.CaptureFixture[str]) -> None:
    Run.get_context().log("loss", 0.5)
    assert capsys.readouterr().out == "loss: 0.5\n"


@in_a_folder
def test_run_details_prints_where_a_run_stands(
    ws: Workspace, estimator: Callable[..., TensorFlow], capsys: pytest.CaptureFixture[str]
) -> None:
    RunDetails(completed(ws, estimator)).show()
    assert capsys.readouterr().out == (
        "Run(Experiment: tf-mnist, Id: tf-mnist-0001, Status: Completed)\n  loss: 0.25\n  accuracy: 0.9\n"
    )
