"""What runs used: only the time in which nodes were theirs, each time that they ran."""

import json

import pytest

from cli_runner import Tyard
from tensoryard.cost import Cost, cluster_of_target, run_cost, total
from tensoryard.run import Event, RunState
from tensoryard.settings import AzureCluster

T4 = AzureCluster(
    vm_size="Standard_NC4as_T4_v3", max_nodes=4, spot=True, scale_set="x", gpu_count=1, gpu_model="", vcpu=4,
    memory_gib=28, hourly_usd=(0.0526, 0.2104),
)  # fmt: skip


def state(*stages: tuple[float, str]) -> RunState:
    made = RunState()
    for at, stage in stages:
        made.add(Event(time=at, stage=stage))
    return made


def test_waiting_preparing_and_what_comes_after_use_no_node() -> None:
    ran = state((0, "Preparing"), (100, "Scaling"), (400, "Running"), (1000, "Post-processing"), (1100, "Completed"))

    assert run_cost(ran, 2).node_seconds == 1200


def test_a_run_that_lost_its_nodes_used_them_both_times() -> None:
    ran = state((0, "Running"), (600, "Scaling"), (900, "Running"), (1500, "Failed"))
    found = run_cost(ran, 3, T4)

    assert found.node_seconds == 3600
    assert found.usd == pytest.approx((0.0526, 0.2104))


def test_a_run_that_runs_has_used_its_nodes_until_now() -> None:
    assert run_cost(state((100, "Running")), 4, now=110).node_seconds == 40
    assert run_cost(state((0, "Preparing"), (5, "Canceled")), 4, now=99) == Cost(node_seconds=0, usd=None)


def test_in_total_what_has_no_price_counts_as_time_only() -> None:
    costs = [Cost(node_seconds=10, usd=(1, 2)), Cost(node_seconds=5, usd=None), Cost(node_seconds=1, usd=(3, 4))]

    assert total(costs) == Cost(node_seconds=16, usd=(4, 6))
    assert total([]) == Cost(node_seconds=0, usd=None)


def test_only_targets_of_the_workspace_have_a_price() -> None:
    assert cluster_of_target("gpucluster", {"gpucluster": T4}) is T4
    assert cluster_of_target("local", {"gpucluster": T4}) is None
    assert cluster_of_target({"slurm": {}}, {"gpucluster": T4}) is None


def test_nodes_that_no_task_is_on_are_not_paid_for(cli: Tyard) -> None:
    """Four tasks that fill nodes two by two need two nodes, and Slurm is asked for no more."""
    record = cli.record("mnist-0001")
    training = {"parameter_server": {"worker_count": 3, "parameter_server_count": 1, "chief": False}}
    job = {"experiment": "mnist", "entry_script": "t.py", "compute_target": "gpucluster", "node_count": 4}
    job |= {"process_count_per_node": 2, "distributed_training": training}
    cli.store.put(record.key("job.json"), json.dumps(job).encode())
    for time, stage in ((0, "Running"), (1800, "Completed")):
        cli.store.append(record.key("events.jsonl"), json.dumps({"time": time, "stage": stage}).encode() + b"\n")

    (one,) = json.loads(cli("cluster", "cost", "--json"))["runs"]
    assert (one["nodes"], one["node_seconds"]) == (2, 3600)


def test_runs_on_clusters_are_listed_with_what_they_used(cli: Tyard) -> None:
    for number, (target, nodes) in enumerate([("gpucluster", 2), ("local", 1), ({"slurm": {}}, 3)], 1):
        record = cli.record(f"mnist-{number:04}")
        job = {"experiment": "mnist", "entry_script": "train.py", "compute_target": target, "node_count": nodes}
        job |= {"distributed_training": "mpi"}
        cli.store.put(record.key("job.json"), json.dumps(job).encode())
        for time, stage in ((0, "Running"), (1800, "Completed")):
            cli.store.append(record.key("events.jsonl"), json.dumps({"time": time, "stage": stage}).encode() + b"\n")

    assert [line.split() for line in cli("cluster", "cost").splitlines()] == [
        ["RUN", "CLUSTER", "NODES", "NODE-HOURS", "USD"],
        ["mnist-0003", "slurm", "3", "1.50", "-"],
        ["mnist-0001", "gpucluster", "2", "1.00", "-"],
        ["total", "2.50", "-"],
    ]
    (one,) = json.loads(cli("cluster", "cost", "1", "--json"))["runs"]
    assert one == {"run": "mnist-0001", "cluster": "gpucluster", "nodes": 2, "node_seconds": 3600, "usd": None}
