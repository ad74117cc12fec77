"""
A run of a workspace on Azure from the client's command to its end, on a cluster that has no node when it is asked.

Real: the command line, the controller on the head, blob storage's protocol (Azurite), Slurm, the programs that start
and stop its nodes, the launch script. Stand-ins: Azure's compute service, namespaces of this computer as machines.
"""

import json
import re
import subprocess
import time
from collections.abc import Iterator

import pytest

from cli_runner import Tyard
from launching import wait_until
from services.slurm_cloud import CloudCluster

# Each worker listens where TF_CONFIG says that it does, and waits until it has reached all of them.
TRAINS = """
import json, os, pathlib, socket, time
from tensoryard import Run
task = os.environ["TYARD_TASK"]
config = json.loads(os.environ["TF_CONFIG"])
workers = [address.rpartition(":") for address in config["cluster"]["worker"]]
listening = socket.create_server(("", int(workers[config["task"]["index"]][2])))
for host, _, port in workers:
    while True:
        try:
            socket.create_connection((host, int(port))).close()
            break
        except ConnectionRefusedError:
            time.sleep(0.05)
checkpoint = pathlib.Path(f"outputs/{task}.step")
step = int(checkpoint.read_text()) if checkpoint.exists() else 0
print(f"{task} begins at {step} on {os.uname().nodename}", flush=True)
while not os.path.exists("outputs/enough"):
    step += 1
    checkpoint.with_suffix(".new").write_text(str(step))
    checkpoint.with_suffix(".new").rename(checkpoint)
    time.sleep(0.05)
if task == "worker-0":
    Run.get_context().log("steps", step)
"""


@pytest.fixture
def cloud() -> Iterator[CloudCluster]:
    cluster = CloudCluster(2, resume_timeout_s=300)
    yield cluster
    cluster.close()


def machine_of(cloud: CloudCluster, node: str) -> str | None:
    return next((machine for machine, name in cloud.azure.nodes.items() if name == node), None)


def was_given_up(cloud: CloudCluster) -> bool:
    """
    By the reconciler, or by Slurm itself on a busy machine.

    There is no systemd to stop slurmd by: it may have reported once more, and answers then until Slurm misses it.
    """
    found = re.search("`node-2`.*: (try again|give up)", cloud.tyard("node", "reconcile"))
    return bool(found or re.search(r"suspend node-(2|\[1-2\])", cloud.log))


@pytest.mark.parametrize("cli", ["blob"], indirect=True)
def test_a_run_has_its_nodes_made_loses_one_to_an_eviction_and_gives_them_back(
    cloud: CloudCluster, cli: Tyard
) -> None:
    settings = cli.workspace / "workspace.json"
    said = json.loads(settings.read_text())
    said["azure"]["clusters"] = json.loads((cloud.folder / "workspace" / "workspace.json").read_text())["azure"][
        "clusters"
    ]
    settings.write_text(json.dumps(said))
    cli.environ["SLURM_CONF"] = str(cloud.conf)
    controller = cli.start("controller", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    cli.job(TRAINS, compute_target="node", runtime="venv", distributed_training="multi_worker_mirrored", node_count=2)
    run = cli.record(cli("run", "--detach").split()[1])
    wait_until(lambda: "being started" in str(run.state().reason), "its nodes are being made")
    # What a client sees, from blob storage: logs while they are written.
    wait_until(lambda: run.log_tail("worker-0") and run.log_tail("worker-1"), "both workers train")
    assert f"resume node-[1-2] for job {run.slurm_job()}" in cloud.log
    assert json.loads(cloud.tyard("doctor", "--cluster", "--json")) == []
    evicted = machine_of(cloud, "node-2")
    steps = cli.workspace / "work" / "runs" / run.id / "outputs" / "worker-0.step"
    before = int(steps.read_text())

    cloud.announce("node-2", "Preempt", 300)
    announced = time.monotonic()
    wait_until(lambda: cloud.let_go("node-2"), "the machine lets go")
    assert time.monotonic() - announced < 290
    assert "Reason=tyard: taken away: Azure announced Preempt [" in cloud.run("scontrol", "show", "node", "node-2")
    cloud.azure.evict(evicted)
    cloud.kill_node("node-2")
    wait_until(lambda: run.state().stage == "Scaling", "the run waits again")
    wait_until(lambda: was_given_up(cloud), "the node is given up")
    wait_until(lambda: len(run.log_tail("worker-0")) == 2, "the run trains again")

    (steps.parent / "enough").touch()
    wait_until(lambda: run.state().ended, "the run has ended")
    assert (run.state().stage, run.state().reason) == ("Completed", None)
    assert [span.stage for span in run.state().stages][1:5] == ["Scaling", "Running", "Scaling", "Running"]
    began = [int(line.split()[3]) for line in run.log_tail("worker-0")]
    assert began[0] == 0 < before <= began[1]
    assert run.metrics()["steps"] >= began[1]
    assert "outputs/worker-1.step" in cli("runs", "files", run.id)
    said = cloud.run("srun", "--nodes=2", "--gpus-per-node=1", "sh", "-c", "echo GPU $CUDA_VISIBLE_DEVICES")
    assert said == "GPU 0\nGPU 0\n"
    assert machine_of(cloud, "node-2") not in (None, evicted)
    wait_until(lambda: not cloud.azure.nodes and not cloud.up, "the nodes are gone")
    assert "error" not in cloud.log
    controller.terminate()
    assert controller.wait() == 0
