"""What squeue says of all runs, asked once for all of them and no oftener than things change."""

import threading
import time
from collections.abc import Callable

from tensoryard.errors import SchedulerError
from tensoryard.scheduler.slurm_commands import AwayError, Row, squeue

# A person watches a run that was just submitted; hundreds that wait for days are Slurm's own business.
SOONEST_S, LATEST_S, AWAY_S = 1.0, 15.0, 60.0
# Slurm's controller serves one listing at a time, and everybody's: no more than a tenth of its time for us.
SHARE = 10.0

# A job's states: to be started, over with its node, over.
WAITING = {"PENDING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "RESV_DEL_HOLD", "SPECIAL_EXIT", "SUSPENDED"}
LOST = {"NODE_FAIL", "BOOT_FAIL", "PREEMPTED", "REVOKED"}
FINAL = {"COMPLETED", "FAILED", "TIMEOUT", "OUT_OF_MEMORY", "CANCELLED", "DEADLINE", *LOST}


class JobTable:
    """
    The last listing. When it is due a thread of its own asks anew, and all others go on with what there is.

    away: what was said when there was no answer, else None; asked_at: of the last answer (seconds, `time.time`),
    taken before it was asked for.
    """

    def __init__(self, listing: Callable[[], list[Row]] = squeue) -> None:
        self._listing = listing
        self._asking = threading.Lock()
        self._rows: dict[str, Row] = {}
        self._due = 0.0
        self._began = 0.0  # when it was asked last (`time.monotonic`)
        self._pause = SOONEST_S
        self.away: str | None = None
        self.asked_at = 0.0

    def row(self, job: str) -> Row | None:
        """A job as it was listed last; has it asked anew when that is due."""
        if time.monotonic() >= self._due and not self._asking.locked():
            # Not here: while slurmctld is away the answer takes a minute, and a run may end meanwhile.
            threading.Thread(target=self.refresh, args=(False,), daemon=True).start()
        return self._rows.get(job)

    def rows_in(self, folder: str) -> list[Row]:
        """The jobs that were told to run in a folder, oldest first."""
        return sorted((row for row in self._rows.values() if row.folder == folder), key=lambda row: int(row.job))

    def changes_soon(self) -> None:
        """Something was submitted or stopped: the next listing is worth having early."""
        self._pause = SOONEST_S
        self._due = min(self._due, self._began + SOONEST_S)

    def refresh(self, wait: bool = True) -> bool:
        """Whether there is a new listing. wait: for another thread that is asking, to ask after it."""
        if not self._asking.acquire(blocking=wait):
            return False
        try:
            began, began_at = time.monotonic(), time.time()
            self._began = began
            # Before the answer: what is submitted meanwhile makes the next one due, and that must hold.
            self._due = began + self._pause
            try:
                rows = {row.job: row for row in self._listing()}
            except (AwayError, SchedulerError) as error:
                self.away = str(error)
                self._pause = min(2 * self._pause, AWAY_S)
                return False
            self.away = None
            changed = {row[:2] for row in rows.values()} != {row[:2] for row in self._rows.values()}
            self._rows, self.asked_at = rows, began_at
            self._pause = SOONEST_S if changed else min(1.5 * self._pause, LATEST_S)
            took = time.monotonic() - began
            if took * SHARE > self._pause:
                self._due = began + took * SHARE
            return True
        finally:
            self._asking.release()
