"""`tyard cluster` beside a real Slurm, and compute targets that workspace.json names."""

import json

import pytest

from cli_runner import Tyard
from launching import wait_until
from services.slurm import SlurmCluster
from tensoryard import Workspace
from tensoryard.azureml.core.compute import AmlCompute, ComputeTarget


def test_clusters_and_nodes_are_shown_with_states_in_words(slurm: SlurmCluster, cli: Tyard) -> None:
    cli.environ["SLURM_CONF"] = slurm.environ["SLURM_CONF"]
    slurm.run("scontrol", "update", "nodename=node-2", "state=drain", "reason=a fan is broken")
    slurm.run("sbatch", "--job-name=mine-0001", "--nodelist=node-1", "--output=/dev/null", "--wrap=sleep 600")
    slurm.run("sbatch", "--job-name=mine-0002", "--nodelist=node-2", "--output=/dev/null", "--wrap=sleep 600")
    wait_until(
        lambda: len([job for job in slurm.jobs() if "RUNNING" in job or "ReqNode" in job]) == 2, "jobs are seen"
    )
    wait_until(lambda: "RUNNING" in "".join(slurm.jobs()), "one runs")

    listed = cli("cluster", "list").splitlines()
    assert listed[0].split()[:4] == ["CLUSTER", "NODES", "UP", "FREE"]
    assert listed[1].split()[:3] == ["main", "3", "3"]
    nodes = {line.split()[0]: line for line in cli("cluster", "nodes", "main").splitlines()[1:]}
    assert "mine-0001" in nodes["node-1"]
    assert "in use" in nodes["node-1"]
    assert "takes no more jobs" in nodes["node-2"]
    assert "a fan is broken" in nodes["node-2"]
    shown = cli("cluster", "show", "main")
    assert "1 takes no more jobs" in shown
    assert "resources: the nodes it needs are not available" in shown
    said = json.loads(cli("cluster", "show", "main", "--json"))
    assert (said["name"], said["nodes"], said["running"], said["waiting"]) == ("main", 3, 1, 1)
    assert [job["kind"] for job in said["jobs"] if job["state"] == "PENDING"] == ["resources"]


def test_a_cluster_that_is_not_there_names_the_nearest(slurm: SlurmCluster, cli: Tyard) -> None:
    cli.environ["SLURM_CONF"] = slurm.environ["SLURM_CONF"]
    _, talk = cli.both("cluster", "show", "mian", code=1)
    assert "there is no `mian`; Slurm has `main`, `gpu`, `short`" in talk
    assert "did you mean `main`?" in talk


def test_a_machine_without_slurm_says_so(cli: Tyard) -> None:
    cli.environ["PATH"] = "/nowhere"
    _, talk = cli.both("cluster", "list", code=1)
    assert "`squeue` is not on this machine's PATH" in talk


@pytest.fixture
def named(slurm: SlurmCluster, cli: Tyard) -> Tyard:
    """A workspace that has names for a partition and for the default one."""
    cli.environ["SLURM_CONF"] = slurm.environ["SLURM_CONF"]
    cli.workspace.mkdir(exist_ok=True)
    known = {"big": {"slurm": {"partition": "gpu"}}, "any": {"slurm": {"extra_directives": ["--comment=any"]}}}
    settings = cli.workspace / "workspace.json"
    before = json.loads(settings.read_text()) if settings.exists() else {}
    settings.write_text(json.dumps({**before, "compute_targets": known}))
    return cli


def test_a_name_of_the_workspace_is_a_compute_target(named: Tyard) -> None:
    named.job("import os; print('on', os.uname().nodename)", compute_target="any")
    out = named("run", "job.yaml", "--set", "compute_target=big")
    assert "worker-0 | on node-3" in out
    run = Workspace(named.workspace).get_run("latest")
    assert run.get_details()["target"] == "big"
    assert "--partition=gpu" in named("render", "--set", "compute_target=big")
    assert "--comment=any" in named("render")
    assert named("cluster", "cost").splitlines()[1].split()[1] == "big"
    _, talk = named.both("run", "job.yaml", "--set", "compute_target=bigg", code=2)
    assert "this workspace has `local`, `big`, `any`" in talk
    assert "did you mean `big`?" in talk
    _, talk = named.both("run", "job.yaml", "--set", "compute_target=short", code=2)
    assert "`short` is a partition of Slurm here: --set compute_target.slurm.partition=short" in talk


def test_names_are_shown_beside_their_partitions(named: Tyard) -> None:
    rows = {line.split()[0]: line.split()[-1] for line in named("cluster", "list").splitlines()[1:]}
    assert rows == {"main": "any", "gpu": "big", "short": "-"}
    assert named("cluster", "show", "big").splitlines()[:2] == ["cluster     gpu", "targets     big"]
    assert [node["name"] for node in json.loads(named("cluster", "nodes", "big", "--json"))] == ["node-3"]
    _, talk = named.both("cluster", "show", "bgi", code=1)
    assert "this workspace `big`, `any`" in talk
    assert "did you mean `big`?" in talk


def test_from_python_it_has_nodes_and_a_status(named: Tyard) -> None:
    ws = Workspace(named.workspace)
    target = ComputeTarget(workspace=ws, name="big")
    target.wait_for_completion(show_output=True)

    assert not isinstance(target, AmlCompute)
    assert (target.type, target.provisioning_state) == ("Slurm", "Succeeded")
    assert target.list_nodes() == [{"nodeId": "node-3", "nodeState": "idle", "runId": None}]
    status = target.get_status()
    assert (status.current_node_count, status.node_state_counts["idleNodeCount"]) == (1, 1)
    assert list(ws.compute_targets) == ["local", "big", "any"]


def test_nodes_that_are_not_ours_are_not_scaled(named: Tyard) -> None:
    for name in ("big", "short"):
        _, talk = named.both("cluster", "scale", name, "--max", "9", code=2)
        assert f"`{name}` is a Slurm cluster that no stack of ours makes" in talk
    _, talk = named.both("cluster", "scale", "big", "--nodes", "1", code=2)
    assert "the nodes of `big` are always there" in talk
    _, talk = named.both("cluster", "scale", "big", code=2)
    assert "give either --max or --nodes" in talk
