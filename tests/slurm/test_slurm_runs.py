"""Runs on a real Slurm, from submission to their end: the scripts do not import TensorFlow."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from launching import StoreThat, Yard, parameter_server, wait_until
from services.slurm import SlurmCluster
from tensoryard.errors import StoreError
from tensoryard.slurm_target import SlurmOptions, SlurmTarget
from tensoryard.workspace import Workspace

ON_SLURM = {"compute_target": SlurmTarget(SlurmOptions())}
SAY_WHO = """
import json, os
print(os.environ["TYARD_TASK"], os.uname().nodename)
open(f"outputs/{os.environ['TYARD_TASK']}.json", "w").write(json.dumps(dict(os.environ)))
"""
COUNTS = """
import itertools, os, time
for number in itertools.count():
    print(number, flush=True)
    if os.path.exists("outputs/enough"):
        break
    time.sleep(0.01)
"""
WAITS_FOR_ALL = """
import time
while len(os.listdir("outputs")) < 4: time.sleep(0.01)
"""


def test_a_script_runs_on_one_node(slurm: SlurmCluster, yard: Yard) -> None:
    run = yard.run(SAY_WHO, **ON_SLURM)
    assert (run.state().stage, run.state().reason) == ("Completed", None)
    assert yard.log(run).split()[1] in slurm.names
    assert [span.stage for span in run.state().stages][:2] == ["Preparing", "Scaling"]


def test_parameter_servers_on_three_nodes_find_each_other_by_tf_config(slurm: SlurmCluster, yard: Yard) -> None:
    way = {"distributed_training": parameter_server(worker_count=2, parameter_server_count=1), "node_count": 3}
    run = yard.run(SAY_WHO + WAITS_FOR_ALL, **way, **ON_SLURM)
    assert (run.state().stage, run.state().reason) == ("Completed", None)
    seen = {task: yard.record(run, f"outputs/{task}.json") for task in ("chief-0", "worker-0", "worker-1", "ps-0")}
    config = json.loads(seen["ps-0"]["TF_CONFIG"])
    assert config["cluster"] == {
        "chief": ["node-1:2222"],
        "worker": ["node-1:2223", "node-2:2222"],
        "ps": ["node-3:2222"],
    }
    assert {task: yard.record(run, f"tasks/{task}.json")["host"] for task in seen} == {
        "chief-0": "node-1",
        "worker-0": "node-1",
        "worker-1": "node-2",
        "ps-0": "node-3",
    }


@pytest.mark.parametrize("yard", ["folder"], indirect=True)
def test_runs_that_share_a_node_have_ports_of_their_own(slurm: SlurmCluster, yard: Yard) -> None:
    """Each listens on the port that TF_CONFIG gives it until the other does too."""
    script = f"""
import json, os, pathlib, socket, time
config = json.loads(os.environ["TF_CONFIG"])
address = config["cluster"][config["task"]["type"]][config["task"]["index"]]
held = socket.create_server(("", int(address.rpartition(":")[2])))
pathlib.Path("outputs/address").write_text(address)
runs = pathlib.Path({str(yard.workspace.root / "runs")!r})
while len(list(runs.glob("*/outputs/address"))) < 2: time.sleep(0.01)
"""
    sharing = SlurmOptions(skip_directives=("exclusive", "mem"), extra_directives=("--nodelist=node-1", "--mem=100M"))
    way = {"distributed_training": "multi_worker_mirrored", "compute_target": SlurmTarget(sharing)}
    runs = [yard.submit(script, **way) for _ in range(2)]
    yard.serve()
    assert [(run.state().stage, run.state().reason) for run in runs] == [("Completed", None)] * 2
    ports = [int(yard.text(run, "outputs/address").removeprefix("node-1:")) for run in runs]
    assert abs(ports[0] - ports[1]) == 8
    assert min(ports) >= 10_000


def test_ranks_of_mpi_run_on_two_nodes_by_mpirun(slurm: SlurmCluster, yard: Yard) -> None:
    run = yard.run(SAY_WHO, distributed_training="mpi", node_count=2, process_count_per_node=2, **ON_SLURM)
    assert (run.state().stage, run.state().reason) == ("Completed", None)
    assert [yard.log(run, f"rank-{n}").split()[1] for n in range(4)] == ["node-1", "node-1", "node-2", "node-2"]
    assert "Launching by mpirun inside of the allocation" in yard.log(run, "launch")


@pytest.mark.parametrize("yard", ["folder"], indirect=True)
def test_ranks_are_started_by_srun_over_pmix_where_there_is_no_mpirun(
    slurm: SlurmCluster, yard: Yard, tmp_path: Path
) -> None:
    (tmp_path / "bin").mkdir()
    for name in ("bash", "srun", "scontrol", "paste", "grep", "ompi_info"):
        (tmp_path / "bin" / name).symlink_to(shutil.which(name) or "")
    path = {"environment_variables": {"PATH": str(tmp_path / "bin")}}
    run = yard.run(SAY_WHO, distributed_training="mpi", node_count=2, **path, **ON_SLURM)
    assert (run.state().stage, run.state().reason) == ("Completed", None)
    assert [yard.log(run, f"rank-{n}").split()[1] for n in range(2)] == ["node-1", "node-2"]
    assert "Launching by srun over PMIx" in yard.log(run, "launch")
    assert "PMIX_RANK" in yard.text(run, "outputs/rank-1.json")


@pytest.mark.parametrize("yard", ["blob"], indirect=True)
def test_a_store_that_is_away_meanwhile_stops_no_task_and_loses_no_line(slurm: SlurmCluster, yard: Yard) -> None:
    away = yard.folder / "away"

    def fails(name: str, arguments: tuple[Any, ...]) -> None:
        if name != "local_path" and away.exists():
            raise StoreError("the store is away")

    workspace = Workspace(yard.workspace.root)
    workspace.__dict__["store"] = StoreThat(yard.workspace.store, fails)
    run = yard.submit(COUNTS, **ON_SLURM)
    controller = yard.start_controller(workspace=workspace)
    wait_until(lambda: run.log_tail("worker-0"), "the log is in the store")
    away.touch()
    (yard.work_folder(run) / "outputs" / "enough").touch()
    yard.wait_for_file(run, "tasks/worker-0.json")
    away.unlink()
    controller.join()
    assert run.state().stage == "Completed"
    lines = run.store.read(run.key("logs/worker-0.log")).decode().splitlines()
    assert lines == [str(number) for number in range(len(lines))]


@pytest.mark.parametrize("yard", ["folder"], indirect=True)
def test_a_gpu_is_asked_of_slurm_and_looked_for_on_the_node(slurm: SlurmCluster, yard: Yard) -> None:
    """Slurm's gpu is a device that computes nothing, so the task says that and does not fall back to the CPU."""
    run = yard.run(SAY_WHO, use_gpu=True, compute_target=SlurmTarget(SlurmOptions(partition="gpu")))
    assert run.state().stage == "Failed"
    assert "worker-0 on node-3: use_gpu is set and this node has no usable GPU" in str(run.state().reason)
