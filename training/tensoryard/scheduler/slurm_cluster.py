"""What Slurm has: partitions, nodes and jobs, with states in words. Raises SchedulerError where there is none."""

import difflib
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from tensoryard.errors import NotFoundError, SchedulerError
from tensoryard.nodes import slurm as slurm_nodes
from tensoryard.nodes.slurm import SlurmNode
from tensoryard.scheduler.slurm_commands import AwayError, ask
from tensoryard.scheduler.slurm_reasons import reason
from tensoryard.slurm_target import slurm_options
from tensoryard.targets import meant, targets
from tensoryard.workspace import SETTINGS

if TYPE_CHECKING:
    from tensoryard.slurm_target import SlurmTarget
    from tensoryard.workspace import Workspace

T = TypeVar("T")
# The first that fits: what is under way says more than what was.
_FLAGS = (
    ("INVALID_REG", "has less than Slurm was told"),
    ("POWERING_UP", "being started"),
    ("POWER_UP", "to be started"),
    ("POWERING_DOWN", "going away"),
    ("POWER_DOWN", "to go when its jobs have ended"),
    ("POWERED_DOWN", "not there, starts when needed"),
    ("NOT_RESPONDING", "not answering"),
    ("COMPLETING", "clearing up after a job"),
    ("MAINT", "in maintenance"),
)
_STATES = {
    "IDLE": "free",
    "ALLOCATED": "in use",
    "MIXED": "in use in part",
    "DOWN": "down",
    "UNKNOWN": "not heard of yet",
    "ERROR": "in error",
}


class NodeView(NamedTuple):
    """A node. state: as Slurm has it, such as IDLE+CLOUD+POWERED_DOWN; words: its meaning; runs: names of jobs."""

    name: str
    state: str
    words: str
    reason: str
    runs: tuple[str, ...]


class JobView(NamedTuple):
    """A job of anybody's. name: of a run of tyard's, its id; nodes: how many; reason: why it waits, in words."""

    job: str
    name: str
    user: str
    nodes: int
    state: str
    kind: str | None
    reason: str | None
    hosts: str
    partition: str


class Cluster(NamedTuple):
    """
    A partition. default: where jobs go that name none; up: nodes whose machine is there; states: how many nodes by
    their states in words.
    """

    name: str
    nodes: tuple[SlurmNode, ...]
    limit: str
    running: int
    waiting: int
    default: bool

    @property
    def up(self) -> int:
        return sum(node.up for node in self.nodes)

    @property
    def free(self) -> int:
        return sum(in_words(node) in (_STATES["IDLE"], dict(_FLAGS)["POWERED_DOWN"]) for node in self.nodes)

    @property
    def cores(self) -> int:
        return max((node.cpus for node in self.nodes), default=0)

    @property
    def memory_mib(self) -> int:
        return max((node.memory_mib for node in self.nodes), default=0)

    @property
    def gpus(self) -> int:
        return max((node.gpus for node in self.nodes), default=0)

    @property
    def states(self) -> dict[str, int]:
        words = [in_words(node) for node in self.nodes]
        return {word: words.count(word) for word in sorted(set(words))}


def in_words(node: SlurmNode) -> str:
    """The state of a node; one that is not known is shown as it is."""
    drained = bool(node.flags & {"DRAIN", "DRAINING", "DRAINED"})
    if node.state == "DOWN" and "POWERING_DOWN" not in node.flags:
        # Whatever else it is: nothing starts there until somebody, or `tyard node reconcile`, says so.
        return "down, and takes no more jobs" if drained else _STATES["DOWN"]
    for flag, words in _FLAGS:
        if flag in node.flags:
            return words
    if drained:
        return "takes no more jobs"
    return _STATES.get(node.state, "+".join([node.state, *sorted(node.flags)]))


def clusters() -> list[Cluster]:
    """Every partition, in Slurm's order."""
    jobs = _jobs()
    nodes = answered(slurm_nodes.nodes)
    # Once more for each kind of node of a partition: `main*` is the default one.
    limits = dict(line.split("|", 1) for line in _said("sinfo", "--noheader", "--all", "--format=%P|%l").splitlines())
    found = []
    for marked, limit in limits.items():
        name = marked.rstrip("*")
        states = [job.state for job in jobs if job.partition == name]
        found.append(
            Cluster(
                name,
                tuple(node for node in nodes if name in node.partitions),
                "none" if limit == "infinite" else limit,
                sum(state in ("RUNNING", "COMPLETING", "CONFIGURING") for state in states),
                states.count("PENDING"),
                marked.endswith("*"),
            )
        )
    return found


