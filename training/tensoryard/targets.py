"""Compute targets: where runs go, and which scheduler starts them there."""

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from tensoryard.slurm_target import SlurmTarget
    from tensoryard.workspace import Workspace

SchedulerName = Literal["local", "slurm"]

LOCAL = "local"  # the machine that a run is submitted from
SLURM = "slurm"  # the Slurm cluster that this machine can submit to, as a job describes it
# By a controller that a client starts beside itself; all others by `tyard controller` on a cluster's head node.
SERVED_HERE = (LOCAL, SLURM)


def queue_name(target: "str | SlurmTarget") -> str:
    """The name under which the runs of a target wait for its controller."""
    return target if isinstance(target, str) else SLURM


def scheduler_of(target: "str | SlurmTarget") -> SchedulerName:
    """Which scheduler starts runs of a target: all but this machine is Slurm's."""
    return "local" if target == LOCAL else "slurm"


def targets(workspace: "Workspace") -> dict[str, SchedulerName]:
    """The scheduler of every compute target that a workspace has, by the target's name."""
    azure = workspace.settings().azure
    clusters: dict[str, SchedulerName] = dict.fromkeys(azure.clusters, "slurm") if azure else {}
    return {LOCAL: "local", **clusters}
