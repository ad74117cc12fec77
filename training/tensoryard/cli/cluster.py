"""`tyard cluster`: what Slurm has for runs, and why it is as it is."""

from typing import TYPE_CHECKING, Any

import click

from tensoryard.cli.cluster_cost import cost

if TYPE_CHECKING:
    from tensoryard.scheduler.slurm_cluster import Cluster


@click.group()
def cluster() -> None:
    """
    Show clusters and their nodes, as Slurm knows them on this machine.

    \b
    Examples:
      tyard cluster list
      tyard cluster nodes gpucluster
    """


cluster.add_command(cost)


@cluster.command(name="list")
@click.option("--json", "as_json", is_flag=True, help="A JSON array.")
def list_clusters(as_json: bool) -> None:
    """
    List Slurm's partitions, what their nodes have and do.

    \b
    Examples:
      tyard cluster list
      tyard cluster list --json
    """
    from tensoryard.cli.tables import print_json, print_table
    from tensoryard.scheduler.slurm_cluster import clusters

    found = clusters()
    if as_json:
        print_json([_facts(one) for one in found])
        return
    print_table(
        ("CLUSTER", "NODES", "UP", "FREE", "A NODE HAS", "TIME LIMIT", "RUNNING", "WAITING"),
        [
            (
                one.name,
                *map(str, (len(one.nodes), one.up, one.free)),
                one.shape,
                one.limit,
                *map(str, (one.running, one.waiting)),
            )
            for one in found
        ],
    )


@cluster.command()
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="A JSON array.")
def nodes(name: str | None, as_json: bool) -> None:
    """
    List nodes: their states in words, why, and whose runs they have.

    NAME: of a cluster; left out, the nodes of all.

    \b
    Examples:
      tyard cluster nodes
      tyard cluster nodes gpucluster --json
    """
    from tensoryard.cli.tables import print_json, print_table
    from tensoryard.scheduler.slurm_cluster import named_cluster, nodes_of

    found = nodes_of(named_cluster(name) if name else None)
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

    \b
    Examples:
      tyard cluster show gpucluster
      tyard cluster show gpucluster --json
    """
    from tensoryard.cli.tables import print_json, print_table
    from tensoryard.scheduler.slurm_cluster import jobs_of, named_cluster

    found = named_cluster(name)
    jobs = jobs_of(found)
    if as_json:
        print_json({**_facts(found), "jobs": [job._asdict() for job in jobs]})
        return
    click.echo(f"cluster     {found.name}")
    click.echo(f"nodes       {len(found.nodes)}: {found.shape}")
    for words, count in found.states.items():
        click.echo(f"            {count} {words}")
    click.echo(f"time limit  {found.limit}")
    if jobs:
        click.echo()
        rows = [(job.name, job.job, job.user, str(job.nodes), job.state, job.reason or "-") for job in jobs]
        print_table(("RUN", "JOB", "USER", "NODES", "STATE", "REASON"), rows)


def _facts(one: "Cluster") -> dict[str, Any]:
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
    }
