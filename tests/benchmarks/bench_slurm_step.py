"""
What Tensoryard takes of a Horovod step on two nodes of a real Slurm, simulated on this machine; as root.

    python tests/benchmarks/bench_slurm_step.py [--turns 3] [--small 3000] [--steps 300]

Budget: 2 %. Two steps, of some 2 ms (a tanh and an allreduce of a million bytes) and of some 30 ms (the digits
template's model). The nodes, the controller and the client that follows share this machine's cores:

- within one `tyard run` its processes (controller, client, a supervisor a rank) are stopped and go on again, by
  turns of half a second; steps of both kinds meet the same other load, so their medians differ by what these take
- the processor time of each of them meanwhile, as the kernel counts it
- the run beside an sbatch script with mpirun, by turns: what the environment and mpirun's options differ by, too
"""

import argparse
import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from bisect import bisect
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT)]

from services.slurm import SlurmCluster  # noqa: E402
from tensoryard.environment.spec import environment_spec  # noqa: E402
from tensoryard.environment.venv import VenvBuilder  # noqa: E402

TURN_S = 0.5
KINDS = {"small": "a tanh and an allreduce", "train": "the digits template's model"}
STEPS = """
import json, os, time
import horovod.tensorflow as hvd, tensorflow as tf
hvd.init()
tf.config.threading.set_intra_op_parallelism_threads(1)
values = tf.random.normal([250_000])
x, y = tf.random.normal((4096, 784)), tf.random.uniform((4096,), 0, 10, tf.int32)
layers = tf.keras.layers
model = tf.keras.Sequential([layers.Dense(300, "relu"), layers.Dense(100, "relu"), layers.Dense(10)])
model.build((None, 784))
optimizer = tf.keras.optimizers.SGD(0.01)

@tf.function
def train():
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(y, model(x)))
    tape = hvd.DistributedGradientTape(tape)
    optimizer.apply_gradients(zip(tape.gradient(loss, model.trainable_variables), model.trainable_variables))

def small():
    hvd.allreduce(tf.tanh(values))

for name, step, count in (("small", small, SMALL), ("train", train, COUNT)):
    for _ in range(count // 10):
        step()
    hvd.allreduce(tf.constant(0))
    times = [time.time()]
    for _ in range(count):
        step()
        times.append(time.time())
    if hvd.rank() == 0:
        with open(f"outputs/{name}.new", "w") as file:
            json.dump(times, file)
        os.rename(f"outputs/{name}.new", f"outputs/{name}.json")
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--small", type=int, default=3000)
    parser.add_argument("--steps", type=int, default=300)
    given = parser.parse_args()
    cluster = SlurmCluster(2)
    os.environ |= {"SLURM_CONF": str(cluster.conf), "PATH": cluster.environ["PATH"]}
    try:
        with tempfile.TemporaryDirectory() as work:
            job = Path(work)
            for name in (".tensoryard", "outputs"):
                (job / name).mkdir()
            (job / "train.py").write_text(STEPS.replace("SMALL", str(given.small)).replace("COUNT", str(given.steps)))
            fields = "experiment: steps\nentry_script: train.py\ncompute_target: {slurm: {}}\n"
            (job / "job.yaml").write_text(f"{fields}distributed_training: mpi\nnode_count: 2\n")
            python = VenvBuilder().ensure(environment_spec(way="mpi"), print).python
            stopped_and_not(job)
            beside_mpirun(job, cluster, python, given.turns)
    finally:
        cluster.close()


class Started:
    """A `tyard run` whose ranks have begun, and the processes of ours that are there for it, by what they are."""

    def __init__(self, job: Path) -> None:
        begun = "*/tasks/rank-1.started.json"
        before = set((job / ".tensoryard" / "runs").glob(begun))
        self._client = subprocess.Popen(
            [sys.executable, "-m", "tensoryard", "run"], cwd=job, stdout=subprocess.DEVNULL
        )
        lock = job / ".tensoryard" / "controller-slurm.lock"
        while not (new := set((job / ".tensoryard" / "runs").glob(begun)) - before):
            time.sleep(0.1)
        self.folder = new.pop().parent.parent
        rank = str(self.folder / "launch" / "rank.py").encode()
        while len(ranks := [pid for pid, command in commands() if rank in command and b"mpirun" not in command]) < 2:
            time.sleep(0.1)
        self.processes = {"client": [self._client.pid], "controller": holders(lock), "supervisors": ranks}

    def wait(self) -> dict[str, list[float]]:
        """When each step of a kind ended, once the run has."""
        assert self._client.wait() == 0
        return times(self.folder / "outputs")


def stopped_and_not(job: Path) -> None:
    """Print what steps of one run take while our processes go on and while they are stopped."""
    run = Started(job)
    everybody = [pid for some in run.processes.values() for pid in some]
    turns: list[tuple[float, bool]] = []
    while not (run.folder / "outputs" / "train.json").exists():
        stopped = len(turns) % 2 == 1
        turns.append((time.time(), stopped))
        for pid in everybody:
            os.kill(pid, signal.SIGSTOP if stopped else signal.SIGCONT)
        time.sleep(TURN_S)
    for pid in everybody:
        os.kill(pid, signal.SIGCONT)
    for kind, ends in run.wait().items():
        took: dict[bool, list[float]] = {False: [], True: []}
        for began, ended in pairwise(ends):
            turn = bisect(turns, (began, True)) - 1
            if turn >= 0 and (turn + 1 == len(turns) or ended < turns[turn + 1][0]):
                took[turns[turn][1]].append((ended - began) * 1000)
        going, still = (statistics.median(took[stopped]) for stopped in (False, True))
        print(f"{KINDS[kind]}: {going:.2f} ms, {still:.2f} ms with ours stopped ({going / still - 1:+.1%}; ", end="")
        print(f"{len(took[False])} and {len(took[True])} steps)", flush=True)


def beside_mpirun(job: Path, cluster: SlurmCluster, python: str, turns: int) -> None:
    """Print what a step takes by `tyard run` and by mpirun in an sbatch script, and what of a core is ours."""
    (job / "by-hand.sh").write_text(
        "#!/bin/bash\n#SBATCH --exclusive --nodes=2 --ntasks-per-node=1 --output=by-hand.out\n"
        f"mpirun --allow-run-as-root --bind-to none --map-by ppr:1:node -np 2 {python} train.py\n"
    )
    took: dict[tuple[str, str], list[float]] = {}
    shares: dict[str, list[float]] = {}
    for turn in range(turns):
        for way in ("tyard", "mpirun") if turn % 2 else ("mpirun", "tyard"):
            if way == "mpirun":
                cluster.run("sbatch", f"--chdir={job}", str(job / "by-hand.sh"))
                while cluster.jobs():
                    time.sleep(0.5)
                found = times(job / "outputs")
            else:
                run = Started(job)
                began, before = time.monotonic(), {who: cpu_s(pids) for who, pids in run.processes.items()}
                while not (run.folder / "outputs" / "train.json").exists():
                    time.sleep(0.1)
                for who, pids in run.processes.items():
                    share = (cpu_s(pids) - before[who]) / (time.monotonic() - began)
                    shares.setdefault(who, []).append(share)
                found = run.wait()
            for kind, ends in found.items():
                step = statistics.median(b - a for a, b in pairwise(ends)) * 1000
                took.setdefault((kind, way), []).append(step)
    for kind, words in KINDS.items():
        ours, theirs = (took[kind, way] for way in ("tyard", "mpirun"))
        said = [" ".join(f"{step:.2f}" for step in steps) for steps in (ours, theirs)]
        ratio = statistics.median(ours) / statistics.median(theirs) - 1
        print(f"{words}: tyard {said[0]} ms, mpirun {said[1]} ms; medians {ratio:+.1%}")
    for who, some in shares.items():
        print(f"{who}: {statistics.median(some):.2%} of a core")


def times(outputs: Path) -> dict[str, list[float]]:
    found = {kind: json.loads((outputs / f"{kind}.json").read_text()) for kind in KINDS}
    for kind in KINDS:
        (outputs / f"{kind}.json").unlink()
    return found


def commands() -> Iterator[tuple[int, bytes]]:
    """(number, command line) of every process of this machine, those of the nodes among them."""
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError):
                yield int(folder.name), (folder / "cmdline").read_bytes()


def holders(path: Path) -> list[int]:
    """Processes that have a file open."""
    found = []
    for pid, _ in commands():
        with contextlib.suppress(OSError):
            if any(link.readlink() == path for link in Path(f"/proc/{pid}/fd").iterdir()):
                found.append(pid)
    return found


def cpu_s(pids: list[int]) -> float:
    """Seconds on a core, to the nanosecond, of processes that are there, with all of their threads."""
    total = 0
    for pid in pids:
        for task in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(OSError):
                total += int((task / "schedstat").read_text().split()[0])
    return total / 1e9


if __name__ == "__main__":
    main()
