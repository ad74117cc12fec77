"""
The machines behind Slurm's nodes: started when Slurm asks for a node, deleted when it lets go of one.

Slurm decides which nodes there are and when; nothing here schedules. Why a machine cannot be had is told in words,
which stand in Slurm's reason for the node and in the run's reason for waiting.
"""

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple, Protocol

import msgspec

State = Literal["starting", "running", "stopping", "stopped", "failed"]
REASON = "tyard: "  # how every reason that is ours begins, in Slurm's words for a node


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """
    A machine that was made for nodes.

    id: its name where it was made; node: Slurm's name of it, None while it has none; state: `stopped` costs its disk
    only and never comes back, `failed` never came up; created: seconds since the epoch; problem: in words.
    """

    id: str
    node: str | None
    state: State
    created: float
    problem: str | None = None

    @property
    def usable(self) -> bool:
        """It is a node, or can still become one."""
        return self.state in ("starting", "running")


class Problem(NamedTuple):
    """Why a node has no machine. kind: for programs; words: for people, such as "quota 16 of 24 vCPUs"."""

    kind: Literal["quota", "capacity", "throttled", "refused", "slow", "other"]
    words: str


class Machines(Protocol):
    """
    Where machines come from. Every call may repeat one that was cut off at any line, or run beside another.

    Nothing is raised for what the place of machines refuses: that is a Problem of the nodes it was asked for.
    """

    def start(self, names: Sequence[str]) -> dict[str, Problem]:
        """
        See that each of these nodes has one machine, and say which have none and why.

        A node that has one keeps it; a machine that has no node is used before another is made.
        """
        ...

    def all(self) -> list[Machine]:
        """All machines, those being made and deleted among them."""
        ...

    def remove(self, pick: Callable[[Sequence[Machine]], Sequence[Machine]]) -> dict[str, Problem]:
        """
        Delete machines, and no others. Returns by id those that could not be, and why.

        pick: called with all machines while nobody else gives any out, returns those that are to go.
        """
        ...


def cluster_of(node: str) -> str:
    """The cluster that a node is of: its name without the number."""
    return node.rpartition("-")[0]
