"""Runs on a real Slurm whose daemons stall: for moments that a seed draws, one after the other answers nobody."""

import contextlib
import os
import random
import signal
import threading
from collections.abc import Iterator

import pytest

from launching import Yard, parameter_server, wait_until
from services.slurm import SlurmCluster
from tensoryard.slurm_target import SlurmOptions, SlurmTarget

pytestmark = pytest.mark.parametrize("yard", ["folder"], indirect=True)
TARGET = SlurmTarget(SlurmOptions(skip_directives=("exclusive", "mem")))
# The end of the chief is that of all: it waits for them first, as TensorFlow's does.
SCRIPT = """
import os, time
with open(f"outputs/{os.environ['TYARD_TASK']}", "a") as file:
    print("began", file=file, flush=True)
    while len(os.listdir("outputs")) < TASKS:
        time.sleep(0.05)
    time.sleep(1)
    print("ended", file=file)
"""


@contextlib.contextmanager
def stalls(slurm: SlurmCluster, chance: random.Random) -> Iterator[None]:
    """Meanwhile one daemon after the other answers nobody for a while, as on a machine that is too busy."""
    done = threading.Event()
    nodes = [node.pid for node in slurm.up.values()]
    # slurmctld every other time, as all commands ask it.
    daemons = [slurm.slurmctld.pid] * len(nodes) + nodes

    def stall() -> None:
        while not done.wait(chance.uniform(0.2, 1)):
            pid = chance.choice(daemons)
            os.kill(pid, signal.SIGSTOP)
            done.wait(chance.uniform(0.5, 2.5))
            os.kill(pid, signal.SIGCONT)

    thread = threading.Thread(target=stall)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


@pytest.mark.parametrize("seed", range(2))
def test_of_runs_while_daemons_stall_each_ends_as_it_should_and_runs_once(
    slurm: SlurmCluster, yard: Yard, seed: int
) -> None:
    with stalls(slurm, random.Random(seed)):
        waits = yard.submit("import time; time.sleep(600)", compute_target=TARGET)
        single = [yard.submit(of(1), compute_target=TARGET) for _ in range(3)]
        over_nodes = [
            yard.submit(of(2), compute_target=TARGET, distributed_training="mpi", node_count=2),
            yard.submit(
                of(3),
                compute_target=TARGET,
                distributed_training=parameter_server(worker_count=1, parameter_server_count=1),
                node_count=3,
            ),
        ]
        fails = yard.submit("raise SystemExit(7)", compute_target=TARGET)
        controller = yard.start_controller()
        yard.wait_for_stage(waits, "Running")
        waits.request_cancel()
        controller.join()

    ended = {run.id: run.state().stage for run in (waits, *single, *over_nodes, fails)}
    assert ended == {
        waits.id: "Canceled",
        **{run.id: "Completed" for run in (*single, *over_nodes)},
        fails.id: "Failed",
    }
    assert "7" in (fails.state().reason or "")
    for run in (*single, *over_nodes):
        first, *others = (yard.text(run, f"outputs/{task.name}").split() for task in run.job.tasks())
        assert first == ["began", "ended"]
        assert all(wrote in (["began"], ["began", "ended"]) for wrote in others)
    wait_until(lambda: not slurm.jobs(), "no job is left")
    assert yard.left() == []


def of(tasks: int) -> str:
    """The script of a run with so many tasks."""
    return SCRIPT.replace("TASKS", str(tasks))
