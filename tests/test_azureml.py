"""Azure ML's names: runs go through the real controller, in an environment that has no TensorFlow."""

import io
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner

from launching import Yard, in_a_folder, wait_until
from tensoryard.azureml.core import ComputeTarget, Datastore, Experiment, Model, Run, ScriptRunConfig, Workspace
from tensoryard.azureml.core.compute_target import ComputeTargetException
from tensoryard.azureml.core.runconfig import MpiConfiguration, TensorflowConfiguration
from tensoryard.azureml.exceptions import ActivityFailedException
from tensoryard.azureml.train.dnn import TensorFlow
from tensoryard.azureml.widgets import RunDetails
from tensoryard.cli.runs import runs
from tensoryard.errors import (
    AlreadyExistsError,
    JobError,
    LayoutError,
    NotFoundError,
    TensoryardError,
    UsageError,
)
from tensoryard.job import DatastoreReference, ParameterServer, ParameterServerTraining
from tensoryard.store import is_folder

MODEL_SCRIPT = """
import json, os, sys
from tensoryard.azureml.core import Run
run = Run.get_context()
run.log("loss", 0.5)
run.log("loss", 0.25)
run.log("accuracy", 0.9)
os.makedirs("outputs/model/variables")
open("outputs/model/saved_model.pb", "w").write("graph")
open("outputs/model/variables/data", "w").write("numbers")
open("outputs/one.txt", "w").write("one")
json.dump(sys.argv[1:], open("outputs/argv.json", "w"))
print("trained", run.id)
"""


