"""
Moves runs through their stages; nothing else does.

It keeps no state: killed at any line and started again, it goes on from the events of each run and from what
the scheduler says. One controller serves a target at a time, held to that by a lock on a file.
"""

import contextlib
import fcntl
import os
import shutil
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from pathlib import Path

from tensoryard import context, outputs, snapshot
from tensoryard.environment import EnvironmentBuilder, interruption
from tensoryard.environment.spec import in_words
from tensoryard.errors import CorruptRecordError, JobError, StoreError, TensoryardError
from tensoryard.job import DatastoreReference, Job
from tensoryard.render import Placement, render
from tensoryard.run import ENDS, NOT_STARTED, RunRecord
from tensoryard.scheduler import GRACE_SECONDS, Phase, Scheduler
from tensoryard.store import keys
from tensoryard.store.transfer import download
from tensoryard.verdict import verdict
from tensoryard.workspace import Workspace

# A look costs the cores that a script trains on: often while a run is young, so that a short one ends at once.
POLL_SECONDS = 0.02
POLL_LATER_SECONDS = 0.1
WAITING_SECONDS = 0.25  # hundreds of runs may wait, and the machine is for those that run
QUEUE_SECONDS = 0.1
# A store that cannot be written, for a full disk or a server that is away, is tried again so often and so long.
RETRY_SECONDS = 1.0
RETRIES = 30
# Supervisors kill at once when told so; those that have not by now hang, and are killed from here.
HUNG_SECONDS = 5.0
RESERVE_BYTES = 256 << 10


class CanceledError(Exception):
    """The run was canceled while it was being prepared."""


class Controller:
    """Drives every queued run of a target, each in a thread of its own, until the queue is empty."""

    def __init__(self, workspace: Workspace, target: str, scheduler: Scheduler, builder: EnvironmentBuilder) -> None:
        self.workspace = workspace
        self.target = target
        self.scheduler = scheduler
        self.builder = builder
        self.given_up: set[str] = set()

    def serve(self) -> None:
        """Returns when no run is queued, or at once when another controller is at work."""
        while self._queue():
            with controller_lock(self.workspace) as held:
                if not held:
                    return
                self._drain()
            # A run queued between the last look and the release of the lock found the lock held: look again.

    def _drain(self) -> None:
        drivers: dict[str, threading.Thread] = {}
        try:
            for run_id in self._queue():
                self.scheduler.recover(run_id, self.workspace.run_folder(run_id))
            while True:
                queued = self._queue()
                for run_id in queued:
                    if run_id not in drivers:
                        in_line = threading.Event()
                        drivers[run_id] = threading.Thread(target=self._drive, args=(run_id, in_line), name=run_id)
                        drivers[run_id].start()
                        # First come, first served: the next one does not reach the scheduler before this one.
                        in_line.wait()
                drivers = {
                    run_id: thread for run_id, thread in drivers.items() if thread.is_alive() or run_id in queued
                }
                if not drivers:
                    return
                for thread in list(drivers.values()):
                    thread.join(QUEUE_SECONDS / len(drivers))
        finally:
            # The lock is let go after this: no second controller may meet a run that still has its driver.
            for thread in drivers.values():
                thread.join()

    def _queue(self) -> list[str]:
        names = [
            name for name in self.workspace.store.children(keys.queued(self.target)) if name not in self.given_up
        ]
        return sorted(names, key=lambda name: (keys.parse_run_id(name) or ("", 0))[1])

    def _drive(self, run_id: str, in_line: threading.Event) -> None:
        run = RunRecord(self.workspace.store, run_id)
        for tries in range(RETRIES + 2):
            try:
                self._drive_to_end(run, in_line, last_try=tries >= RETRIES)
                self.workspace.store.delete(keys.queued(self.target, run_id))
                return
            except Exception as error:
                # Its tasks go on meanwhile; the next try starts from what is recorded, as a new controller would.
                if not isinstance(error, StoreError):
                    traceback.print_exc()
                said = error.message if isinstance(error, TensoryardError) else error
                print(f"{run_id}: {said}; trying again in {RETRY_SECONDS:g} s", file=sys.stderr, flush=True)
                time.sleep(RETRY_SECONDS)
            finally:
                in_line.set()
        # It stays queued: the next controller takes it up again.
        self.given_up.add(run_id)

    def _drive_to_end(self, run: RunRecord, in_line: threading.Event, *, last_try: bool) -> None:
        driver = RunDriver(self, run, in_line)
        try:
            driver.drive()
        except CanceledError:
            run.add(stage="Canceled", reason="canceled before it started")
        except StoreError as error:
            if not last_try and not isinstance(error, CorruptRecordError):
                raise
            driver.fail(error.message, error.hint)
        except TensoryardError as error:
            driver.fail(error.message, error.hint)
        except OSError as error:
            driver.fail(f"`{error.filename or driver.folder}`: {error.strerror or error}")
        except Exception as error:
            traceback.print_exc()
            driver.fail(f"tyard failed: {type(error).__name__}: {error}")


