"""How a compute target stands, with Azure ML's names: by workspace.json, and by Slurm where it can be asked."""

from typing import TYPE_CHECKING, Any, NamedTuple

from tensoryard.errors import NotFoundError, SchedulerError

if TYPE_CHECKING:
    from tensoryard.nodes.slurm import SlurmNode
    from tensoryard.workspace import Workspace

IDLE_S = 300
_STATES = ("preparing", "idle", "running", "leaving", "unusable")


class ScaleSettings(NamedTuple):
    """How many nodes there may be, and how long an idle one stays; None where that is Slurm's alone to say."""

    minimum_node_count: int | None
    maximum_node_count: int | None
    idle_seconds_before_scaledown: int | None


class AmlComputeStatus:
    """
    How a compute target stands.

    current_node_count, node_state_counts: as Slurm says on a machine that has its commands, else None and {}.
    """

    def __init__(self, workspace: "Workspace", name: str, provisioning_state: str) -> None:
        azure = workspace.settings().azure
        cluster = azure.clusters.get(name) if azure is not None else None
        self.provisioning_state = provisioning_state
        self.vm_size = cluster.vm_size if cluster else None
        self.vm_priority = ("lowpriority" if cluster.spot else "dedicated") if cluster else None
        self.max_node_count = cluster.max_nodes if cluster else None
        self.scale_settings = (
            ScaleSettings(0, cluster.max_nodes, IDLE_S) if cluster else ScaleSettings(None, None, None)
        )
        try:
            states = [node["nodeState"] for node in listed_nodes(workspace, name)]
        except (SchedulerError, NotFoundError):
            self.node_state_counts: dict[str, int] = {}
            self.current_node_count = None
        else:
            self.node_state_counts = {f"{state}NodeCount": states.count(state) for state in _STATES}
            self.current_node_count = len(states)

    def serialize(self) -> dict[str, Any]:
        """As Azure ML's own `serialize` names it."""
        scale = self.scale_settings
        return {
            "provisioningState": self.provisioning_state,
            "currentNodeCount": self.current_node_count,
            "nodeStateCounts": self.node_state_counts,
            "vmSize": self.vm_size,
            "vmPriority": self.vm_priority,
            "scaleSettings": {
                "minNodeCount": scale.minimum_node_count,
                "maxNodeCount": scale.maximum_node_count,
                "nodeIdleTimeBeforeScaleDown": scale.idle_seconds_before_scaledown,
            },
        }


def listed_nodes(workspace: "Workspace", name: str) -> list[dict[str, Any]]:
    """The nodes of a compute target that are there. Raises SchedulerError where Slurm cannot be asked."""
    from tensoryard.scheduler.slurm_cluster import named_cluster, nodes_of
    from tensoryard.targets import LOCAL

    if name == LOCAL:
        return []
    cluster = named_cluster(name, workspace)
    runs = {view.name: view.runs for view in nodes_of(cluster)}
    states = ((node, _state(node)) for node in cluster.nodes)
    return [
        {"nodeId": node.name, "nodeState": state, "runId": next(iter(runs.get(node.name, ())), None)}
        for node, state in states
        if state is not None
    ]


def _state(node: "SlurmNode") -> str | None:
    """Azure ML's word for the state of a node; None for one that has no machine."""
    if "POWERED_DOWN" in node.flags and node.state != "DOWN":
        return None
    if "POWERING_DOWN" in node.flags:
        return "leaving"
    if node.state == "DOWN":
        return "unusable"
    if "POWERING_UP" in node.flags:
        return "preparing"
    if node.flags & {"DRAIN", "NOT_RESPONDING"}:
        return "unusable"
    return "idle" if node.state == "IDLE" else "running"