@pytest.fixture
def ws(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """A workspace whose controller builds no environment."""
    monkeypatch.setattr(
        "tensoryard.controller_process.spawn_controller", lambda workspace: yard.start_controller(workspace=workspace)
    )
    monkeypatch.chdir(yard.folder)
    return yard.workspace


@pytest.fixture
def estimator(yard: Yard) -> Callable[..., TensorFlow]:
    """Makes an estimator of a script's text."""

    def make(script: str = MODEL_SCRIPT, **arguments: Any) -> TensorFlow:
        return TensorFlow(source_directory=str(yard.source(script)), entry_script="train.py", **arguments)

    return make


def completed(ws: Workspace, estimator: Callable[..., TensorFlow], **arguments: Any) -> Run:
    run = Experiment(ws, "tf-mnist").submit(estimator(**arguments))
    run.wait_for_completion()
    return run


class TestEstimator:
    @in_a_folder
    def test_values_of_script_params_are_passed_as_str_makes_them(
        self, ws: Workspace, estimator: Callable[..., TensorFlow], tmp_path: Path
    ) -> None:
        """Azure ML dropped an empty string and passed its name alone; here None does that."""
        params = {
            "--n": 50,
            "--rate": 0.1,
            "--on": True,
            "--flag": None,
            "--empty": "",
            "--odd": "a 'b' $c\n\"",
            7: 8,
        }
        params |= {"--nan": float("nan"), "--big": 10**30, "--path": tmp_path}
        run = completed(ws, estimator, script_params=params)
        run.download_file("outputs/argv.json", "argv.json")
        expected = ["--n", "50", "--rate", "0.1", "--on", "True", "--flag", "--empty", "", "--odd", "a 'b' $c\n\""]
        expected += ["7", "8", "--nan", "nan", "--big", str(10**30), "--path", str(tmp_path)]
        assert msgspec.json.decode(Path("argv.json").read_bytes()) == expected

    @pytest.mark.parametrize(
        ("arguments", "error", "message", "hint"),
        [
            ({"node_cout": 2}, JobError, "there is no argument `node_cout`", "did you mean `node_count`?"),
            ({"shm_size": "2g"}, JobError, "`shm_size` means nothing here", "/dev/shm"),
            (
                {"image_registry_details": "a.io"},
                JobError,
                "`image_registry_details` means nothing",
                "`docker login`",
            ),
            ({"user_managed": True}, JobError, "user_managed: names no image", "name it in `image`"),
            ({"custom_docker_image": "a:b", "use_docker": False}, JobError, "base_image: is for images", "`runtime`"),
            ({"custom_docker_image": "A"}, JobError, "base_image: got `A`", None),
            ({"runtime": "docker"}, JobError, "runtime: got 'docker'", None),
            ({"vm_size": "Standard_NC6"}, JobError, "`vm_size` means nothing here", "`compute_target`"),
            ({"conda_dependencies_file": "c.yml"}, JobError, "means nothing here", "`conda_packages`"),
            ({"node_count": "2"}, JobError, "node_count: got '2', expected `int`", None),
            ({"pip_packages": "numpy"}, JobError, "pip_packages: got 'numpy'", None),
            ({"framework_version": 2.1}, JobError, "framework_version: got 2.1", None),
            ({"node_count": 2}, LayoutError, "without distributed_training", "set `distributed_training`"),
            ({"entry_script": "trian.py"}, JobError, "`trian.py` is not a file", "the folder holds `train.py`"),
            ({"distributed_training": MpiConfiguration}, JobError, "distributed_training: got <class", None),
            (
                {"distributed_training": TensorflowConfiguration(3, 0), "node_count": 2},
                LayoutError,
                "worker_count: got 3, but node_count 2 x process_count_per_node 1 makes 2 workers",
                "make the two numbers equal",
            ),
            (
                {"distributed_training": MpiConfiguration(4), "process_count_per_node": 2},
                LayoutError,
                "process_count_per_node: got 2, and 4 in distributed_training",
                "in one place",
            ),
            ({"inputs": {"a": "mnist"}}, JobError, "inputs", None),
            ({"compute_target": 3}, JobError, "compute_target: got 3", None),
        ],
    )
    @in_a_folder
    def test_mistakes_are_told_with_what_to_do(
        self, yard: Yard, arguments: dict[str, Any], error: type[TensoryardError], message: str, hint: str | None
    ) -> None:
        source = yard.source("")
        with pytest.raises(error) as caught:
            TensorFlow(source_directory=source, **({"entry_script": "train.py"} | arguments)).job("test")
        assert message in caught.value.message
        assert hint is None or hint in (caught.value.hint or "")

    @in_a_folder
    def test_what_azure_ml_was_told_not_to_do_is_accepted(self, estimator: Callable[..., TensorFlow]) -> None:
        estimator(use_docker=False, user_managed=False, shm_size=None, environment_definition=None).job("test")

    @pytest.mark.parametrize(
        ("arguments", "expected"),
        [
            ({"use_docker": True}, ("image", None, None)),
            ({"custom_docker_image": "python:3.11"}, (None, "python:3.11", None)),
            ({"use_docker": True, "custom_docker_base_image": "python:3.11"}, ("image", "python:3.11", None)),
            (
                {"use_docker": True, "custom_docker_image": "python:3.11", "user_managed": True},
                (None, None, "python:3.11"),
            ),
            ({"image": "python:3.11"}, (None, None, "python:3.11")),
        ],
    )
    @in_a_folder
    def test_azure_ml_s_names_for_images_are_ours(
        self, estimator: Callable[..., TensorFlow], arguments: dict[str, Any], expected: tuple[str | None, ...]
    ) -> None:
        job = estimator(**arguments).job("test")
        assert (job.runtime, job.base_image, job.image) == expected
        assert job.in_image

    @in_a_folder
    def test_the_older_name_of_the_requirements_file_works(self, yard: Yard) -> None:
        source = yard.source("")
        (source / "requirements.txt").write_text("numpy\n")
        est = TensorFlow(source, entry_script="train.py", pip_requirements_file_path="requirements.txt")
        assert est.job("test").pip_requirements_file == "requirements.txt"

    @in_a_folder
    def test_layouts_are_those_of_a_job(self, estimator: Callable[..., TensorFlow]) -> None:
        servers = TensorflowConfiguration()
        servers.worker_count = 2
        ps = estimator(distributed_training=servers, node_count=2, process_count_per_node=1).job("test")
        assert ps.distributed_training == ParameterServerTraining(ParameterServer(worker_count=2))
        assert [task.name for task in ps.tasks()] == ["chief-0", "worker-0", "worker-1", "ps-0"]
        servers.chief = False
        without = estimator(distributed_training=servers).job("test")
        assert [task.name for task in without.tasks()] == ["worker-0", "worker-1", "ps-0"]
        mpi = MpiConfiguration()
        mpi.process_count_per_node = 2
        horovod = estimator(distributed_training=mpi, node_count=2).job("test")
        assert (horovod.way, len(horovod.tasks())) == ("mpi", 4)
        workers = estimator(
            distributed_training=TensorflowConfiguration(worker_count=4, parameter_server_count=0),
            node_count=2,
            process_count_per_node=2,
        ).job("test")
        assert (workers.way, len(workers.tasks())) == ("multi_worker_mirrored", 4)

    def test_a_misspelt_attribute_of_a_configuration_is_not_swallowed(self) -> None:
        with pytest.raises(AttributeError):
            TensorflowConfiguration().worker_cuont = 2  # type: ignore[attr-defined]

    def test_inputs_reach_the_script_by_name(
        self, ws: Workspace, estimator: Callable[..., TensorFlow], tmp_path: Path
    ) -> None:
        (tmp_path / "data").mkdir()
        (tmp_path / "data" / "a").write_text("1")
        ds = ws.get_default_datastore()
        ds.upload(tmp_path / "data", "mnist/raw", show_progress=False)
        script = "import os; print(os.listdir(os.environ['TYARD_INPUT_MNIST_RAW']), os.environ['WHO'])"
        run = completed(
            ws,
            estimator,
            script=script,
            inputs=[ds.path("mnist/raw").as_download()],
            environment_variables={"WHO": 7},
        )
        run.download_file("logs/worker-0.log", "log")
        assert Path("log").read_text() == "['a'] 7\n"

    def test_data_that_is_not_there_is_told_before_anything_is_created(
        self, ws: Workspace, estimator: Callable[..., TensorFlow]
    ) -> None:
        params = {"--data-folder": ws.get_default_datastore().path("mnist").as_mount()}
        with pytest.raises(JobError, match="there is no `mnist` in the datastore"):
            Experiment(ws, "test").submit(estimator(script_params=params))
        assert Experiment.list(ws) == []

    def test_the_whole_datastore_can_be_mounted(
        self, ws: Workspace, estimator: Callable[..., TensorFlow], tmp_path: Path
    ) -> None:
        (tmp_path / "data").mkdir()
        (tmp_path / "data" / "a").write_text("1")
        ds = ws.get_default_datastore()
        ds.upload(tmp_path / "data", "mnist", show_progress=False)
        script = "import os, sys; print(os.listdir(sys.argv[2]))"
        run = completed(ws, estimator, script=script, script_params={"--data-folder": ds.as_mount()})
        run.download_file("logs/worker-0.log", "log")
        assert Path("log").read_text() == "['mnist']\n"

    def test_data_can_be_downloaded_beside_a_part_of_it(
        self, ws: Workspace, estimator: Callable[..., TensorFlow], tmp_path: Path
    ) -> None:
        (tmp_path / "data" / "part").mkdir(parents=True)
        (tmp_path / "data" / "a").touch()
        (tmp_path / "data" / "part" / "b").touch()
        ds = ws.get_default_datastore()
        ds.upload(tmp_path / "data", "mnist", show_progress=False)
        script = "import os, sys\nfor path in sys.argv[2::2]: print(sorted(os.listdir(path)))"
        params = {"--part": ds.path("mnist/part"), "--whole": ds.path("mnist"), "--all": ds}
        params = {name: reference.as_download() for name, reference in params.items()}
        run = completed(ws, estimator, script=script, script_params=params)
        run.download_file("logs/worker-0.log", "log")
        assert Path("log").read_text().splitlines() == ["['b']", "['a', 'part']", "['mnist']"]

    @in_a_folder
    def test_script_run_config_passes_its_arguments_in_order(self, ws: Workspace, yard: Yard) -> None:
        source = yard.source(MODEL_SCRIPT)
        arguments = ["--n", 5, "-v", "--negative", -3, "positional", "--flag"]
        config = ScriptRunConfig(source_directory=source, script="train.py", arguments=arguments)
        run = Experiment(ws, "test").submit(config)
        run.wait_for_completion()
        run.download_file("outputs/argv.json", "argv.json")
        assert msgspec.json.decode(Path("argv.json").read_bytes()) == [str(word) for word in arguments]

    @in_a_folder
    def test_script_run_config_takes_its_nodes_from_the_distribution(self, yard: Yard) -> None:
        source = yard.source("")
        mpi = ScriptRunConfig(source, "train.py", distributed_job_config=MpiConfiguration(2, node_count=2)).job(
            "test"
        )
        assert (mpi.way, len(mpi.tasks())) == ("mpi", 4)
        workers = ScriptRunConfig(source, "train.py", distributed_job_config=TensorflowConfiguration(2, 0)).job(
            "test"
        )
        assert (workers.way, len(workers.tasks())) == ("multi_worker_mirrored", 2)
        with pytest.raises(JobError, match="given twice"):
            ScriptRunConfig(source, "train.py", ["--a", 1, "--a", 2])


class TestRun:
    def test_a_run_tells_its_status_details_metrics_and_files(
        self, ws: Workspace, estimator: Callable[..., TensorFlow]
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

    def test_output_is_shown_as_it_comes(
        self, ws: Workspace, estimator: Callable[..., TensorFlow], capsys: pytest.CaptureFixture[str]
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
        self, ws: Workspace, estimator: Callable[..., TensorFlow]
    ) -> None:
        run = Experiment(ws, "test").submit(estimator("print('so far'); raise ValueError('no such data')"))
        with pytest.raises(ActivityFailedException) as caught:
            run.wait_for_completion(show_output=True)
        assert "exited with code 1" in str(caught.value)
        assert "ValueError: no such data" in str(caught.value)
        details = run.wait_for_completion(raise_on_error=False)
        assert details["status"] == "Failed"
        assert "no such data" in details["error"]["error"]["message"]

    def test_cancel_stops_a_run_and_waiting_for_it_raises_nothing(
        self, ws: Workspace, estimator: Callable[..., TensorFlow]
    ) -> None:
        script = "import time; open('outputs/started', 'w').close(); time.sleep(1000)"
        run = Experiment(ws, "test").submit(estimator(script))
        wait_until(lambda: (ws.work_folder(run.id) / "outputs" / "started").exists(), "the script has started")
        wait_until(lambda: run.get_status() == "Running", "that is told")
        run.cancel()
        assert run.wait_for_completion()["status"] == "Canceled"

    @in_a_folder
    def test_a_waiting_run_is_queued_as_azure_ml_calls_it(
        self, ws: Workspace, estimator: Callable[..., TensorFlow]
    ) -> None:
        script = "import os, time\nwhile not os.path.exists('outputs/go'): time.sleep(0.01)"
        first = Experiment(ws, "test").submit(estimator(script))
        second = Experiment(ws, "test").submit(estimator())
        wait_until(lambda: second.get_status() == "Queued" and first.get_status() == "Running", "one waits")
        (ws.work_folder(first.id) / "outputs" / "go").touch()
        assert second.wait_for_completion()["status"] == "Completed"

    @pytest.mark.parametrize("show_output", [False, True])
    @in_a_folder
    def test_waiting_brings_a_killed_controller_back(
        self, ws: Workspace, yard: Yard, estimator: Callable[..., TensorFlow], show_output: bool
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
    def test_waiting_from_a_thread_works(self, ws: Workspace, estimator: Callable[..., TensorFlow]) -> None:
        run = Experiment(ws, "test").submit(estimator())
        seen: list[str] = []
        thread = threading.Thread(target=lambda: seen.append(run.wait_for_completion(show_output=True)["status"]))
        thread.start()
        thread.join()
        assert seen == ["Completed"]

    def test_files_are_downloaded_by_name_and_by_prefix(
        self, ws: Workspace, estimator: Callable[..., TensorFlow], tmp_path: Path
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
        self,
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

    def test_tags_are_added_and_found(self, ws: Workspace, estimator: Callable[..., TensorFlow]) -> None:
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
        self, ws: Workspace, estimator: Callable[..., TensorFlow]
    ) -> None:
        run = Experiment(ws, "tf-mnist").submit(estimator())
        with pytest.raises(AttributeError, match=r"no `log`: metrics are logged in the script, `Run.get_context"):
            run.log("loss", 0.5)  # type: ignore[attr-defined]
        run.wait_for_completion()

    @in_a_folder
    def test_a_run_that_is_not_there_names_the_nearest(
        self, ws: Workspace, estimator: Callable[..., TensorFlow]
    ) -> None:
        completed(ws, estimator)
        with pytest.raises(NotFoundError) as caught:
            Run.get(ws, "tf-mnsit-0001")
        assert "tf-mnist-0001" in (caught.value.hint or "")

    def test_resume_from_takes_a_run(self, ws: Workspace, estimator: Callable[..., TensorFlow]) -> None:
        first = completed(ws, estimator)
        second = completed(ws, estimator, script="print(open('outputs/one.txt').read())", resume_from=first)
        second.download_file("logs/worker-0.log", "log")
        assert Path("log").read_text() == "one\n"

    def test_a_script_by_hand_has_a_context_that_prints(self, capsys: pytest.CaptureFixture[str]) -> None:
        Run.get_context().log("loss", 0.5)
        assert capsys.readouterr().out == "loss: 0.5\n"

    @in_a_folder
    def test_run_details_prints_where_a_run_stands(
        self, ws: Workspace, estimator: Callable[..., TensorFlow], capsys: pytest.CaptureFixture[str]
    ) -> None:
        RunDetails(completed(ws, estimator)).show()
        assert capsys.readouterr().out == (
            "Run(Experiment: tf-mnist, Id: tf-mnist-0001, Status: Completed)\n  loss: 0.25\n  accuracy: 0.9\n"
        )


class TestModel:
    def test_a_folder_of_a_run_becomes_a_version_and_comes_back(
        self, ws: Workspace, estimator: Callable[..., TensorFlow], tmp_path: Path
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
        self, ws: Workspace, estimator: Callable[..., TensorFlow], tmp_path: Path
    ) -> None:
        model = completed(ws, estimator).register_model("one", "./outputs//one.txt")
        assert model.download("here") == "here/one.txt"
        assert (tmp_path / "here/one.txt").read_text() == "one"
        assert Model.get_model_path("one", _workspace=ws) == "tensoryard-models/one/1/one.txt"

    def test_models_are_found_by_name_number_alias_and_tag(
        self, ws: Workspace, estimator: Callable[..., TensorFlow]
    ) -> None:
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

    def test_local_files_are_registered(self, ws: Workspace, tmp_path: Path) -> None:
        (tmp_path / "exported").mkdir()
        (tmp_path / "exported" / "a").write_text("1")
        model = Model.register(ws, model_path="exported", model_name="mine", tags={"a": "b"})
        assert Path(model.download("here"), "a").read_text() == "1"
        assert Model.get_model_path("mine", 1, ws) == "tensoryard-models/mine/1/exported"

    def test_a_download_that_cannot_be_written_is_an_error_of_ours(self, ws: Workspace, tmp_path: Path) -> None:
        (tmp_path / "one.txt").write_text("1")
        model = Model.register(ws, "one.txt", "mine", model_framework="TensorFlow", model_framework_version="2.21")
        assert model.properties == {"model_framework": "TensorFlow", "model_framework_version": "2.21"}
        (tmp_path / "here" / "one.txt" / "x").mkdir(parents=True)
        with pytest.raises(TensoryardError):
            model.download("here", exist_ok=True)
        with pytest.raises(TensoryardError):
            model.download("one.txt")

    @in_a_folder
    def test_a_path_that_the_run_does_not_have_is_told(
        self, ws: Workspace, estimator: Callable[..., TensorFlow]
    ) -> None:
        with pytest.raises(NotFoundError) as caught:
            completed(ws, estimator).register_model("digits", "outputs/modle")
        assert caught.value.hint == "did you mean `outputs/model`?"


class TestWorkspace:
    def test_it_lists_what_it_has(self, ws: Workspace, estimator: Callable[..., TensorFlow]) -> None:
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
        self, ws: Workspace, estimator: Callable[..., TensorFlow]
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
    def test_what_is_not_made_from_python_says_what_to_do(self, call: Callable[[], object]) -> None:
        with pytest.raises(UsageError) as caught:
            call()
        assert caught.value.hint

    def test_classes_that_are_gone_say_what_to_use(self) -> None:
        with pytest.raises(ImportError, match=r"ds.upload"):
            from tensoryard.azureml.core import Dataset  # noqa: F401

    def test_experiments_need_a_name_that_is_one(self, ws: Workspace) -> None:
        with pytest.raises(UsageError, match="experiment: got `a b`"):
            Experiment(ws, "a b")
        with pytest.raises(JobError, match="expected `TensorFlow"):
            Experiment(ws, "test").submit("train.py")  # type: ignore[arg-type]


def test_every_import_line_of_the_migration_page_works() -> None:
    page = Path(__file__).parent.parent / "docs" / "migrate-from-azureml.md"
    lines = [line for line in page.read_text().splitlines() if line.startswith("from tensoryard")]
    assert len(lines) > 3
    for line in lines:
        exec(line, {})
