"""
Which tasks a job has, on which node each runs, and the TF_CONFIG of each.

Pure and standard library only: `render` uses it on the client, `rank.py` beside the user's script.
Source: TensorFlow's distributed training guide, "TF_CONFIG"; `environment: cloud` as Azure ML's SDK v1 wrote it.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

BASE_PORT = 2222


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


def addresses(tasks: Sequence[Task], hosts: Sequence[str], ports: Sequence[int] | None = None) -> list[str]:
    """
    "host:port" of every task, in the order of tasks.

    hosts: name of each node; ports: TCP port of each task, or None to count up from 2222 on every host.
    """
    if ports is None:
        taken: dict[str, int] = {}
        ports = []
        for task in tasks:
            port = taken.get(hosts[task.node], BASE_PORT)
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
