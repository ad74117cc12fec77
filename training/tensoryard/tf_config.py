"""
Which tasks a job has, on which node each runs, and the TF_CONFIG of each.

Pure and standard library only: `render` uses it on the client, `rank.py` beside the user's script.
Source: TensorFlow's distributed training guide, "TF_CONFIG"; `environment: cloud` as Azure ML's SDK v1 wrote it.
"""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

BASE_PORT = 2222
# Below those that Linux hands out by itself (32768 up) and those of Slurm's own daemons and srun.
SHARED_PORTS = range(10_000, 30_000)
JOB_PORTS = 8


class TaskConfig(NamedTuple):
    """The TF_CONFIG of one task on its node. port: where others look for it, 0 when nobody does."""

    text: str
    port: int

    def taken_port(self) -> int:
        """The port, if another program on this node has it; else 0."""
        import socket

        with socket.socket() as held:
            held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # what an ended program left is no bar
            try:
                held.bind(("", self.port))
            except OSError:
                return self.port
        return 0


class Task(NamedTuple):
    """One process of a run. node: index into the run's hosts, 0-based."""

    role: str
    task_index: int
    node: int

    @property
    def name(self) -> str:
        return f"{self.role}-{self.task_index}"


def place(roles: Mapping[str, int], tasks_per_node: int) -> list[Task]:
    """
    Tasks in the order of roles, filling one node after the other.

    roles: count of each role, such as {"chief": 1, "worker": 2, "ps": 1}; tasks_per_node: at least 1.
    """
    named = [(role, index) for role, count in roles.items() for index in range(count)]
    return [Task(role, index, slot // tasks_per_node) for slot, (role, index) in enumerate(named)]


def spread(roles: Mapping[str, int], node_count: int) -> list[Task]:
    """Tasks in the order of roles, neighbours together, as evenly over the nodes as they go."""
    named = [(role, index) for role, count in roles.items() for index in range(count)]
    return [Task(role, index, slot * node_count // len(named)) for slot, (role, index) in enumerate(named)]


def first_port(tasks: Sequence[Task], number: int) -> int:
    """
    The port to count up from on nodes that a Slurm job shares with others; number: the job's.

    Jobs have at least 8 ports each, so that two meet when their numbers differ by a multiple of 2,500.
    """
    most = max(sum(task.node == node for task in tasks) for node in {task.node for task in tasks})
    each = max(most, JOB_PORTS)
    return SHARED_PORTS.start + number % (len(SHARED_PORTS) // each) * each


def addresses(
    tasks: Sequence[Task], hosts: Sequence[str], ports: Sequence[int] | None = None, first: int = BASE_PORT
) -> list[str]:
    """
    "host:port" of every task, in the order of tasks.

    hosts: name of each node; ports: TCP port of each task, or None to count up on every host from the first.
    """
    if ports is None:
        taken: dict[str, int] = {}
        ports = []
        for task in tasks:
            port = taken.get(hosts[task.node], first)
            taken[hosts[task.node]] = port + 1
            ports.append(port)
    return [f"{hosts[task.node]}:{port}" for task, port in zip(tasks, ports, strict=True)]


def tf_configs(
    tasks: Sequence[Task], task_addresses: Sequence[str], only: str | None = None
) -> Iterable[tuple[str, str]]:
    """
    (task name, TF_CONFIG as JSON text) of every task, or of the one named `only`.

    The evaluator is no part of the cluster that the others form, as TensorFlow asks.
    """
    cluster: dict[str, list[str]] = {}
    for task, address in zip(tasks, task_addresses, strict=True):
        if task.role != "evaluator":
            cluster.setdefault(task.role, []).append(address)
    # The cluster is the same text in every task: written once, a thousand tasks stay cheap.
    shared = json.dumps(cluster)
    for task in tasks:
        if only is None or task.name == only:
            own = json.dumps({"type": task.role, "index": task.task_index})
            yield task.name, f'{{"cluster": {shared}, "task": {own}, "environment": "cloud"}}'


def own_tf_config(layout: dict[str, Any], hosts: Sequence[str], name: str) -> TaskConfig:
    """
    What a task is told on its node.

    layout: of launch/layout.json; hosts: name of each node. Ports are counted up from one that comes from the number
    of the Slurm job where it shares its nodes.
    """
    tasks = [Task(task["role"], task["index"], task["node"]) for task in layout["tasks"]]
    first = first_port(tasks, int(os.environ["SLURM_JOB_ID"])) if layout.get("shares_nodes") else BASE_PORT
    all_addresses = addresses(tasks, hosts, layout["ports"], first)
    own = next(index for index, task in enumerate(tasks) if task.name == name)
    listens = tasks[own].role not in ("chief", "evaluator")
    port = int(all_addresses[own].rpartition(":")[2]) if listens else 0
    return TaskConfig(dict(tf_configs(tasks, all_addresses, only=name))[name], port)
