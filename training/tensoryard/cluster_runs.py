"""A workspace's clusters on a machine that cannot ask Slurm: what they may have, and the runs that are theirs now."""

import shutil
from typing import TYPE_CHECKING, Any

from tensoryard.errors import NotFoundError, SchedulerError
from tensoryard.scheduler.slurm_cluster import JobView
from tensoryard.store import keys

if TYPE_CHECKING:
    from tensoryard.settings import AzureCluster
    from tensoryard.workspace import Workspace

_ADMIN = "tyard"  # as infra/names.py calls the account on heads


def away(workspace: "Workspace") -> "dict[str, AzureCluster]":
    """The clusters of a workspace on Azure, by name, where Slurm's commands are not: they are on its head."""
    azure = workspace.settings().azure
    return azure.clusters if azure is not None and shutil.which("squeue") is None else {}


def check_on_head(workspace: "Workspace", command: str) -> None:
    """
    See that Slurm can be asked here.

    Raises SchedulerError, with how to run the command there, where a workspace on Azure has Slurm on its head only.
    """
    if not away(workspace):
        return
    azure = workspace.settings().azure
    assert azure is not None
    there = f"az vm run-command invoke --resource-group {azure.resource_group} --name {azure.head.name}"
    there += f" --command-id RunShellScript --scripts '{command}'"
    if azure.head.public_address:
        there = f"ssh {_ADMIN}@{azure.head.public_address} {command}"
    raise SchedulerError(f"{command}: only `{azure.head.name}`, the head of `{azure.name}`, can ask Slurm", there)


def runs_of(workspace: "Workspace", name: str) -> list[JobView]:
    """The runs of a cluster that have not ended, oldest first, as the workspace's store has them."""
    from tensoryard.run import RunRecord

    found = []
    for run_id in sorted(workspace.store.children(keys.queued(workspace.queue(name))), key=_number):
        run = RunRecord(workspace.store, run_id)
        state = run.state()
        if state.ended or not run.was_submitted():
            continue
        found.append(
            JobView(
                job="-",
                name=run_id,
                user="-",
                nodes=run.job.nodes,
                state=state.stage,
                kind=None,
                reason=state.reason or (None if state.stages else "waiting for the controller on the head"),
                hosts="",
                partition=name,
            )
        )
    return found


def cluster_of(workspace: "Workspace", name: str) -> "AzureCluster":
    """A cluster by its name. Raises NotFoundError with those that there are."""
    import difflib

    there = away(workspace)
    if name in there:
        return there[name]
    near = difflib.get_close_matches(name, there, n=1)
    listed = ", ".join(f"`{one}`" for one in there)
    hint = f"did you mean `{near[0]}`?" if near else None
    raise NotFoundError(f"cluster: there is no `{name}`; this workspace has {listed}", hint)


def facts(workspace: "Workspace", name: str, cluster: "AzureCluster") -> dict[str, Any]:
    """The fields of `tyard cluster list --json`; None for what only Slurm knows."""
    stages = [run.state for run in runs_of(workspace, name)]
    running = sum(stage in ("Running", "Post-processing") for stage in stages)
    return {
        "name": name,
        "nodes": cluster.max_nodes,
        "up": None,
        "free": None,
        "cores": cluster.vcpu,
        "memory_mib": int(cluster.memory_gib * 1024),
        "gpus": cluster.gpu_count,
        "time_limit": None,
        "running": running,
        "waiting": len(stages) - running,
        "states": {},
        "default": None,
        "compute_targets": [name],
    }


def _number(run_id: str) -> int:
    """A run's, which counts those of all experiments."""
    number = run_id.rpartition("-")[2]
    return int(number) if number.isdigit() else 0
