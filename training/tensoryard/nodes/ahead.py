"""Nodes started before a run waits for them, and idle ones let go before their time, by Slurm's own power saving."""

from collections.abc import Sequence
from typing import NamedTuple

from tensoryard.errors import UsageError
from tensoryard.nodes import slurm
from tensoryard.nodes.slurm import SlurmNode


class Moved(NamedTuple):
    """Names of nodes. there: up or being started already, and so they stay."""

    there: tuple[str, ...]
    started: tuple[str, ...]
    let_go: tuple[str, ...]


def have_nodes(cluster: str, nodes: Sequence[SlurmNode], count: int) -> Moved:
    """
    See that so many nodes of a cluster are up or being started, as far as none that is in use has to go for it.

    Slurm lets each go again once it has been idle for its SuspendTime. Raises UsageError where nodes are always
    there, or are fewer.
    """
    if not any("CLOUD" in node.flags for node in nodes):
        raise UsageError(
            f"--nodes: the nodes of `{cluster}` are always there: none is started for runs, and none goes"
        )
    # POWER_UP: asked for, and Slurm has not got to it yet.
    there = [node for node in nodes if node.wanted or "POWER_UP" in node.flags]
    off = [node for node in nodes if node not in there and node.state == "IDLE" and "POWERED_DOWN" in node.flags]
    if count > len(there) + len(off):
        lost = len(nodes) - len(there) - len(off)
        also = f", {lost} of them down or going away" if lost else ""
        raise UsageError(
            f"--nodes: got {count}, `{cluster}` has {len(nodes)} nodes{also}", f"tyard cluster nodes {cluster}"
        )
    started = [node.name for node in off[: max(0, count - len(there))]]
    # Of those that no job is on, the last ones: the first are those that Slurm gives to jobs first.
    idle = [node.name for node in there if node.up and node.state == "IDLE" and "COMPLETING" not in node.flags]
    let_go = idle[len(idle) - min(len(idle), max(0, len(there) - count)) :]
    if started:
        slurm.update(started, state="power_up")
    if let_go:
        slurm.update(let_go, state="power_down")
    return Moved(tuple(node.name for node in there if node.name not in let_go), tuple(started), tuple(let_go))
