"""
Jobs of runs that have ended, looked after until Slurm is done with them too.

A slurmctld that died knows, when it is back, what it had saved: up to 5 s before. A job that had begun in that time
waits again, and the node where its first script is not quite gone refuses it as a duplicate: Slurm holds it for ever.
"""

import threading
import time
from contextlib import suppress

from tensoryard.scheduler.slurm_commands import AwayError, scancel
from tensoryard.scheduler.slurm_table import FINAL, SOONEST_S, WAITING, JobTable

# slurmctld may be away for long, and no later controller knows of these.
WATCHED_SECONDS = 3600.0


class EndedJobs:
    """Cancels those that wait to be started again. What runs of them ends by itself."""

    def __init__(self, table: JobTable) -> None:
        self._table = table
        self._since: dict[str, float] = {}
        self._told: dict[str, float] = {}
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def add(self, job: str) -> None:
        """Look after the job of a run that has ended just now."""
        with self._lock:
            self._since[job] = time.time()
            if self._thread is None:
                self._thread = threading.Thread(target=self._watch, name="ended jobs", daemon=True)
                self._thread.start()
        self._table.changes_soon()

    def wait(self) -> None:
        """Returns once Slurm is done with all of them."""
        while (thread := self._thread) is not None:
            thread.join()

    def _watch(self) -> None:
        while True:
            for job, since in [*self._since.items()]:
                if self._is_done(job, since):
                    with self._lock:
                        del self._since[job]
                        self._told.pop(job, None)
            with self._lock:
                if not self._since:
                    self._thread = None
                    return
            time.sleep(SOONEST_S)

    def _is_done(self, job: str, since: float) -> bool:
        row = self._table.row(job)
        if self._table.asked_at < since:
            return time.time() - since > WATCHED_SECONDS
        if row is None or row.state in FINAL:
            return True
        if row.state in WAITING and self._told.get(job, 0.0) < self._table.asked_at:
            self._told[job] = time.time()
            with suppress(AwayError):
                scancel(job)
            self._table.changes_soon()
        return time.time() - since > WATCHED_SECONDS
