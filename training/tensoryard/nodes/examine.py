"""Where machines and nodes do not agree: found by looking at both, with what puts it right."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

import msgspec

from tensoryard.nodes import REASON, Machine
from tensoryard.nodes.slurm import SlurmNode

if TYPE_CHECKING:
    from tensoryard.settings import AzureCluster

KEPT_DOWN = f"{REASON}kept down: "
TAKEN_AWAY = f"{REASON}taken away: "  # by the watcher on the node itself, templates/node/tyard-events.py.j2
NEVER_CAME_UP = "ResumeTimeout reached"  # Slurm's own words
# Slurm's words for a node that reported less than it is configured to have.
_MISMATCH = re.compile(r"Low RealMemory|Low TmpDisk|Low socket|Low CPUs|gres/\w+ count", re.IGNORECASE)
# Of a size's memory, what the kernel and the host keep for themselves at most; a node that reports less is drained.
_MEMORY_SHARE = 0.95

Fix = Literal["remove", "start", "give up", "try again", "fail"]


class Limits(NamedTuple):
    """
    Seconds. orphan: until a machine without a name is nobody's; retry: until a node whose machine could not be had is
    tried again; silent: until a node that does not answer is given up, though its machine runs.
    """

    orphan: float = 600
    retry: float = 300
    silent: float = 600


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """
    One disagreement.

    problem: in words; machine, node: whom it is about; fix: what puts it right, None when a person has to decide;
    advice: what that person does; safe: whether a program may do it without being asked.
    """

    problem: str
    node: str | None = None
    machine: Machine | None = None
    fix: Fix | None = None
    advice: str | None = None
    safe: bool = True


LIMITS = Limits()


def examine(
    machines: Sequence[Machine], nodes: Sequence[SlurmNode], now: float, limits: Limits = LIMITS
) -> list[Finding]:
    """
    Every disagreement between the machines of a cluster and its nodes.

    machines: looked at before the nodes, so that a node that has just been started is not missed; now: seconds since
    the epoch.
    """
    by_name = {node.name: node for node in nodes}
    alive: dict[str, Machine] = {}
    found: list[Finding] = []
    for machine in sorted(machines, key=lambda machine: (machine.created, machine.id)):
        if machine.state == "stopping":
            continue
        finding = _of_machine(machine, by_name, alive, now, limits)
        if finding is not None:
            found.append(finding)
        elif machine.node is not None:
            alive[machine.node] = machine
    for node in nodes:
        found += _of_node(node, alive.get(node.name), now, limits)
    return found


def _of_machine(
    machine: Machine, nodes: dict[str, SlurmNode], alive: dict[str, Machine], now: float, limits: Limits
) -> Finding | None:
    def remove(words: str) -> Finding:
        return Finding(problem=f"{machine.id} {words}", machine=machine, node=machine.node, fix="remove")

    if not machine.usable:
        return remove(f"{machine.state}: {machine.problem or 'it will not come back'}")
    if machine.node is None:
        minutes = (now - machine.created) / 60
        waited = now - machine.created > limits.orphan
        return remove(f"has been no node's for {minutes:.0f} min") if waited else None
    node = nodes.get(machine.node)
    if node is None:
        return remove(f"is for `{machine.node}`, which Slurm does not know")
    if "POWERED_DOWN" in node.flags and "POWERING_UP" not in node.flags and node.state in ("IDLE", "DOWN"):
        return remove(f"runs, though Slurm has let go of `{node.name}`")
    if machine.node in alive:
        return remove(f"is a second machine for `{node.name}`")
    return None


def _of_node(node: SlurmNode, machine: Machine | None, now: float, limits: Limits) -> Iterator[Finding]:
    since = now - node.reason_at if node.reason_at is not None else 0.0
    if node.reason and _MISMATCH.search(node.reason):
        words = f"`{node.name}` is not as configured: {node.reason}"
        yield Finding(problem=words, node=node.name, advice=_mismatch_advice(node), safe=False)
        return
    if "CLOUD" in node.flags:
        if node.state == "DOWN":
            yield _of_down_node(node, machine, since, limits)
        elif "DRAIN" in node.flags and node.reason.startswith(TAKEN_AWAY) and machine and since > limits.retry:
            # It was to be started anew only, and is still drained from then.
            words = f"`{node.name}` was to go and is there still: {node.reason.removeprefix(REASON)}"
            yield Finding(problem=words, node=node.name, machine=machine, fix="try again")
        elif node.wanted and machine is None:
            if "POWERING_UP" in node.flags:
                yield Finding(problem=f"`{node.name}` is to start and has no machine", node=node.name, fix="start")
            elif not node.up:  # one that answers has a machine, whatever a list of Azure's leaves out
                yield Finding(problem=f"the machine of `{node.name}` is gone", node=node.name, fix="give up")


def _of_down_node(node: SlurmNode, machine: Machine | None, since: float, limits: Limits) -> Finding:
    if node.reason.startswith(KEPT_DOWN):
        return Finding(problem=f"`{node.name}`: {node.reason}", node=node.name, fix="try again", safe=False)
    if node.reason.startswith(NEVER_CAME_UP):
        return Finding(problem=f"`{node.name}` never came up", node=node.name, machine=machine, fix="fail")
    if node.reason.startswith(REASON):
        words = f"`{node.name}` has no machine: {node.reason.removeprefix(REASON)}"
        taken = node.reason.startswith(TAKEN_AWAY) and machine is None
        fix: Fix | None = "try again" if taken or since > limits.retry else None
        return Finding(
            problem=words, node=node.name, fix=fix, advice=None if fix else "it is tried again in some minutes"
        )
    if machine is None or since > limits.silent:
        why = node.reason or "Slurm gives no reason"
        how = "no machine" if machine is None else f"a machine that runs ({machine.id}) and does not answer"
        return Finding(problem=f"`{node.name}` is down with {how}: {why}", node=node.name, fix="try again")
    return Finding(
        problem=f"`{node.name}` is down: {node.reason or 'Slurm gives no reason'}",
        node=node.name,
        advice="if it stays so, its machine is replaced",
    )


def _mismatch_advice(node: SlurmNode) -> str:
    if "gres" in node.reason:
        return (
            "the driver does not see its GPUs: `scontrol update nodename=... state=power_down` gets another machine"
        )
    return "lower what slurm.conf says of it, and start slurmctld anew"


def examine_others(nodes: Sequence[SlurmNode]) -> list[Finding]:
    """Nodes that nobody makes or deletes, and that Slurm gives no jobs."""
    return [
        Finding(
            problem=f"`{node.name}` is {'down' if node.state == 'DOWN' else 'drained'}: {node.reason or 'no reason'}",
            node=node.name,
            advice=f"when the cause is gone: scontrol update nodename={node.name} state=resume",
            safe=False,
        )
        for node in nodes
        if "CLOUD" not in node.flags and (node.state == "DOWN" or "DRAIN" in node.flags)
    ]


def examine_sizes(nodes: Sequence[SlurmNode], clusters: "Mapping[str, AzureCluster]") -> list[Finding]:
    """Nodes of which slurm.conf says other than their size has. clusters: the workspace's, by name."""
    found = []
    for node in nodes:
        cluster = clusters.get(node.name.rpartition("-")[0])
        if cluster is None or not node.memory_mib:
            continue
        most = int(cluster.memory_gib * 1024 * _MEMORY_SHARE)
        wrong = []
        if node.memory_mib > most:
            wrong.append(f"{node.memory_mib} MiB of memory, of which {cluster.vm_size} reports {most} at least")
        if node.gpus != cluster.gpu_count:
            wrong.append(f"{node.gpus} GPUs, where {cluster.vm_size} has {cluster.gpu_count}")
        if node.cpus != cluster.vcpu:
            wrong.append(f"{node.cpus} CPUs, where {cluster.vm_size} has {cluster.vcpu}")
        if wrong:
            words = f"slurm.conf gives `{node.name}` {'; '.join(wrong)}"
            found.append(
                Finding(problem=words, node=node.name, advice="`pulumi up`; the head takes it up in minutes")
            )
    return found