def partition_names() -> list[str]:
    """The names of partitions; none where Slurm cannot be asked."""
    try:
        return [line.rstrip("*") for line in ask(("sinfo", "--noheader", "--all", "--format=%P")).splitlines()]
    except (AwayError, SchedulerError):
        return []


def target_names(cluster: Cluster, workspace: "Workspace") -> tuple[str, ...]:
    """The compute targets of a workspace whose runs go to a partition."""
    return tuple(
        name
        for name, scheduler in targets(workspace).items()
        if scheduler == "slurm" and _is_partition_of(cluster, meant(workspace, name))
    )


def _is_partition_of(cluster: Cluster, target: "str | SlurmTarget") -> bool:
    partition = slurm_options(target).partition
    return cluster.default if partition is None else cluster.name == partition


def named_cluster(name: str, workspace: "Workspace") -> Cluster:
    """The partition that a target's name stands for, or of that name. Raises NotFoundError with those there are."""
    found = clusters()
    named = targets(workspace)
    if named.get(name) == "slurm":
        target = meant(workspace, name)
        for one in found:
            if _is_partition_of(one, target):
                return one
        raise NotFoundError(
            f"cluster: `{name}` is the partition `{slurm_options(target).partition}`, which Slurm does not have; "
            f"it has {_listed(one.name for one in found)}",
            hint=f"correct `{name}` in {workspace.root / SETTINGS}",
        )
    for one in found:
        if one.name == name:
            return one
    names = [one.name for one in found]
    others = [target for target, scheduler in named.items() if scheduler == "slurm" and target not in names]
    near = difflib.get_close_matches(name, [*others, *names], n=1)
    also = f", this workspace {_listed(others)}" if others else ""
    raise NotFoundError(
        f"cluster: there is no `{name}`; Slurm has {_listed(names)}{also}",
        hint=f"did you mean `{near[0]}`?" if near else "`tyard cluster nodes` lists the nodes of all of them",
    )


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def nodes_of(cluster: Cluster | None) -> list[NodeView]:
    """The nodes of a cluster, or of all, with the names of the jobs on each."""
    nodes = cluster.nodes if cluster else tuple(answered(slurm_nodes.nodes))
    on: dict[str, list[str]] = {}
    for job in _jobs():
        if job.hosts:
            for host in answered(partial(slurm_nodes.expand, job.hosts)):
                on.setdefault(host, []).append(job.name)
    return [
        NodeView(
            node.name,
            "+".join([node.state, *sorted(node.flags)]),
            in_words(node),
            node.reason,
            tuple(on.get(node.name, ())),
        )
        for node in nodes
    ]


def jobs_of(cluster: Cluster) -> list[JobView]:
    """The jobs of a cluster that have not ended, in the order in which Slurm lists them."""
    return [job for job in _jobs() if job.partition == cluster.name]


def _jobs() -> list[JobView]:
    found = []
    for line in _said("squeue", "--noheader", "--all", "--format=%A|%u|%D|%T|%r|%N|%P|%j").splitlines():
        fields = line.split("|", 7)
        if len(fields) == 8:
            job, user, count, state, code, hosts, partition, name = fields
            why = reason(code) if state == "PENDING" else None
            found.append(
                JobView(
                    job=job,
                    name=name,
                    user=user,
                    nodes=int(count) if count.isdigit() else 0,
                    state=state,
                    kind=why.kind if why else None,
                    reason=str(why) if why else None,
                    hosts=hosts,
                    partition=partition,
                )
            )
    return found


def _said(*argv: str) -> str:
    return answered(lambda: ask(argv))


def answered(call: Callable[[], T]) -> T:
    """What a call that asks Slurm returns. Raises SchedulerError where Slurm is away."""
    try:
        return call()
    except AwayError as error:
        raise SchedulerError(f"Slurm does not answer: {error}", hint="`scontrol ping` asks it alone") from None
