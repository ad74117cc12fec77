"""
What Tensoryard costs a 60 s Horovod job and a 60 s parameter-server job, beside the bare launchers.

    python tests/benchmarks/bench_distributed.py [--seconds 60] [--turns 2]

The same script, steps and environment: Horovod with 2 ranks by bare `mpirun`, parameter servers (chief, 2
workers, 1 ps) as plain processes with TF_CONFIG set by hand; then both by `tyard run`, taking turns.
Budgets: at most 2% slower; hvd.init done at most 0.3 s later than with bare mpirun.
"""

import argparse
import json
import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tensoryard.environment.spec import environment_spec
from tensoryard.environment.venv import VenvBuilder

HOROVOD = """\
import sys, time
import horovod.tensorflow as hvd, tensorflow as tf
hvd.init()
print("FIRST", time.time(), flush=True)
steps = int(sys.argv[1])
x, y = tf.random.normal((512, 784)), tf.random.uniform((512,), 0, 10, tf.int32)
model = tf.keras.Sequential([tf.keras.layers.Dense(300, "relu"), tf.keras.layers.Dense(10)])
model.build((None, 784))
optimizer = tf.keras.optimizers.SGD(0.01)

@tf.function
def step():
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(y, model(x)))
    tape = hvd.DistributedGradientTape(tape)
    optimizer.apply_gradients(zip(tape.gradient(loss, model.trainable_variables), model.trainable_variables))

for _ in range(20):
    step()
begun = time.time()
for _ in range(steps):
    step()
print("SECONDS", time.time() - begun, flush=True)
"""
PARAMETER_SERVER = """\
import json, os, sys, time
import tensorflow as tf
resolver = tf.distribute.cluster_resolver.TFConfigClusterResolver()
if resolver.task_type in ("worker", "ps"):
    tf.distribute.Server(resolver.cluster_spec(), job_name=resolver.task_type, task_index=resolver.task_id).join()
strategy = tf.distribute.ParameterServerStrategy(resolver)
print("FIRST", time.time(), flush=True)
steps = int(sys.argv[1])
with strategy.scope():
    w = tf.Variable(tf.random.normal((784, 10)))
coordinator = tf.distribute.coordinator.ClusterCoordinator(strategy)

@tf.function
def step():
    x = tf.random.normal((256, 784))
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(tf.square(tf.matmul(x, w)))
    w.assign_sub(0.001 * tape.gradient(loss, w))
    return loss

for _ in range(20):
    coordinator.schedule(step)
coordinator.join()
begun = time.time()
for _ in range(steps):
    coordinator.schedule(step)
coordinator.join()
print("SECONDS", time.time() - begun, flush=True)
os._exit(0)
"""
JOBS = {
    "horovod": (HOROVOD, "mpi", "node_count: 2\ndistributed_training: mpi\n"),
    "parameter server": (
        PARAMETER_SERVER,
        "parameter_server",
        "node_count: 4\ndistributed_training: {parameter_server: {worker_count: 2}}\n",
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--turns", type=int, default=2)
    asked = parser.parse_args()
    for name, (script, way, fields) in JOBS.items():
        python = VenvBuilder().ensure(environment_spec(way=way), print).python  # type: ignore[arg-type]
        with tempfile.TemporaryDirectory() as work:
            folder = Path(work)
            (folder / ".tensoryard").mkdir()
            (folder / "train.py").write_text(script)
            (folder / "job.yaml").write_text(f"experiment: bench\nentry_script: train.py\n{fields}")
            bare = bare_horovod if way == "mpi" else bare_parameter_server
            trial = 2000
            steps = int(trial * asked.seconds / seconds_of(bare(folder, python, trial)[1]))
            walls: dict[str, list[float]] = {"bare": [], "tyard run": []}
            firsts: dict[str, list[float]] = {"bare": [], "tyard run": []}
            trained: dict[str, list[float]] = {"bare": [], "tyard run": []}
            for turn in range(asked.turns):
                order = ["bare", "tyard run"] if turn % 2 == 0 else ["tyard run", "bare"]
                for how in order:
                    started = time.time()
                    wall, text = bare(folder, python, steps) if how == "bare" else by_tyard(folder, steps)
                    walls[how].append(wall)
                    trained[how].append(seconds_of(text))
                    firsts[how].append(min(map(float, words_after(text, "FIRST"))) - started)
        print(f"{name}, {steps} steps, median of {asked.turns}")
        reference = statistics.median(walls["bare"])
        for how in walls:
            wall = statistics.median(walls[how])
            print(
                f"  {how:10} wall {wall:7.2f} s ({(wall / reference - 1) * 100:+.1f}%)   "
                f"set up after {statistics.median(firsts[how]):5.2f} s   training alone "
                f"{statistics.median(trained[how]):6.2f} s   runs {[round(w, 1) for w in walls[how]]}",
                flush=True,
            )


def words_after(text: str, word: str) -> list[str]:
    # Two ranks may write into one line of mpirun's.
    return re.findall(rf"{word} (\d+\.\d+)", text)


def seconds_of(text: str) -> float:
    return max(map(float, words_after(text, "SECONDS")))


def bare_horovod(folder: Path, python: str, steps: int) -> tuple[float, str]:
    started = time.time()
    argv = ["mpirun", "--allow-run-as-root", "--oversubscribe", "--bind-to", "none", "-np", "2"]
    done = subprocess.run([*argv, python, "train.py", str(steps)], cwd=folder, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stdout + done.stderr)
    return time.time() - started, done.stdout


def bare_parameter_server(folder: Path, python: str, steps: int) -> tuple[float, str]:
    sockets = [socket.socket() for _ in range(4)]
    for each in sockets:
        each.bind(("localhost", 0))
    at = [f"localhost:{each.getsockname()[1]}" for each in sockets]
    for each in sockets:
        each.close()
    cluster = {"chief": at[:1], "worker": at[1:3], "ps": at[3:]}
    started = time.time()
    processes = []
    for role, index in [("worker", 0), ("worker", 1), ("ps", 0), ("chief", 0)]:
        task = {"cluster": cluster, "task": {"type": role, "index": index}}
        environment = {**os.environ, "TF_CONFIG": json.dumps(task), "GRPC_FAIL_FAST": "use_caller"}
        processes.append(
            subprocess.Popen(
                [python, "train.py", str(steps)],
                cwd=folder,
                env=environment,
                stdout=subprocess.PIPE if role == "chief" else subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                text=True,
            )
        )
    text, _ = processes[-1].communicate()
    for process in processes[:-1]:
        process.send_signal(signal.SIGKILL)
        process.wait()
    return time.time() - started, text


def by_tyard(folder: Path, steps: int) -> tuple[float, str]:
    tyard = shutil.which("tyard", path=str(Path(sys.executable).parent)) or "tyard"
    started = time.time()
    # The steps are the script's only argument: a parameter whose name is the number and whose value is null.
    argv = [tyard, "run", "job.yaml", "--set", f"script_params={{'{steps}': null}}"]
    done = subprocess.run(argv, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stdout + done.stderr)
    return time.time() - started, done.stdout


if __name__ == "__main__":
    main()
