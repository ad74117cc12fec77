"""Compute targets by name; new ones are written into the stack that the Pulumi program makes them from."""

import time
from typing import TYPE_CHECKING, Any

from tensoryard.azureml.core.provisioning import (
    AmlComputeProvisioningConfiguration,
    Declared,
    configuration,
    declare,
)
from tensoryard.azureml.exceptions import ComputeTargetException
from tensoryard.errors import SchedulerError, UsageError
from tensoryard.targets import LOCAL, targets

if TYPE_CHECKING:
    from tensoryard.workspace import Workspace

__all__ = ["AmlCompute", "AmlComputeStatus", "ComputeTarget"]

_HINT = f"`{LOCAL}` is this machine and always there: name it in `compute_target`"
_LOOK_S = 2.0
_SAY_AGAIN_S = 60.0


class ComputeTarget:
    """
    A compute target that the workspace has.

    Raises ComputeTargetException, which names those that are there, for any other.
    """

    def __init__(self, workspace: "Workspace", name: str) -> None:
        if name not in targets(workspace):
            known = ", ".join(f"`{target}`" for target in targets(workspace))
            raise ComputeTargetException(f"compute_target: there is no `{name}`, this workspace has {known}", _HINT)
        self.workspace = workspace
        self.name = name
        self._declared: Declared | None = None

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r})"

    @property
    def provisioning_state(self) -> str:
        """`Succeeded` once the workspace has it, `Creating` while it stands in a stack's file only."""
        return "Succeeded" if self.name in targets(self.workspace) else "Creating"

    @classmethod
    def all(cls, workspace: "Workspace") -> "dict[str, ComputeTarget]":
        """Every compute target of a workspace by name."""
        return {name: cls(workspace, name) for name in targets(workspace)}

    @staticmethod
    def list(workspace: "Workspace") -> "list[ComputeTarget]":
        """Every compute target of a workspace."""
        return [*ComputeTarget.all(workspace).values()]

    @staticmethod
    def create(
        workspace: "Workspace", name: str, provisioning_configuration: AmlComputeProvisioningConfiguration
    ) -> "AmlCompute":
        """
        Write a cluster into the file of the workspace's stack, in the checkout around the current folder.

        It is made by `pulumi up`, which a person reviews and runs. Returns it at once, as `Creating`. Raises
        UsageError for what the program would refuse, such as a size that Azure has retired.
        """
        if not isinstance(provisioning_configuration, AmlComputeProvisioningConfiguration):
            raise UsageError(
                f"ComputeTarget.create: provisioning_configuration: got {provisioning_configuration!r}",
                "AmlCompute.provisioning_configuration(vm_size='STANDARD_NC4AS_T4_V3', max_nodes=4)",
            )
        made = object.__new__(AmlCompute)
        made.workspace, made.name = workspace, name
        made._declared = declare(workspace, name, provisioning_configuration)
        return made

    def wait_for_completion(
        self,
        show_output: bool = False,
        min_node_count: int | None = None,
        timeout_in_minutes: float = 25,
        is_delete_operation: bool = False,
    ) -> None:
        """
        Wait until the workspace has it: at once, for one that was not just created.

        show_output: print where it stands, with the command that makes it. Raises ComputeTargetException when it is
        not there in time.
        """
        end = time.monotonic() + 60 * timeout_in_minutes
        said = float("-inf")
        while self.provisioning_state != "Succeeded":
            assert self._declared is not None
            if time.monotonic() >= end:
                raise ComputeTargetException(
                    f"compute_target: `{self.name}` stands in {self._declared.file} and is not made yet",
                    self._declared.commands,
                )
            if show_output and time.monotonic() - said >= _SAY_AGAIN_S:
                said = time.monotonic()
                print(f"{self.name}: stands in {self._declared.file}; make it: {self._declared.commands}", flush=True)
            time.sleep(min(_LOOK_S, max(0.0, end - time.monotonic())))
        if show_output:
            print(f"{self.name}: {self.provisioning_state}", flush=True)

    def get_status(self) -> "AmlComputeStatus":
        """How it stands now."""
        return AmlComputeStatus(self)


class AmlCompute(ComputeTarget):
    """A cluster, under the name that Azure ML has for it."""

    @staticmethod
    def provisioning_configuration(
        vm_size: str = "",
        vm_priority: str = "dedicated",
        min_nodes: int = 0,
        max_nodes: int | None = None,
        **others: Any,
    ) -> AmlComputeProvisioningConfiguration:
        """
        What a new cluster is to be.

        vm_size: Azure's name of a GPU size, in any case; vm_priority: 'dedicated', or 'lowpriority' for Spot
        machines; max_nodes: most nodes at once. Raises UsageError for what is set elsewhere, and where.
        """
        return configuration(vm_size, vm_priority, min_nodes, max_nodes, others)


class AmlComputeStatus:
    """
    How a compute target stands, with Azure ML's names.

    current_node_count, node_state_counts: as Slurm says on a machine that has its commands, else None and {}.
    """

    def __init__(self, target: ComputeTarget) -> None:
        azure = target.workspace.settings().azure
        cluster = azure.clusters.get(target.name) if azure is not None else None
        self.provisioning_state = target.provisioning_state
        self.vm_size = cluster.vm_size if cluster else None
        self.vm_priority = ("lowpriority" if cluster.spot else "dedicated") if cluster else None
        self.max_node_count = cluster.max_nodes if cluster else None
        self.node_state_counts = _node_states(target.name) if cluster else {}
        self.current_node_count = sum(self.node_state_counts.values()) if self.node_state_counts else None

    def serialize(self) -> dict[str, Any]:
        """As Azure ML's own `serialize` names it."""
        return {
            "provisioningState": self.provisioning_state,
            "currentNodeCount": self.current_node_count,
            "nodeStateCounts": self.node_state_counts,
            "vmSize": self.vm_size,
            "vmPriority": self.vm_priority,
            "scaleSettings": {"minNodeCount": 0, "maxNodeCount": self.max_node_count},
        }


def _node_states(name: str) -> dict[str, int]:
    """How many nodes of a cluster are in which of Azure ML's states; empty where Slurm cannot be asked."""
    from tensoryard.nodes import cluster_of, slurm
    from tensoryard.scheduler.slurm_commands import AwayError

    try:
        nodes = [node for node in slurm.nodes() if cluster_of(node.name) == name]
    except (AwayError, SchedulerError):
        return {}
    counts = dict.fromkeys(("preparingNodeCount", "idleNodeCount", "runningNodeCount"), 0)
    counts |= dict.fromkeys(("leavingNodeCount", "unusableNodeCount"), 0)
    for node in nodes:
        if "POWERED_DOWN" in node.flags and node.state != "DOWN":
            continue
        if "POWERING_DOWN" in node.flags:
            counts["leavingNodeCount"] += 1
        elif node.state == "DOWN":
            counts["unusableNodeCount"] += 1
        elif "POWERING_UP" in node.flags:
            counts["preparingNodeCount"] += 1
        elif node.flags & {"DRAIN", "NOT_RESPONDING"}:
            counts["unusableNodeCount"] += 1
        else:
            counts["idleNodeCount" if node.state == "IDLE" else "runningNodeCount"] += 1
    return counts
