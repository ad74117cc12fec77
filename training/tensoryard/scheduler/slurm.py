"""
Runs on a Slurm cluster: one batch job a run, on nodes that share the run's folder.

Truth is in that folder. launch/slurm.json has the job; launch/attempts/ what the launch script marked when an attempt
began and ended; tasks/ what became of each task. squeue tells what no file can: why a job waits, that it is gone.
"""

import json
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

from tensoryard.attempt import is_settled, recorded_end
from tensoryard.end_record import write_json
from tensoryard.errors import SchedulerError
from tensoryard.job import Job
from tensoryard.render import Placement
from tensoryard.scheduler import GRACE_SECONDS, Phase, Seen, WriteFiles
from tensoryard.scheduler import slurm_commands as commands
from tensoryard.scheduler.local import end_run
from tensoryard.scheduler.slurm_attempts import Attempt, attempt_of, make_way, owner, released
from tensoryard.scheduler.slurm_commands import AwayError, Row
from tensoryard.scheduler.slurm_ended import EndedJobs
from tensoryard.scheduler.slurm_nodes import NodeWords
from tensoryard.scheduler.slurm_pulls import pulling
from tensoryard.scheduler.slurm_reasons import reason
from tensoryard.scheduler.slurm_table import FINAL, LOST, WAITING, JobTable
from tensoryard.slurm_target import slurm_options

LOOK_SECONDS = 0.2
RETRY_SECONDS = (2.0, 60.0)
# After that long a job that squeue does not list is gone, not new.
LISTED_SECONDS = 5.0
# Slurm has given a node up this long after SlurmdTimeout, or it has not been lost.
NODE_SECONDS, MOST_NODE_SECONDS = 10.0, 400.0
MOST_LOST = 10
# What a node wrote is seen here by then: a shared folder may show it seconds after Slurm has said that the job ended.
SHOWN_SECONDS = 10.0

_RUNNING = {"RUNNING", "COMPLETING", "SIGNALING", "STAGE_OUT", "STOPPED"}
_ENDED = {
    "TIMEOUT": "reached its time limit",
    "OUT_OF_MEMORY": "needed more memory than it was given",
    "CANCELLED": "was canceled in Slurm, not by tyard",
    "DEADLINE": "could not end before its deadline",
}


class _Run:
    """What is known of a run. job: its id in Slurm, None until it has one; said: the last words for why it waits."""

    def __init__(self, folder: Path, job_asked: Job | None, write_files: WriteFiles | None) -> None:
        self.folder = folder
        self.asked = job_asked
        self.write_files = write_files
        self.job: str | None = None
        self.submitted_at = time.time()
        self.seen = Seen(Phase.WAITING)
        self.look_at = 0.0
        self.retry_at = 0.0
        self.pause = RETRY_SECONDS[0]
        self.stopped_at: float | None = None
        self.ended_in_full_at = 0.0
        self.killed_at = -GRACE_SECONDS  # when Slurm was last told to kill it, by `time.monotonic`
        self.known_at = 0.0  # when Slurm last knew the job
        self.doubted_at: float | None = None
        self.lost = len(released(folder))  # jobs that an earlier controller gave up too
        # (job, restart) of the newest attempt, when it was first seen here, and which was seen to wait again.
        self.newest: tuple[str, int] | None = None
        self.first_seen = 0.0
        self.put_back: tuple[str, int] | None = None
        self.lock = threading.Lock()


