"""`tyard cluster`: what Slurm has for runs, and why it is as it is."""

from typing import TYPE_CHECKING, Any

import click

from tensoryard.cli.cluster_cost import cost
from tensoryard.cli.cluster_stack import create, delete, scale

if TYPE_CHECKING:
    from tensoryard.scheduler.slurm_cluster import Cluster
    from tensoryard.workspace import Workspace


@click.group()
def cluster() -> None:
    """
    Show clusters and their nodes, as Slurm knows them, and change those of a workspace on Azure.

    \b
    Examples:
      tyard cluster list
      tyard cluster nodes gpucluster
      tyard cluster scale gpucluster --max 8
    """


for _command in (cost, create, scale, delete):
    cluster.add_command(_command)


@cluster.command(name="list")
@click.option("--json", "as_json", is_flag=True, help="A JSON array.")
def list_clusters(as_json: bool) -> None:
    """
    List Slurm's partitions, what their nodes have and do.

    TARGETS: what a job's compute_target may call them in this workspace.

    \b
    Examples:
      tyard cluster list
      tyard cluster list --json
    """
    from tensoryard.cli.tables import print_json, print_table
    from tensoryard.cluster_runs import away, facts
    from tensoryard.scheduler.slurm_cluster import clusters
    from tensoryard.workspace import Workspace

    workspace = Workspace.from_config()
    elsewhere = away(workspace)
    if elsewhere:
        found = [facts(workspace, name, one) for name, one in elsewhere.items()]
    else:
        found = [_facts(one, workspace) for one in clusters()]
    if as_json:
        print_json(found)
        return
    columns = ("nodes", "up", "free", "shape", "time_limit", "running", "waiting")
    print_table(
        ("CLUSTER", "NODES", "UP", "FREE", "A NODE HAS", "TIME LIMIT", "RUNNING", "WAITING", "TARGETS"),
        [
            (
                one["name"],
                *("-" if (value := (one | {"shape": _shape(one)})[name]) is None else str(value) for name in columns),
                ", ".join(one["compute_targets"]) or "-",
            )
            for one in found
        ],
    )
    if elsewhere:
        _say_where_slurm_is()
    elif found and not any(one["compute_targets"] for one in found):
        first = next((one for one in found if one["default"]), found[0])["name"]
        click.echo(f"\nRun there: tyard run job.yaml --set compute_target.slurm.partition={first}", err=True)


@cluster.command()
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="A JSON array.")
def nodes(name: str | None, as_json: bool) -> None:
    """
    List nodes: their states in words, why, and whose runs they have.

    NAME: of a cluster or compute target; left out, the nodes of all.

    \b
    Examples:
      tyard cluster nodes
      tyard cluster nodes gpucluster --json
    """
    from tensoryard.cli.tables import print_json, print_table
    from tensoryard.cluster_runs import check_on_head
    from tensoryard.scheduler.slurm_cluster import named_cluster, nodes_of
    from tensoryard.workspace import Workspace

    workspace = Workspace.from_config()
    check_on_head(workspace, "tyard cluster nodes")
    found = nodes_of(named_cluster(name, workspace) if name else None)
    if as_json:
        print_json([node._asdict() for node in found])
        return
    print_table(
        ("NODE", "STATE", "RUNS", "REASON"),
        [(node.name, node.words, ", ".join(node.runs) or "-", node.reason or "-") for node in found],
    )


@cluster.command()
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="A JSON object.")
def show(name: str, as_json: bool) -> None:
    """
    Show a cluster: nodes by state, runs, and why each waits.

    NAME: of a cluster or compute target.

    \b
    Examples:
      tyard cluster show gpucluster
      tyard cluster show gpucluster --json
    """
    from tensoryard.cli.tables import print_json, print_table
    from tensoryard.cluster_runs import away, cluster_of, facts, runs_of
    from tensoryard.scheduler.slurm_cluster import jobs_of, named_cluster
    from tensoryard.workspace import Workspace

    workspace = Workspace.from_config()
    elsewhere = cluster_of(workspace, name) if away(workspace) else None
    if elsewhere is not None:
        found, jobs = facts(workspace, name, elsewhere), runs_of(workspace, name)
    else:
        partition = named_cluster(name, workspace)
        found, jobs = _facts(partition, workspace), jobs_of(partition)
    if as_json:
        print_json({**found, "jobs": [job._asdict() for job in jobs]})
        return
    click.echo(f"cluster     {found['name']}")
    if found["compute_targets"]:
        click.echo(f"targets     {', '.join(found['compute_targets'])}")
    most = "" if elsewhere is None else "at most "
    click.echo(f"nodes       {most}{found['nodes']}: {_shape(found)}")
    for words, count in found["states"].items():
        click.echo(f"            {count} {words}")
    if elsewhere is not None:
        click.echo(f"            {elsewhere.vm_size}{', Spot' if elsewhere.spot else ''}")
    else:
        click.echo(f"time limit  {found['time_limit']}")
    if jobs:
        click.echo()
        why = (f"{job.kind}: {job.reason}" if job.kind and job.reason else job.reason or "-" for job in jobs)
        rows = [
            (job.name, job.job, job.user, str(job.nodes), job.state, words)
            for job, words in zip(jobs, why, strict=True)
        ]
        print_table(("RUN", "JOB", "USER", "NODES", "STATE", "REASON"), rows)
    if elsewhere is not None:
        _say_where_slurm_is()


def _shape(facts: dict[str, Any]) -> str:
    """What one node has; of nodes that differ, the most."""
    from tensoryard.text import size

    gpus = f", {facts['gpus']} GPU{'s' * (facts['gpus'] > 1)}" if facts["gpus"] else ""
    return f"{facts['cores']} cores, {size(facts['memory_mib'] << 20)}{gpus}"


def _say_where_slurm_is() -> None:
    click.echo("\nAs the workspace knows it. Slurm on the head node knows their state now", err=True)


def _facts(one: "Cluster", workspace: "Workspace") -> dict[str, Any]:
    from tensoryard.scheduler.slurm_cluster import target_names

    return {
        "name": one.name,
        "nodes": len(one.nodes),
        "up": one.up,
        "free": one.free,
        "cores": one.cores,
        "memory_mib": one.memory_mib,
        "gpus": one.gpus,
        "time_limit": one.limit,
        "running": one.running,
        "waiting": one.waiting,
        "states": one.states,
        "default": one.default,
        "compute_targets": target_names(one, workspace),
    }
