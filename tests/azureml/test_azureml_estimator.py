"""Azure ML's estimator and its other forms: what becomes of each argument."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from azureml_runs import MODEL_SCRIPT, completed
from launching import Yard, in_a_folder
from tensoryard.azureml.core import Experiment, ScriptRunConfig, Workspace
from tensoryard.azureml.core.runconfig import MpiConfiguration, TensorflowConfiguration
from tensoryard.azureml.train.dnn import TensorFlow
from tensoryard.errors import (
    JobError,
    LayoutError,
    TensoryardError,
)
from tensoryard.job import ParameterServer, ParameterServerTraining


@in_a_folder
def test_values_of_script_params_are_passed_as_str_makes_them(
    ws: Workspace, estimator: Callable[..., TensorFlow], tmp_path: Path
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
        ({"shm_size": "2g"}, JobError, "`shm_size` is not supported", "/dev/shm"),
        (
            {"image_registry_details": "a.io"},
            JobError,
            "`image_registry_details` is not supported",
            "`docker login`",
        ),
        ({"user_managed": True}, JobError, "user_managed: names no image", "name it in `image`"),
        ({"custom_docker_image": "a:b", "use_docker": False}, JobError, "base_image: is for images", "`runtime`"),
        ({"custom_docker_image": "A"}, JobError, "base_image: got `A`", None),
        ({"runtime": "docker"}, JobError, "runtime: got 'docker'", None),
        ({"vm_size": "Standard_NC6"}, JobError, "`vm_size` is not supported", "`compute_target`"),
        ({"conda_dependencies_file": "c.yml"}, JobError, "is not supported", "`conda_packages`"),
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
    yard: Yard, arguments: dict[str, Any], error: type[TensoryardError], message: str, hint: str | None
) -> None:
    source = yard.source("")
    with pytest.raises(error) as caught:
        TensorFlow(source_directory=source, **({"entry_script": "train.py"} | arguments)).job("test")
    assert message in caught.value.message
    assert hint is None or hint in (caught.value.hint or "")


@in_a_folder
def test_what_azure_ml_was_told_not_to_do_is_accepted(estimator: Callable[..., TensorFlow]) -> None:
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
    estimator: Callable[..., TensorFlow], arguments: dict[str, Any], expected: tuple[str | None, ...]
) -> None:
    job = estimator(**arguments).job("test")
    assert (job.runtime, job.base_image, job.image) == expected
    assert job.in_image


@in_a_folder
def test_the_older_name_of_the_requirements_file_works(yard: Yard) -> None:
    source = yard.source("")
    (source / "requirements.txt").write_text("numpy\n")
    est = TensorFlow(source, entry_script="train.py", pip_requirements_file_path="requirements.txt")
    assert est.job("test").pip_requirements_file == "requirements.txt"


@in_a_folder
def test_layouts_are_those_of_a_job(estimator: Callable[..., TensorFlow]) -> None:
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


def test_a_misspelt_attribute_of_a_configuration_is_not_swallowed() -> None:
    with pytest.raises(AttributeError):
        TensorflowConfiguration().worker_cuont = 2  # type: ignore[attr-defined]


def test_inputs_reach_the_script_by_name(ws: Workspace, estimator: Callable[..., TensorFlow], tmp_path: Path) -> None:
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
    ws: Workspace, estimator: Callable[..., TensorFlow]
) -> None:
    params = {"--data-folder": ws.get_default_datastore().path("mnist").as_mount()}
    with pytest.raises(JobError, match="there is no `mnist` in the datastore"):
        Experiment(ws, "test").submit(estimator(script_params=params))
    assert Experiment.list(ws) == []


def test_the_whole_datastore_can_be_mounted(
    ws: Workspace, estimator: Callable[..., TensorFlow], tmp_path: Path
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
    ws: Workspace, estimator: Callable[..., TensorFlow], tmp_path: Path
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
def test_script_run_config_passes_its_arguments_in_order(ws: Workspace, yard: Yard) -> None:
    source = yard.source(MODEL_SCRIPT)
    arguments = ["--n", 5, "-v", "--negative", -3, "positional", "--flag"]
    config = ScriptRunConfig(source_directory=source, script="train.py", arguments=arguments)
    run = Experiment(ws, "test").submit(config)
    run.wait_for_completion()
    run.download_file("outputs/argv.json", "argv.json")
    assert msgspec.json.decode(Path("argv.json").read_bytes()) == [str(word) for word in arguments]


@in_a_folder
def test_script_run_config_takes_its_nodes_from_the_distribution(yard: Yard) -> None:
    source = yard.source("")
    mpi = ScriptRunConfig(source, "train.py", distributed_job_config=MpiConfiguration(2, node_count=2)).job("test")
    assert (mpi.way, len(mpi.tasks())) == ("mpi", 4)
    workers = ScriptRunConfig(source, "train.py", distributed_job_config=TensorflowConfiguration(2, 0)).job("test")
    assert (workers.way, len(workers.tasks())) == ("multi_worker_mirrored", 2)
    with pytest.raises(JobError, match="given twice"):
        ScriptRunConfig(source, "train.py", ["--a", 1, "--a", 2])
