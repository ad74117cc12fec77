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
    """The name under which the runs of a target wait for its controller; of a job as it is in its run."""
    return target if isinstance(target, str) else SLURM


def scheduler_of(target: "str | SlurmTarget") -> SchedulerName:
    """Which scheduler starts runs of a target: all but this machine is Slurm's."""
    return "local" if target == LOCAL else "slurm"


def shown_name(target: "str | SlurmTarget") -> str:
    """What people call a target."""
    return target if isinstance(target, str) else target.name or SLURM


def targets(workspace: "Workspace") -> dict[str, SchedulerName]:
    """The scheduler of every compute target that a workspace has, by the target's name."""
    settings = workspace.settings()
    clusters: dict[str, SchedulerName] = dict.fromkeys(settings.azure.clusters, "slurm") if settings.azure else {}
    named: dict[str, SchedulerName] = dict.fromkeys(settings.compute_targets, "slurm")
    return {LOCAL: "local", **clusters, **named}


def meant(workspace: "Workspace", target: "str | SlurmTarget") -> "str | SlurmTarget":
    """A target with what workspace.json says of its name: a run keeps that, whatever the file says later."""
    named = workspace.settings().compute_targets.get(target) if isinstance(target, str) else None
    if named is None:
        return target
    import msgspec

    return msgspec.structs.replace(named, name=target)
