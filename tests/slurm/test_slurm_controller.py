"""`tyard controller` on the head of a workspace on Azure: its cluster is a partition of a real Slurm."""

import json
import signal
import subprocess

import pytest

from cli_runner import Tyard
from launching import wait_until
from services.slurm import SlurmCluster

pytestmark = pytest.mark.parametrize("cli", ["blob"], indirect=True)
TRAINS = """
import os, time
print("begins", flush=True)
while not os.path.exists("outputs/enough"): time.sleep(0.02)
print("ends")
"""
CLUSTER = {
    "vmSize": "Standard_NC4as_T4_v3",
    "maxNodes": 3,
    "spot": True,
    "scaleSet": "main",
    "gpuCount": 1,
    "gpuModel": "T4",
    "vcpu": 4,
    "memoryGib": 28,
}


@pytest.fixture
def head(slurm: SlurmCluster, cli: Tyard) -> Tyard:
    """The command line of a workspace that has the partition `main` as a cluster."""
    settings = cli.workspace / "workspace.json"
    said = json.loads(settings.read_text())
    said["azure"]["clusters"] = {"main": CLUSTER}
    settings.write_text(json.dumps(said))
    cli.environ["SLURM_CONF"] = slurm.environ["SLURM_CONF"]
    return cli


def controller(head: Tyard) -> "subprocess.Popen[bytes]":
    return head.start("controller", "--lease", "3", stderr=subprocess.PIPE)


def wait_until_said(process: "subprocess.Popen[bytes]", words: bytes) -> None:
    """Returns when the process has said a line with these words."""
    assert process.stderr is not None
    said = [process.stderr.readline()]
    while words not in said[-1] and said[-1]:
        said.append(process.stderr.readline())
    assert said[-1], said


def submit(head: Tyard) -> str:
    head.job(TRAINS, runtime="venv")
    return head("run", "--detach", "--set", "compute_target=main").split()[1]


def test_a_run_of_a_named_cluster_is_claimed_and_survives_its_controller(head: Tyard) -> None:
    run = head.record(submit(head))
    first = controller(head)
    wait_until_said(first, b"Serving `main`")
    work = head.workspace / "work" / "runs" / run.id
    log = work / "logs" / "worker-0.log"
    wait_until(lambda: log.exists() and "begins" in log.read_text(), "the script runs")
    second = controller(head)
    wait_until_said(second, b"is served")
    first.kill()
    first.wait()
    wait_until_said(second, b"Serving `main`")
    (work / "outputs" / "enough").touch()
    wait_until(lambda: run.state().ended, "the run has ended")
    assert (run.state().stage, run.log_tail("worker-0")) == ("Completed", ["begins", "ends"])
    assert run.slurm_job() is not None
    second.send_signal(signal.SIGTERM)
    assert second.wait() == 0
    assert "runs go on" in second.stderr.read().decode()  # type: ignore[union-attr]


def test_more_than_the_cluster_can_ever_have_is_refused_by_the_client(head: Tyard) -> None:
    head.job(TRAINS, compute_target="main")
    _, talk = head.both("run", "--set", "node_count=4", "--set", "distributed_training=mpi", code=2)
    assert "node_count: got 4, `main` has at most 3 nodes (Standard_NC4as_T4_v3)" in talk


def test_a_target_that_is_not_there_is_not_served(head: Tyard) -> None:
    _, talk = head.both("controller", "gpucluster", code=2)
    assert talk.startswith("error: controller: got `gpucluster`; it can serve `main`, `slurm`")
