"""One run, taken from wherever its events say that it stands to its end."""

import shutil
import threading
import time
from pathlib import Path

from tensoryard import outputs, preparing
from tensoryard.environment import EnvironmentBuilder, interruption
from tensoryard.errors import TensoryardError
from tensoryard.mirror import Mirror
from tensoryard.render import Placement
from tensoryard.run import ENDS, NOT_STARTED, RunRecord
from tensoryard.run_requests import RunRequests
from tensoryard.scheduler import GRACE_SECONDS, Phase, Scheduler
from tensoryard.verdict import verdict
from tensoryard.workspace import Workspace

# A look costs the cores that a script trains on: often while a run is young, so that a short one ends at once.
POLL_SECONDS = 0.02
POLL_LATER_SECONDS = 0.1
WAITING_SECONDS = 0.25  # hundreds of runs may wait, and the machine is for those that run
LOOKS_A_SECOND = 500
# Supervisors kill at once when told so; those that have not by now hang, and are killed from here.
HUNG_SECONDS = 5.0
# How soon a person wants to be heard, where a look at the store is a request; a run that waits has nothing to lose.
ASK_SECONDS = 1.0
ASK_WAITING_SECONDS = 5.0


class CanceledError(Exception):
    """The run was canceled while it was being prepared."""


