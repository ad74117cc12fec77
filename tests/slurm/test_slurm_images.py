"""Runs in a real image on the nodes of a real Slurm."""

import json
from typing import Any

import pytest

from launching import Yard, parameter_server, wait_until
from services.images import OneImage, mounts_of
from services.slurm import SlurmCluster
from tensoryard.environment import Environment
from tensoryard.slurm_target import SlurmOptions, SlurmTarget

pytestmark = pytest.mark.parametrize("yard", ["folder"], indirect=True)

IN_IMAGE: dict[str, Any] = {"compute_target": SlurmTarget(SlurmOptions()), "runtime": "image"}
SAY_WHERE = """
import json, os, sys, time, six
seen = {"prefix": sys.prefix, "base": open("/etc/this-is").read(), "node": os.uname().nodename,
        "environ": dict(os.environ)}
open(f"outputs/{os.environ['TYARD_TASK']}.json", "w").write(json.dumps(seen))
print(os.getpid(), flush=True)
"""
WAITS = """
while len(os.listdir("outputs")) < 4: time.sleep(0.01)
"""


@pytest.fixture(autouse=True)
def _in_that_image(yard: Yard, six_image: Environment, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = yard.controller
    monkeypatch.setattr(yard, "controller", lambda **how: plain(**{"builder": OneImage(six_image), **how}))


def seen_by(yard: Yard, run: Any, tasks: list[str]) -> list[dict[str, Any]]:
    return [yard.record(run, f"outputs/{task}.json") for task in tasks]


def test_parameter_servers_run_in_the_image_on_three_nodes(slurm: SlurmCluster, yard: Yard) -> None:
    way = {"distributed_training": parameter_server(worker_count=2, parameter_server_count=1), "node_count": 3}
    run = yard.run(SAY_WHERE + WAITS, **way, **IN_IMAGE)
    assert (run.state().stage, run.state().reason) == ("Completed", None)
    seen = seen_by(yard, run, ["chief-0", "worker-0", "worker-1", "ps-0"])
    assert {(one["prefix"], one["base"]) for one in seen} == {("/opt/environment", "the base\n")}
    assert sorted({one["node"] for one in seen}) == slurm.names
    assert json.loads(seen[3]["environ"]["TF_CONFIG"])["cluster"]["ps"] == ["node-3:2222"]


def test_ranks_run_in_the_image_on_two_nodes_and_know_their_world(slurm: SlurmCluster, yard: Yard) -> None:
    run = yard.run(SAY_WHERE + WAITS, distributed_training="mpi", node_count=2, process_count_per_node=2, **IN_IMAGE)
    assert (run.state().stage, run.state().reason) == ("Completed", None)
    assert "Launching by mpirun inside of the allocation" in yard.log(run, "launch")
    seen = seen_by(yard, run, [f"rank-{number}" for number in range(4)])
    assert [one["node"] for one in seen] == ["node-1", "node-1", "node-2", "node-2"]
    assert {one["prefix"] for one in seen} == {"/opt/environment"}
    worlds = [(one["environ"]["OMPI_COMM_WORLD_RANK"], one["environ"]["OMPI_COMM_WORLD_SIZE"]) for one in seen]
    assert worlds == [("0", "4"), ("1", "4"), ("2", "4"), ("3", "4")]


@pytest.mark.parametrize("told", ["scancel", "scancel --signal=KILL --full"])
def test_what_slurm_ends_is_gone_with_its_mounts(
    slurm: SlurmCluster, yard: Yard, six_image: Environment, told: str
) -> None:
    run = yard.submit(SAY_WHERE + "time.sleep(600)", **IN_IMAGE)
    yard.start_controller()
    yard.wait_for_file(run, "logs/worker-0.log")
    assert mounts_of(six_image)
    job = json.loads(yard.text(run, "launch/slurm.json"))["job"]
    slurm.run(*told.split(), job)
    yard.wait_for_stage(run, "Failed", "Canceled")
    wait_until(lambda: not yard.processes(run), "no process of the run is left")
    wait_until(lambda: not mounts_of(six_image), "nothing of the image is mounted")
