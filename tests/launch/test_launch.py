"""Every way of running, launched for real on this machine; the scripts do not import TensorFlow."""

import pytest

from launching import Yard, in_a_folder, parameter_server
from tensoryard.job import DatastoreReference
from tensoryard.preparing import launch_files
from tensoryard.render import Placement

SAY_WHO = """
import json, os
print(os.environ["TYARD_TASK"])
open(f"outputs/{os.environ['TYARD_TASK']}.json", "w").write(json.dumps(dict(os.environ)))
"""

WAITS_FOR_ALL = """
import time
while len(os.listdir("outputs")) < len(os.listdir("../launch/tf_config")):
    time.sleep(0.01)
"""
WAYS = {
    "single": {},
    "mpi": {"distributed_training": "mpi", "process_count_per_node": 2},
    "multi_worker_mirrored": {"distributed_training": "multi_worker_mirrored", "node_count": 2},
    "parameter_server": {"distributed_training": parameter_server(worker_count=2, parameter_server_count=1)},
}


@pytest.mark.parametrize(
    ("way", "tasks"),
    [
        ("single", ["worker-0"]),
        ("mpi", ["rank-0", "rank-1"]),
        ("multi_worker_mirrored", ["worker-0", "worker-1"]),
        ("parameter_server", ["chief-0", "ps-0", "worker-0", "worker-1"]),
    ],
)
def test_every_task_runs_and_has_its_log(yard: Yard, way: str, tasks: list[str]) -> None:
    run = yard.run(SAY_WHO, **WAYS[way])
    assert (run.state().stage, run.state().reason) == ("Completed", None)
    if way != "parameter_server":  # there the chief may end before the others have begun
        assert [name for name in run.file_names() if "outputs/" in name] == [f"outputs/{task}.json" for task in tasks]
        assert {task: yard.log(run, task) for task in tasks} == {task: f"{task}\n" for task in tasks}
    assert yard.leftovers(run) == []


@pytest.mark.parametrize("way", WAYS)
@in_a_folder
def test_what_render_shows_is_what_a_run_executed(yard: Yard, way: str) -> None:
    """Byte for byte, given the ports that the run found free."""
    run = yard.run("", **WAYS[way])
    ports = yard.record(run, "launch/layout.json")["ports"]
    placement = Placement("local", ("localhost",) * run.job.node_count, tuple(ports))
    shown = launch_files(yard.workspace, run.job, run.id, placement)
    assert shown == {name: yard.text(run, f"launch/{name}") for name in shown}
    kept = [entry.key.removeprefix(run.key("launch/")) for entry in run.store.list(run.key("launch/"))]
    assert sorted(shown) == [name for name in kept if name in ("run.sh", "layout.json") or "tf_config/" in name]


@pytest.mark.parametrize("way", ["multi_worker_mirrored", "parameter_server"])
@in_a_folder
def test_a_script_sees_the_rendered_tf_config(yard: Yard, way: str) -> None:
    run = yard.run(SAY_WHO + WAITS_FOR_ALL, **WAYS[way])
    assert run.state().stage == "Completed"
    for task in (task.name for task in run.job.tasks()):
        seen = yard.record(run, f"outputs/{task}.json")["TF_CONFIG"]
        assert yard.text(run, f"launch/tf_config/{task}.json") == seen + "\n"


def test_data_of_the_datastore_reaches_the_script(yard: Yard) -> None:
    yard.workspace.store.put("data/mnist/train", b"digits")
    mounted = DatastoreReference("default", "mnist")
    script = "import os, sys\nprint(open(sys.argv[2] + '/train').read(), open(os.environ['TYARD_INPUT_ALL']).read())"
    run = yard.run(
        script,
        script_params={"--data": mounted},
        inputs={"all": DatastoreReference("default", "mnist/train", "download")},
    )
    assert yard.log(run) == "digits digits\n"


def test_outputs_of_an_earlier_run_are_there_before_the_script_starts(yard: Yard) -> None:
    yard.run("open('outputs/checkpoint', 'w').write('step 7')")
    run = yard.run("print(open('outputs/checkpoint').read())", resume_from="latest")
    assert yard.log(run) == "step 7\n"
    assert run.job.resume_from == "test-0001"


def test_a_run_takes_longer_than_it_may(yard: Yard) -> None:
    run = yard.run("import time; time.sleep(600)", max_run_duration_seconds=1)
    assert run.state().stage == "Failed"
    assert "worker-0 on" in str(run.state().reason)
    assert str(run.state().reason).endswith(": it ran longer than max_run_duration_seconds allows (1 s)")
    assert yard.leftovers(run) == []


def test_environment_variables_of_the_client_that_would_mislead_a_job_do_not_reach_it(
    yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "TF_CONFIG", "TYARD_TASK"):
        monkeypatch.setenv(name, "/from/outside")
    run = yard.run(SAY_WHO)
    assert "/from/outside" not in yard.record(run, "outputs/worker-0.json").values()
