"""Every way of running, launched for real on this machine; the scripts do not import TensorFlow."""

import json

import pytest

from launching import Yard, parameter_server
from tensoryard.run import RunRecord

SAY_WHO = """
import json, os
print(os.environ["TYARD_TASK"])
open(f"outputs/{os.environ['TYARD_TASK']}.json", "w").write(json.dumps(dict(os.environ)))
"""

WAYS = {
    "single": {},
    "mpi": {"distributed_training": "mpi", "process_count_per_node": 2},
    "multi_worker_mirrored": {"distributed_training": "multi_worker_mirrored", "node_count": 2},
    "parameter_server": {"distributed_training": parameter_server(worker_count=2, parameter_server_count=1)},
}


def environments(yard: Yard, run: RunRecord) -> dict[str, dict[str, str]]:
    folder = yard.run_folder(run) / "outputs"
    return {path.stem: json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))}


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
        assert list(environments(yard, run)) == tasks
        assert {task: yard.log(run, task) for task in tasks} == {task: f"{task}\n" for task in tasks}
    assert yard.leftovers(run) == []