class RunDriver:
    """
    One run, from wherever it stands to its end.

    in_line: set when the scheduler knows the run, or when that will take long enough for others to go first.
    """

    def __init__(self, controller: Controller, run: RunRecord, in_line: threading.Event) -> None:
        self.in_line = in_line
        self.scheduler = controller.scheduler
        self.builder = controller.builder
        self.workspace = controller.workspace
        self.run = run
        self.folder = self.workspace.run_folder(run.id)
        run.mend()
        self.state = run.state()

    def drive(self) -> None:
        if self.state.stage in ENDS:
            return
        self._prepare()
        self._wait_for_tasks()
        self._conclude()

    def fail(self, reason: str, hint: str | None = None) -> None:
        """End a run that cannot go on for a reason outside of its script."""
        if self.state.stage not in (NOT_STARTED, "Preparing"):
            self.scheduler.stop(self.run.id, self.folder, kill=False, because=reason)
            self._until_over(time.monotonic() + GRACE_SECONDS + HUNG_SECONDS)
            # What it has written so far is kept, for a later run to go on from.
            with contextlib.suppress(TensoryardError, OSError):
                self._list_outputs()
        self.run.add(stage="Failed", reason=reason, hint=hint, by="tyard")

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

    def _prepare(self) -> None:
        if self.state.stage in ("Running", "Post-processing"):
            return
        if "prepared" in self.state.facts:
            return
        self._enter("Preparing")
        self._stop_if_canceled()
        for name in ("launch/path", "tasks", "logs", "outputs", "metrics"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        # For the events and the list of outputs at the run's end, should its script fill the disk.
        (self.folder / "launch" / "reserve").write_bytes(bytes(RESERVE_BYTES))
        self._make_environment()
        if not (self.folder / "source").exists():
            snapshot.lay_out(self.workspace.store, self.run.snapshot(), self.folder / "source")
        for name in ("outputs", "logs"):
            link = self.folder / "source" / name
            if not link.is_symlink():
                link.symlink_to(f"../{name}")
        self._bring_data()
        if self.run.job.resume_from:
            self._bring_outputs(self.run.job.resume_from)
        # `rank.py` is not imported here: what it needs on the node would slow the start of every run.
        for name in ("rank.py", "end_record.py", "tf_config.py"):
            shutil.copyfile(Path(__file__).with_name(name), self.folder / "launch" / name)
        package = self.folder / "launch" / "path" / "tensoryard"
        (package / "azureml" / "core").mkdir(parents=True, exist_ok=True)
        shutil.copyfile(str(context.__file__), package / "__init__.py")
        # Scripts written for Azure ML: `from tensoryard.azureml.core import Run`, or from `.core.run`.
        for name in ("core/__init__.py", "core/run.py"):
            (package / "azureml" / name).write_text("from tensoryard import Run as Run\n", encoding="utf-8")
        self.state.add(self.run.add(fact="prepared"))

    def _make_environment(self) -> None:
        spec = self.run.job.environment_spec()
        environment = self.builder.find(spec)
        cached = environment is not None
        if environment is None:
            self.in_line.set()
            self._log(f"Building the environment {in_words(spec)}")
            with interruption.checked_by(self._stop_if_canceled):
                environment = self.builder.ensure(spec, self._log)
        if environment.mpi:
            (self.folder / "launch" / "horovod-mpi").touch()
        link = self.folder / "environment"
        link.unlink(missing_ok=True)
        link.symlink_to(Path(environment.python).parent.parent)
        self.state.add(
            self.run.add(
                fact="environment",
                name=environment.name,
                hash=environment.hash,
                tensorflow=environment.tensorflow,
                cached=cached,
            )
        )

    def _log(self, line: str) -> None:
        self.run.store.append(self.run.key("logs/preparing.log"), line.rstrip("\n").encode() + b"\n")
        self._stop_if_canceled()

    def _stop_if_canceled(self) -> None:
        if self.run.requested("cancel"):
            raise CanceledError

    def _bring_data(self) -> None:
        for reference, target in _brought_to(self.folder, self.run.job).items():
            if reference.mode != "download":
                continue
            self.in_line.set()
            if target.exists():
                continue
            aside = target.with_name(f".{target.name}.part")
            shutil.rmtree(aside, ignore_errors=True)
            store, below = self.workspace.store, keys.data_below(reference.path)
            if reference.path and store.stat(keys.data(reference.path)):
                download(store, keys.data(reference.path), aside)
            else:
                for entry in store.list(below):
                    self._stop_if_canceled()
                    download(store, entry.key, aside / entry.key.removeprefix(below))
            aside.rename(target)

    def _bring_outputs(self, run_id: str) -> None:
        earlier = RunRecord(self.workspace.store, run_id)
        found = earlier.outputs()
        for file in found.files if found else ():
            download(earlier.store, earlier.key(file.path), self.folder / file.path, file.sha256, file.size_bytes)

    def _write_launch_files(self, placement: Placement) -> None:
        for name, text in launch_files(self.workspace, self.run.job, self.run.id, placement).items():
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
        while True:
            if not stopping and self.run.requested("cancel"):
                stopping = True
                self.scheduler.stop(self.run.id, self.folder, kill=False)
            if kill_asked_at is None and self.run.requested("kill"):
                kill_asked_at = time.monotonic()
                self.scheduler.stop(self.run.id, self.folder, kill=True)
            seen = self.scheduler.poll(self.run.id, self.folder)
            if seen.phase is Phase.OVER:
                if stopping and self.state.stage == "Scaling" and not self.run.started_tasks():
                    raise CanceledError
                return
            if seen.phase is Phase.RUNNING:
                self._enter("Running")
            elif seen.reason != self.state.reason:
                self.state.add(self.run.add(fact="waiting", reason=seen.reason))
            if kill_asked_at is not None and time.monotonic() - kill_asked_at > HUNG_SECONDS:
                self.scheduler.sweep(self.run.id, self.folder)
            eased = min(max(POLL_SECONDS, (time.monotonic() - since) / 100), POLL_LATER_SECONDS)
            time.sleep(WAITING_SECONDS if seen.phase is Phase.WAITING else eased)

    def _conclude(self) -> None:
        left = self.scheduler.sweep(self.run.id, self.folder)
        self._free_reserve()  # before the event, which needs space itself
        self._enter("Post-processing")
        if left:
            self.run.add(fact="warning", reason=f"{left} processes outlived their task and were killed")
        self._list_outputs()
        decided = verdict(self.run)
        self.run.add(stage=decided.stage, reason=decided.reason, **decided.facts)

    def _free_reserve(self) -> None:
        """Give the disk back what was kept for now, when nothing of the run is there to take it."""
        (self.folder / "launch" / "reserve").unlink(missing_ok=True)

    def _list_outputs(self) -> None:
        self._free_reserve()
        for warning in outputs.conclude(self.run, self.folder).warnings:
            self.run.add(fact="warning", reason=warning)


def launch_files(workspace: Workspace, job: Job, run_id: str, placement: Placement) -> dict[str, str]:
    """The rendered files of a run: `render` with the paths that this workspace gives it."""
    folder = workspace.run_folder(run_id)
    paths = {}
    for reference, brought in _brought_to(folder, job).items():
        mounted = workspace.store.local_path(keys.data(reference.path))
        if reference.mode == "mount" and mounted is None:
            raise JobError(
                f"the path `{reference.path}` cannot be mounted: this workspace's datastore is no folder here",
                hint="use `mode: download`",
            )
        paths[reference] = str(mounted if reference.mode == "mount" else brought)
    return render(job, placement, run_id=run_id, run_dir=str(folder), local_paths=paths)


def _brought_to(folder: Path, job: Job) -> dict[DatastoreReference, Path]:
    """Where each reference is copied to: a folder for each, as one may be a part of another."""
    references = dict.fromkeys(job.references().values())
    return {reference: folder / "inputs" / str(at) / reference.path for at, reference in enumerate(references)}


@contextlib.contextmanager
def controller_lock(workspace: Workspace) -> Iterator[bool]:
    """Whether this process now is the controller; let go at the end, or by the kernel when the process dies."""
    workspace.root.mkdir(parents=True, exist_ok=True)
    handle = os.open(workspace.root / "controller.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True
    finally:
        os.close(handle)


def local_controller(workspace: Workspace) -> Controller:
    """The controller of this machine's own runs."""
    from tensoryard.environment.venv import VenvBuilder
    from tensoryard.scheduler.local import LocalScheduler

    scheduler = LocalScheduler(lambda: workspace.settings().concurrent_runs)
    return Controller(workspace, "local", scheduler, VenvBuilder())
