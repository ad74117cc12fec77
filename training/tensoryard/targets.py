"""Compute targets: where runs go, and which scheduler starts them there."""

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from tensoryard.workspace import Workspace

SchedulerName = Literal["local", "slurm"]

LOCAL = "local"  # the machine that a run is submitted from


def targets(workspace: "Workspace") -> dict[str, SchedulerName]:
    """The scheduler of every compute target that a workspace has, by the target's name."""
    return {LOCAL: "local"}