class SlurmScheduler:
    """
    Submits, follows and ends the jobs of runs.

    A new controller finds a job again by launch/slurm.json, by the mark of its first attempt, or in squeue by the
    folder it was told to run in; should there be two for one run, the script of the second ends at once.
    """

    def __init__(self, table: JobTable | None = None) -> None:
        self._table = table or JobTable()
        self._nodes = NodeWords()
        self._ended_jobs = EndedJobs(self._table)
        self._runs: dict[str, _Run] = {}
        self._lock = threading.Lock()
        self._began_at = time.time()
        self._settings: dict[str, str] | None = None  # Slurm's own, once they are needed

    def recover(self, run_id: str, folder: Path) -> None:
        """Nothing: Slurm remembers its jobs."""

    def submit(self, run_id: str, folder: Path, job: Job, write_files: WriteFiles) -> None:
        run = _Run(folder, job, write_files)
        with self._lock:
            self._runs[run_id] = run
        with run.lock:
            self._find_or_submit(run)

    def poll(self, run_id: str, folder: Path) -> Seen:
        run = self._known(run_id, folder)
        with run.lock:
            if time.monotonic() >= run.look_at:
                run.look_at = time.monotonic() + LOOK_SECONDS
                run.seen = self._look(run)
                if run.seen.phase is Phase.RUNNING and (said := pulling(run.folder)):
                    run.seen = Seen(Phase.WAITING, said)
            return run.seen

    def stop(self, run_id: str, folder: Path, *, kill: bool, because: str | None = None) -> None:
        if because is None:
            end_run(folder, "canceled")
        else:
            end_run(folder, "failed", reason=because)
        if kill:
            (folder / "launch" / "kill").touch()
        run = self._known(run_id, folder)
        with run.lock:
            if run.job is not None and run.stopped_at is None:
                with suppress(AwayError):
                    self._signal(run, run.job)
            run.stopped_at = run.stopped_at or time.monotonic()
            run.look_at = 0.0
        self._table.changes_soon()

    def sweep(self, run_id: str, folder: Path) -> int:
        """0: what a job leaves behind on its nodes is Slurm's to end. One that has not ended is ended now."""
        run = self._known(run_id, folder)
        with run.lock:
            if run.job is not None and run.seen.phase is not Phase.OVER:
                # A job may be COMPLETING for minutes, and who waits for its end asks many times a second.
                if time.monotonic() - run.killed_at > GRACE_SECONDS:
                    run.killed_at = time.monotonic()
                    with suppress(AwayError):
                        commands.scancel(run.job, "--full", "--signal=KILL")
                        commands.scancel(run.job)
                    self._table.changes_soon()
                return 0
        if run.job is not None:
            self._ended_jobs.add(run.job)
        with self._lock:
            self._runs.pop(run_id, None)
        return 0

    def settle(self) -> None:
        self._ended_jobs.wait()

    def _known(self, run_id: str, folder: Path) -> _Run:
        """The run, also when an earlier controller submitted it and this one has only to end it."""
        with self._lock:
            run = self._runs.get(run_id)
            if run is None:
                run = self._runs[run_id] = _Run(folder, None, None)
                run.job = _recorded_job(folder) or owner(folder)
            return run

    def _find_or_submit(self, run: _Run) -> None:
        """Give the run its job, found or new. Leaves it without one while Slurm does not answer."""
        run.job = _recorded_job(run.folder)
        if run.job is not None:
            return
        try:
            found = owner(run.folder) or self._listed_job(run)
            if found is None and run.stopped_at is None and run.asked is not None and run.write_files is not None:
                run.write_files(Placement("slurm", ()))
                # A folder that was looked for in vain NFS may hide for a minute; one that is there is read anew.
                (run.folder / "launch" / "attempts").mkdir(exist_ok=True)
                found = commands.sbatch(str(run.folder / "launch" / "run.sh"))
        except AwayError as error:
            run.seen = Seen(Phase.WAITING, f"Slurm does not answer: {error}")
            run.retry_at = time.monotonic() + run.pause
            run.pause = min(2 * run.pause, RETRY_SECONDS[1])
            run.submitted_at = time.time()  # it may have been taken all the same: look again before the next try
            return
        except SchedulerError as error:
            raise SchedulerError(f"Slurm refused the run: {error.message}", error.hint) from None
        if found is None:
            return
        run.job, run.submitted_at = found, time.time()
        run.known_at = run.submitted_at
        write_json(str(run.folder / "launch" / "slurm.json.draft"), {"job": found, "submitted_at": run.submitted_at})
        (run.folder / "launch" / "slurm.json.draft").replace(run.folder / "launch" / "slurm.json")
        self._table.changes_soon()

    def _listed_job(self, run: _Run) -> str | None:
        """The run's job, if one was submitted and nobody lived to write it down. Raises AwayError."""
        # One listing at the start finds all that an earlier controller left; a try without an answer needs another.
        needed = run.submitted_at if run.pause > RETRY_SECONDS[0] else self._began_at
        if self._table.asked_at < needed and not self._table.refresh() and self._table.asked_at < needed:
            raise AwayError(self._table.away or "squeue is busy")
        given_up = released(run.folder)
        rows = [row for row in self._table.rows_in(str(run.folder)) if row.job not in given_up]
        alive = [row for row in rows if row.state not in FINAL]
        return (alive or rows)[-1].job if rows else None

    def _look(self, run: _Run) -> Seen:
        if run.job is None:
            if run.asked is None:
                return Seen(Phase.OVER)  # never submitted
            if time.monotonic() >= run.retry_at:
                self._find_or_submit(run)
            if run.job is None:
                return Seen(Phase.OVER) if run.stopped_at is not None and self._table.away is None else run.seen
        if run.stopped_at is not None:
            self._insist(run, run.job)
        attempt = attempt_of(run.folder, run.job)
        if attempt is not None and (run.job, attempt.restart) != run.newest:
            unsaid = run.newest is not None and run.newest[0] == run.job and run.newest != run.put_back
            # By this machine's clock: a node's own may be another.
            run.newest, run.first_seen = (run.job, attempt.restart), time.time()
            if unsaid and run.seen.phase is Phase.RUNNING:
                # No listing fell into the time between, and whoever follows the run is to know of it all the same.
                why = f"Slurm has put job {run.job} back into its queue; the run is started again"
                return Seen(Phase.WAITING, why)
        if attempt is not None and attempt.ended and is_settled(str(run.folder)):
            return Seen(Phase.OVER)
        row = self._table.row(run.job)
        if row is None:
            if self._table.asked_at < run.submitted_at + LISTED_SECONDS:
                if self._table.away is not None:
                    return Seen(run.seen.phase, f"Slurm does not answer: {self._table.away}")
                return Seen(Phase.RUNNING) if attempt and not attempt.ended else run.seen
            return self._ended(run, Row(run.job, "", "", ",".join(attempt.hosts) if attempt else "", ""), attempt)
        run.known_at = self._table.asked_at
        if row.state in FINAL:
            return self._ended(run, row, attempt)
        run.doubted_at = None
        if row.state in _RUNNING or (attempt and self._goes_on(run, row, attempt)):
            return Seen(Phase.RUNNING)
        return Seen(Phase.WAITING, self._in_words(run, row, attempt))

    def _goes_on(self, run: _Run, row: Row, attempt: Attempt) -> bool:
        """Whether an attempt that has begun is not over to Slurm, though the listing says that the job waits."""
        if run.first_seen > self._table.asked_at:
            if attempt.ended:
                self._table.changes_soon()  # it tells what that end means
            return True  # the script's own mark is the newer word
        if row.state in WAITING:
            run.put_back = run.newest
        # Slurm says CONFIGURING for some seconds more of nodes that were made for the job.
        return not attempt.ended and row.state == "CONFIGURING" and run.put_back != run.newest

    def _in_words(self, run: _Run, row: Row, attempt: Attempt | None) -> str:
        if row.state == "CONFIGURING":
            up = self._nodes.up_of(row.nodes) if _several(row.nodes) else None
            said = f"{row.nodes} {'are' if _several(row.nodes) else 'is'} being started for job {row.job}"
            return said + (f", {up} of them up" if up is not None else "")
        if row.state not in WAITING:
            return f"Slurm says {row.state} of job {row.job}"
        count = run.asked.nodes if run.asked else 1
        partition = slurm_options(run.asked.compute_target).partition if run.asked else None
        asked = f"{count} node{'s' * (count > 1)}" + (f" of `{partition}`" if partition else "") + " asked"
        again = "; a node was lost or taken, the run is started again" if attempt or run.lost else ""
        why = reason(row.reason)
        # Put back into the queue for want of a machine, it first waits for its time, then for nodes that are down.
        lack = self._nodes.why_not(partition) if why.kind == "resources" or why.code == "BeginTime" else ""
        if lack:
            # What its nodes lack says it all; what Slurm makes of that, in its own word.
            code = f" ({why.code})" if " " not in why.code else ""
            return f"{asked} as job {row.job}, {self._nodes.up(partition)} up: {lack}{code}{again}"
        return f"{asked} as job {row.job}: {why}{again}"

    def _ended(self, run: _Run, row: Row, attempt: Attempt | None) -> Seen:
        """What it means that Slurm has no more to do with a job."""
        if run.stopped_at is not None or recorded_end(str(run.folder)).get("outcome") in ("completed", "canceled"):
            return Seen(Phase.OVER)
        if row.state in _ENDED:
            return Seen(Phase.OVER, f"Slurm's job {row.job} {_ENDED[row.state]}")
        if row.state in LOST:
            return self._restart(run, row)
        if attempt is None and not row.state:
            return self._restart(run, row, f"Slurm does not know job {row.job} any more")
        if attempt is None:
            run.doubted_at = run.doubted_at or time.monotonic()
            if time.monotonic() - run.doubted_at < SHOWN_SECONDS:
                return run.seen
        # The script ended in good order, or before a task began: nothing was lost. On a full disk it leaves no mark.
        begun = any((run.folder / "tasks").iterdir())
        if attempt is None or (attempt.ended and not begun) or (begun and is_settled(str(run.folder))):
            return Seen(Phase.OVER)
        return self._if_a_node_was_lost(run, row, attempt)

    def _if_a_node_was_lost(self, run: _Run, row: Row, attempt: Attempt) -> Seen:
        """
        Tasks left no result. Slurm may need its SlurmdTimeout to say that their node is gone.

        Of one that is back sooner than that it says nothing, where its ReturnToService is 2.
        """
        run.doubted_at = run.doubted_at or time.monotonic()
        patience, remembers = MOST_NODE_SECONDS, 0.0
        try:
            if row.nodes and any(node.is_lost for node in commands.sinfo_nodes(row.nodes)):
                return self._restart(run, row)
            if row.nodes and attempt.began_at and commands.rebooted_since(row.nodes, attempt.began_at):
                return self._restart(run, row, f"a node of {row.nodes} was restarted")
            self._settings = self._settings or commands.settings()
            slurms_own = commands.seconds(self._settings.get("SlurmdTimeout", ""))
            patience = min(slurms_own + NODE_SECONDS, MOST_NODE_SECONDS)
            remembers = commands.seconds(self._settings.get("MinJobAge", ""))
        except (AwayError, SchedulerError) as error:
            print(f"{run.folder.name}: {error}", file=sys.stderr, flush=True)
        waited = time.monotonic() - run.doubted_at
        if waited <= patience:
            run.look_at = time.monotonic() + 1.0
            return Seen(Phase.RUNNING)
        # A job that ended is listed for MinJobAge. One that is not is among what slurmctld had not saved when it
        # died, and nodes kill what they run of such.
        if not row.state and self._table.asked_at - waited - run.known_at < remembers:
            return self._restart(run, row, f"Slurm does not know job {row.job} any more")
        return Seen(Phase.OVER)

    def _restart(self, run: _Run, row: Row, why: str | None = None) -> Seen:
        """Submit the run anew: what it had in ./outputs is there for it to go on from."""
        run.lost += 1
        if run.lost >= MOST_LOST or run.asked is None:
            return Seen(Phase.OVER, f"Slurm lost its job or a node of it {run.lost} times")
        make_way(run.folder, row.job)
        run.job, run.doubted_at, run.retry_at = None, None, 0.0
        why = why or f"a node of {row.nodes or 'the run'} was lost"
        return Seen(Phase.WAITING, f"{why}; the run is started again")

    def _signal(self, run: _Run, job: str) -> None:
        """Tell the tasks of a job to stop, or Slurm not to start it."""
        attempt = attempt_of(run.folder, job)
        if attempt is None or attempt.ended:
            commands.scancel(job)
        elif run.asked is None or run.asked.way == "single":
            commands.scancel(job, "--full", "--signal=TERM")
        elif run.asked.way != "mpi":
            commands.scancel(job, "--signal=TERM")
        # mpirun would pass a TERM on and kill a second later: ranks are told by launch/end.json alone.

    def _insist(self, run: _Run, job: str) -> None:
        """End a job whose tasks have not obeyed: Slurm sends TERM, and after its KillWait KILL."""
        assert run.stopped_at is not None
        now = time.monotonic()
        if now - run.stopped_at > GRACE_SECONDS + LISTED_SECONDS and now - run.ended_in_full_at > GRACE_SECONDS:
            run.ended_in_full_at = now
            with suppress(AwayError):
                commands.scancel(job)
            self._table.changes_soon()


def _recorded_job(folder: Path) -> str | None:
    with suppress(OSError, ValueError, KeyError):
        return str(json.loads((folder / "launch" / "slurm.json").read_text())["job"])
    return None


def _several(nodes: str) -> bool:
    return "," in nodes or "-" in nodes.partition("[")[2]
