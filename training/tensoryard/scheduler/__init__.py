"""Who places the tasks of a run on nodes: one protocol, for this machine and for a cluster."""

from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import NamedTuple, Protocol

from tensoryard.job import Job
from tensoryard.render import Placement

# From TERM to KILL: what `rank.py` gives a script, as its own GRACE_SECONDS.
GRACE_SECONDS = 10.0
WriteFiles = Callable[[Placement], None]


class Phase(Enum):
    WAITING = "waiting"
    RUNNING = "running"
    OVER = "over"


class Seen(NamedTuple):
    """What a scheduler says of a run. reason: in words, why it waits, or what has ended it from outside."""

    phase: Phase
    reason: str | None = None


class Scheduler(Protocol):
    """
    Starts and stops launch scripts. Truth about a task is what `rank.py` recorded, not what this remembers.

    Every call may come from a controller that was started anew and knows nothing of what the last one did.
    """

    def recover(self, run_id: str, folder: Path) -> None:
        """Learn of a queued run before any is submitted: one that still runs counts against the limits."""
        ...

    def submit(self, run_id: str, folder: Path, job: Job, write_files: WriteFiles) -> None:
        """
        Ask for the run's launch/run.sh to be run. Called again for the same run it changes nothing.

        folder: the run's; write_files: writes the launch files for a placement, before anything is started.
        """
        ...

    def poll(self, run_id: str, folder: Path) -> Seen:
        """
        How the run stands. Cheap: called many times a second.

        It may wait again after it was running: a node was lost, or others came first.
        """
        ...

    def stop(self, run_id: str, folder: Path, *, kill: bool, because: str | None = None) -> None:
        """
        Make the tasks end: TERM, 10 s, KILL; with kill at once. Returns before they have.

        because: why the run failed; None: it was asked to be canceled. What decided its end earlier stands.
        """
        ...

    def sweep(self, run_id: str, folder: Path) -> int:
        """How many processes of a run that is over were still there and have been killed."""
        ...

    def settle(self) -> None:
        """Returns once nothing of runs that have ended is left to see to. For a controller that ends, too."""
        ...
