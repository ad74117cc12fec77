"""`tyard cluster cost`: what runs used of clusters, from their records."""

from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from tensoryard.cost import Cost

_HOUR_S = 3600


@click.command()
@click.argument("names", metavar="[RUN]...", nargs=-1)
@click.option("--experiment", metavar="NAME", help="Only runs of this experiment.")
@click.option("--json", "as_json", is_flag=True, help="A JSON object.")
def cost(names: tuple[str, ...], experiment: str | None, as_json: bool) -> None:
    """
    Show what runs on clusters used, in node-hours and money.

    Money only where a node's price is known.

    RUN: ids, numbers or `latest`; left out, all. Only the time counts in which nodes were a run's, each time that it
    ran. Prices are the list prices that the Pulumi program knows; Spot has a lowest and a highest.

    \b
    Examples:
      tyard cluster cost
      tyard cluster cost --experiment mnist --json
    """
    from tensoryard.cli.tables import print_json, print_table
    from tensoryard.cost import cluster_of_target, run_cost, total
    from tensoryard.run import find_run, list_runs
    from tensoryard.targets import LOCAL, shown_name
    from tensoryard.workspace import Workspace

    workspace = Workspace.from_config()
    azure = workspace.settings().azure
    clusters = azure.clusters if azure is not None else {}
    runs = [find_run(workspace.store, name) for name in names] or list_runs(workspace.store, experiment)
    rows: list[tuple[str, str, int, Cost]] = []
    for run in runs:
        target = run.job.compute_target
        if target == LOCAL or experiment not in (None, run.job.experiment):
            continue
        nodes = run.job.nodes
        used = run_cost(run.state(), nodes, cluster_of_target(target, clusters))
        rows.append((run.id, shown_name(target), nodes, used))
    everything = total(used for *_, used in rows)
    if as_json:
        facts = [{"run": run, "cluster": name, "nodes": nodes, **_facts(used)} for run, name, nodes, used in rows]
        print_json({"runs": facts, **_facts(everything)})
        return
    shown = [(run, name, str(nodes), _hours(used), _money(used)) for run, name, nodes, used in rows]
    last = ("total", "", "", _hours(everything), _money(everything))
    print_table(("RUN", "CLUSTER", "NODES", "NODE-HOURS", "USD"), [*shown, last])


def _facts(used: "Cost") -> dict[str, Any]:
    return {"node_seconds": round(used.node_seconds, 3), "usd": used.usd}


def _hours(used: "Cost") -> str:
    return f"{used.node_seconds / _HOUR_S:.2f}"


def _money(used: "Cost") -> str:
    if used.usd is None:
        return "-"
    low, high = used.usd
    return f"{low:.2f}" if low == high else f"{low:.2f} to {high:.2f}"
