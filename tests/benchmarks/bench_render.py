"""
Rendering a parameter-server job of 1,000 nodes, TF_CONFIG of every task included. Budget: 100 ms.

    python tests/benchmarks/bench_render.py

The rival is the direct way to the same TF_CONFIGs: `json.dumps` of the whole cluster for every task.
"""

import json
import statistics
import time
from collections.abc import Callable

from tensoryard.job import Job, ParameterServer, ParameterServerTraining
from tensoryard.render import Placement, render
from tensoryard.tf_config import addresses

NODES = 1000


def main() -> None:
    training = ParameterServerTraining(ParameterServer(worker_count=NODES - 101, parameter_server_count=100))
    job = Job(experiment="bench", entry_script="train.py", node_count=NODES, distributed_training=training)
    hosts = tuple(f"gpu-{number:04d}" for number in range(NODES))
    files = render(job, Placement("slurm", hosts), run_id="bench-0001", run_dir="/runs/bench-0001", local_paths={})

    def ours() -> None:
        render(job, Placement("slurm", hosts), run_id="bench-0001", run_dir="/runs/bench-0001", local_paths={})

    def rival() -> None:
        cluster: dict[str, list[str]] = {}
        tasks = job.tasks()
        for task, address in zip(tasks, addresses(tasks, hosts), strict=True):
            cluster.setdefault(task.role, []).append(address)
        for task in tasks:
            json.dumps({"cluster": cluster, "task": {"type": task.role, "index": task.task_index}})

    size = sum(map(len, files.values())) / 2**20
    print(f"{NODES} nodes, {len(files)} files, {size:.1f} MiB, median of 10")
    for name, function in {"render, everything": ours, "json.dumps of TF_CONFIGs alone": rival}.items():
        print(f"  {name:32} {median_ms(function):8.1f} ms")


def median_ms(function: Callable[[], None]) -> float:
    times = []
    for _ in range(10):
        started = time.perf_counter()
        function()
        times.append(time.perf_counter() - started)
    return statistics.median(times) * 1000


if __name__ == "__main__":
    main()
