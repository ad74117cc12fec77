"""Slurm's nodes as `scontrol` knows them, and what it is told of them. Raises as `slurm_commands.ask`."""

import re
import time
from collections.abc import Sequence
from datetime import datetime

import msgspec

from tensoryard.scheduler.slurm_commands import ask

_FIELD = re.compile(r"(?:^|\s)(\w+)=(\S*)")
# Words with spaces, then who gave them and when: `Not responding [slurm@2026-11-23T17:48:22]`.
_REASON = re.compile(r"\sReason=(.*?)(?: \[\w+@(\d[\dT:-]+)\])?\s*(?:\sComment=.*)?$")
_GPUS = re.compile(r"gpu:(?:[\w.-]+:)?(\d+)")
_AT_ONCE = 200


class SlurmNode(msgspec.Struct, frozen=True, kw_only=True):
    """
    A node.

    state: such as IDLE; flags: such as CLOUD or POWERING_UP; reason_at: seconds since the epoch; cpus, memory_mib,
    gpus: as configured; version: of its slurmd, empty while it has none.
    """

    name: str
    state: str
    flags: frozenset[str] = frozenset()
    reason: str = ""
    reason_at: float | None = None
    cpus: int = 0
    memory_mib: int = 0
    gpus: int = 0
    partitions: tuple[str, ...] = ()
    version: str = ""

    @property
    def wanted(self) -> bool:
        """It should have a machine: neither powered down nor on its way there, nor given up."""
        return self.state != "DOWN" and not self.flags & {"POWERED_DOWN", "POWERING_DOWN", "POWER_DOWN"}

    @property
    def up(self) -> bool:
        """Its slurmd is there."""
        return self.wanted and not self.flags & {"POWERING_UP", "NOT_RESPONDING", "REBOOT_ISSUED"}


def expand(hostlist: str) -> list[str]:
    """The names that a list such as gpu-[1-3,7] stands for, in its order. Raises SchedulerError for no such list."""
    return ask(["scontrol", "show", "hostnames", hostlist]).split()


def nodes() -> list[SlurmNode]:
    """Every node of the cluster."""
    said = ask(["scontrol", "--oneliner", "--all", "show", "nodes"])
    return [parse(line) for line in said.splitlines() if line.startswith("NodeName=")]


def parse(line: str) -> SlurmNode:
    """One line of `scontrol --oneliner show nodes`."""
    found = dict(_FIELD.findall(line.partition(" Reason=")[0]))
    reason = _REASON.search(line)
    state, *flags = found.get("State", "").split("+")
    gpus = _GPUS.search(found.get("Gres", ""))
    return SlurmNode(
        name=found["NodeName"],
        # Marks such as `*` are flags too, in releases that write both.
        state=state.rstrip("*~#!%$@^-"),
        flags=frozenset(flags) | ({"NOT_RESPONDING"} if state.endswith("*") else set()),
        reason=reason[1] if reason else "",
        reason_at=_moment(reason[2]) if reason and reason[2] else None,
        cpus=_number(found.get("CPUTot")),
        memory_mib=_number(found.get("RealMemory")),
        gpus=int(gpus[1]) if gpus else 0,
        partitions=tuple(filter(None, found.get("Partitions", "").split(","))),
        version=found.get("Version", ""),
    )


def update(names: Sequence[str], *, state: str | None = None, reason: str | None = None) -> None:
    """
    Tell Slurm of nodes.

    state: `down` ends what runs there and puts it back into the queue; `power_down` makes a node one that can be
    started again, also one that is down. reason: None leaves it, "" takes it away.
    """
    for first in range(0, len(names), _AT_ONCE):
        words = ["scontrol", "update", f"nodename={','.join(names[first : first + _AT_ONCE])}"]
        words += [f"state={state}"] if state else []
        words += [f"reason={reason}"] if reason is not None else []
        ask(words)


def _moment(text: str) -> float | None:
    """Slurm writes local time, without a zone."""
    try:
        return time.mktime(datetime.fromisoformat(text).timetuple())
    except ValueError:
        return None


def _number(text: str | None) -> int:
    return int(text) if text is not None and text.isdigit() else 0