class RunDriver:
    """
    Prepares a run, has it launched, waits for its tasks and concludes it.

    in_line: set when the scheduler knows the run, or when that will take long enough for others to go first.
    """

    def __init__(
        self,
        workspace: Workspace,
        scheduler: Scheduler,
        builder: EnvironmentBuilder,
        run: RunRecord,
        requests: RunRequests,
        in_line: threading.Event,
    ) -> None:
        self.in_line = in_line
        self.scheduler = scheduler
        self.builder = builder
        self.workspace = workspace
        self.run = run
        self.folder = workspace.work_folder(run.id)
        # As it lies here: nothing that the tasks leave has to come back from the store to be judged.
        self.worked_on = RunRecord(workspace.work, run.id)
        self.mirror = Mirror(run, self.folder)
        self.requests = requests
        self.said: str | None = None  # what the scheduler ended the run for
        run.mend()
        self.state = run.state()

    def drive(self) -> None:
        """Returns when the run has ended. Raises CanceledError, or what a run fails of before its tasks are over."""
        if self.state.stage in ENDS:
            return
        with self.mirror:
            self._prepare()
            self._wait_for_tasks()
            self._conclude()

    def fail(self, reason: str, hint: str | None = None) -> None:
        """End a run that cannot go on for a reason outside of its script."""
        if self.state.stage not in (NOT_STARTED, "Preparing"):
            self.scheduler.stop(self.run.id, self.folder, kill=False, because=reason)
            self._until_over(time.monotonic() + GRACE_SECONDS + HUNG_SECONDS)
            # What it has written so far is kept, for a later run to go on from.
            try:
                self._keep()
            except (TensoryardError, OSError) as error:
                if self.mirror.needed:
                    _kept_here(self.folder).touch()
                    self._warn(f"its outputs are in {self.folder} only: {error}")
        self.run.add(stage="Failed", reason=reason, hint=hint, by="tyard")

    def clear(self) -> None:
        """Give back the disk of a run that has ended and is in the store."""
        preparing.give_image_back(self.folder)
        if self.mirror.needed and not _kept_here(self.folder).exists():
            shutil.rmtree(self.folder, ignore_errors=True)

    def _until_over(self, deadline: float) -> None:
        """Returns when the tasks are over, killed at the deadline (of `time.monotonic`)."""
        while self.scheduler.poll(self.run.id, self.folder).phase is not Phase.OVER:
            if time.monotonic() > deadline:
                self.scheduler.sweep(self.run.id, self.folder)
            time.sleep(POLL_SECONDS)
        self.scheduler.sweep(self.run.id, self.folder)

    def _enter(self, stage: str, reason: str | None = None) -> None:
        if self.state.stage != stage:
            self.state.add(self.run.add(stage=stage, reason=reason))

    def _warn(self, reason: str) -> None:
        self.run.add(fact="warning", reason=reason)

    def _prepare(self) -> None:
        if "prepared" in self.state.facts:
            if not self.folder.exists():
                raise TensoryardError(f"its work folder {self.folder} no longer exists")
            return
        self._enter("Preparing")
        self._stop_if_canceled()
        preparing.make_folders(self.folder)
        if self.mirror.needed:
            self.worked_on.store.put(
                self.run.key("job.json"), self.run.store.read(self.run.key("job.json")), overwrite=True
            )
        self._make_environment()
        preparing.lay_out_source(self.run, self.folder)
        preparing.bring_data(self.run.store, self.run.job, self.folder, self._log, self._stop_if_canceled)
        if self.run.job.resume_from:
            preparing.bring_outputs(self.run, self.run.job.resume_from, self.folder)
        preparing.lay_out_support(self.folder)
        if self.run.job.in_image and self.run.job.use_gpu:
            preparing.lay_out_yaml(self.folder)
        self._stop_if_canceled()  # else Slurm may start what is taken back at once
        self.mirror.flush()
        self.state.add(self.run.add(fact="prepared"))

    def _make_environment(self) -> None:
        with interruption.checked_by(self._stop_if_canceled):
            environment, cached = preparing.environment_of(self.builder, self.run, self.folder, self._log)
        if environment.mpi:
            (self.folder / "launch" / "horovod-mpi").touch()
        link = self.folder / "environment"
        link.unlink(missing_ok=True)
        link.symlink_to(environment.unpacked or Path(environment.python).parent.parent)
        if environment.unpacked and not preparing.image_is_kept(self.folder):
            raise TensoryardError("its image was removed while the run was starting", "submit it again")
        if environment.image:
            short = environment.image.partition("@sha256:")[2][:12]
            self._log(
                f"image {short}: each task enters it by a mount namespace of its own, without a container program"
            )
        self.state.add(
            self.run.add(
                fact="environment",
                name=environment.name,
                hash=environment.hash,
                tensorflow=environment.tensorflow,
                cached=cached,
                **({"image": environment.image} if environment.image else {}),
            )
        )

    def _log(self, line: str) -> None:
        self.in_line.set()
        with (self.folder / "logs" / "preparing.log").open("ab") as log:
            log.write(line.rstrip("\n").encode() + b"\n")
        self._stop_if_canceled()

    def _asked_for(self, name: str, within_s: float) -> bool:
        return self.requests.made(self.run.id, name, within_s)

    def _stop_if_canceled(self) -> None:
        if self._asked_for("cancel", ASK_SECONDS):
            raise CanceledError

    def _write_launch_files(self, placement: Placement) -> None:
        files = preparing.launch_files(self.workspace, self.run.job, self.run.id, placement)
        for name, text in files.items():
            path = self.folder / "launch" / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")

    def _wait_for_tasks(self) -> None:
        if self.state.stage == "Post-processing":
            return
        if self.state.stage != "Running":
            self._enter("Scaling")
        self.scheduler.submit(self.run.id, self.folder, self.run.job, self._write_launch_files)
        self.in_line.set()
        stopping, kill_asked_at = False, None
        since = time.monotonic()
        within_s = ASK_SECONDS
        while True:
            if not stopping and self._asked_for("cancel", within_s):
                stopping = True
                self.scheduler.stop(self.run.id, self.folder, kill=False)
            if kill_asked_at is None and self._asked_for("kill", within_s):
                kill_asked_at = time.monotonic()
                self.scheduler.stop(self.run.id, self.folder, kill=True)
            seen = self.scheduler.poll(self.run.id, self.folder)
            if seen.phase is Phase.OVER:
                self.said = seen.reason
                if stopping and self.state.stage == "Scaling" and not self.worked_on.started_tasks():
                    raise CanceledError
                return
            if seen.phase is Phase.RUNNING:
                self._enter("Running")
            elif self.state.stage == "Running":
                self._enter("Scaling", seen.reason)  # to be started again
            elif seen.reason != self.state.reason:
                self.state.add(self.run.add(fact="waiting", reason=seen.reason))
            if kill_asked_at is not None and time.monotonic() - kill_asked_at > HUNG_SECONDS:
                self.scheduler.sweep(self.run.id, self.folder)
            eased = min(max(POLL_SECONDS, (time.monotonic() - since) / 100), POLL_LATER_SECONDS)
            # All drivers of a controller together look no oftener than that: a thousand runs may wait for days.
            waits = seen.phase is Phase.WAITING
            pause, within_s = (WAITING_SECONDS, ASK_WAITING_SECONDS) if waits else (eased, ASK_SECONDS)
            time.sleep(max(pause, threading.active_count() / LOOKS_A_SECOND))

    def _conclude(self) -> None:
        left = self.scheduler.sweep(self.run.id, self.folder)
        self._free_reserve()  # before the event, which needs space itself
        self.mirror.flush()
        self._enter("Post-processing")
        if left:
            self._warn(f"{left} processes outlived their task and were killed")
        self._keep()
        decided = verdict(self.worked_on, self.said)
        self.run.add(stage=decided.stage, reason=decided.reason, **decided.facts)

    def _free_reserve(self) -> None:
        """Give the disk back what was kept for now, when nothing of the run is there to take it."""
        (self.folder / "launch" / "reserve").unlink(missing_ok=True)

    def _keep(self) -> None:
        """All that the run has left, in the store; the list of its outputs last."""
        self._free_reserve()
        for warning in (*self.mirror.finish(), *outputs.conclude(self.run, self.folder).warnings):
            self._warn(warning)


def _kept_here(folder: Path) -> Path:
    """Marks a folder that holds what the store could not be given."""
    return folder / "launch" / "kept-here"
