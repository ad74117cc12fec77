"""How many nodes are up, and why some cannot be had: what `tyard node` told Slurm of them, asked now and then."""

import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

from tensoryard.errors import SchedulerError
from tensoryard.nodes import REASON
from tensoryard.nodes.slurm import expand
from tensoryard.scheduler.slurm_commands import AwayError, ask

_EVERY_S = 5.0
_UP = ("idle", "mixed", "allocated", "completing")


class Listed(NamedTuple):
    """A node in a partition, as sinfo lists it. state: such as idle~; reason: an administrator's or Slurm's words."""

    partition: str
    name: str
    state: str
    reason: str

    @property
    def up(self) -> bool:
        """Its slurmd is there and takes work: a mark behind the state is for what is off, started or not heard of."""
        return self.state in _UP


def listed() -> list[Listed]:
    """Every node, once for each partition that it is in. Raises as `ask`."""
    said = ask(["sinfo", "--noheader", "--Node", "--format=%R|%N|%T|%E"])
    fields = (line.split("|", 3) for line in said.splitlines())
    return [Listed(*some) for some in fields if len(some) == 4]


class NodeWords:
    """The last answer. While it is used it is renewed every 5 s, in a thread of its own: nobody waits for it."""

    def __init__(self, listing: Callable[[], list[Listed]] = listed) -> None:
        self._listing = listing
        self._found: list[Listed] = []
        self._names: dict[str, frozenset[str]] = {}
        self._due = 0.0
        self._asking = threading.Lock()

    def why_not(self, partition: str | None) -> str:
        """
        What most nodes of a partition that are down lack, such as `quota NCASv3_T4 16 of 24 vCPUs in use`.

        Empty when none does. partition: None for any.
        """
        self._renew()
        words = Counter(
            node.reason.removeprefix(REASON)
            for node in self._found
            if node.reason.startswith(REASON)
            and node.state.startswith("down")
            and partition in (None, node.partition)
        )
        return words.most_common(1)[0][0] if words else ""

    def up(self, partition: str | None) -> int:
        """How many nodes of a partition are up."""
        return len({node.name for node in self._found if node.up and partition in (None, node.partition)})

    def up_of(self, hostlist: str) -> int | None:
        """How many of some nodes are up; None while that is not known."""
        self._renew()
        if hostlist not in self._names:
            try:
                self._names = {hostlist: frozenset(expand(hostlist)), **dict([*self._names.items()][:99])}
            except (AwayError, SchedulerError):
                return None
        names = self._names[hostlist]
        return len({node.name for node in self._found if node.up and node.name in names}) if self._found else None

    def _renew(self) -> None:
        if time.monotonic() >= self._due and not self._asking.locked():
            threading.Thread(target=self.refresh, daemon=True).start()

    def refresh(self) -> None:
        if not self._asking.acquire(blocking=False):
            return
        try:
            self._found = self._listing()
        except (AwayError, SchedulerError):
            self._found = []
        finally:
            self._due = time.monotonic() + _EVERY_S
            self._asking.release()
