"""Why nodes that runs wait for cannot be had: what `tyard node` told Slurm of them, asked now and then."""

import threading
import time
from collections import Counter
from collections.abc import Callable

from tensoryard.errors import SchedulerError
from tensoryard.nodes import REASON
from tensoryard.scheduler.slurm_commands import AwayError, ask

_EVERY_S = 15.0


def down_nodes() -> list[tuple[str, str]]:
    """(partition, reason) of every node that is down. Raises as `ask`."""
    said = ask(["sinfo", "--noheader", "--Node", "--states=down", "--format=%R|%E"])
    return [
        (partition, reason) for partition, bar, reason in (line.partition("|") for line in said.splitlines()) if bar
    ]


class NodeWords:
    """The last answer. While it is used it is renewed every 15 s, in a thread of its own: nobody waits for it."""

    def __init__(self, listing: Callable[[], list[tuple[str, str]]] = down_nodes) -> None:
        self._listing = listing
        self._found: list[tuple[str, str]] = []
        self._due = 0.0
        self._asking = threading.Lock()

    def why_not(self, partition: str | None) -> str:
        """
        What most nodes of a partition lack, such as `quota NCASv3_T4 16 of 24 vCPUs in use`; empty when none does.

        partition: None for any.
        """
        if time.monotonic() >= self._due and not self._asking.locked():
            threading.Thread(target=self.refresh, daemon=True).start()
        words = Counter(
            reason.removeprefix(REASON)
            for name, reason in self._found
            if reason.startswith(REASON) and partition in (None, name)
        )
        return words.most_common(1)[0][0] if words else ""

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
