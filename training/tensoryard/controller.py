"""
Moves runs through their stages; nothing else does.

It keeps no state: killed at any line and started again, it goes on from the events of each run and from what
the scheduler says. One controller serves a target at a time, held to that by a lock on a file.
"""

import fcntl
import os
import shutil
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tensoryard import context, outputs, snapshot, tf_config
from tensoryard.environment import EnvironmentBuilder
from tensoryard.errors import TensoryardError
from tensoryard.job import Job
from tensoryard.render import Placement, render
from tensoryard.run import ENDS, RunRecord
from tensoryard.scheduler import Phase, Scheduler
from tensoryard.store import keys
from tensoryard.verdict import verdict
from tensoryard.workspace import Workspace

POLL_SECONDS = 0.02
QUEUE_SECONDS = 0.1


class CanceledError(Exception):
    """The run was canceled while it was being prepared."""


class Controller:
    """Drives every queued run of a target, each in a thread of its own, until the queue is empty."""

    def __init__(self, workspace: Workspace, target: str, scheduler: Scheduler, builder: EnvironmentBuilder) -> None:
        self.workspace = workspace
        self.target = target
        self.scheduler = scheduler
        self.builder = builder

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
        while True:
            queued = self._queue()
            for run_id in queued:
                if run_id not in drivers:
                    drivers[run_id] = threading.Thread(target=self._drive, args=(run_id,), name=run_id)
                    drivers[run_id].start()
            drivers = {run_id: thread for run_id, thread in drivers.items() if thread.is_alive() or run_id in queued}
            if not drivers:
                return
            for thread in list(drivers.values()):
                thread.join(QUEUE_SECONDS / len(drivers))

    def _queue(self) -> list[str]:
        names = self.workspace.store.children(keys.queued(self.target))
        return sorted(names, key=lambda name: (keys.parse_run_id(name) or ("", 0))[1])

    def _drive(self, run_id: str) -> None:
        run = RunRecord(self.workspace.store, run_id)
        try:
            RunDriver(self, run).drive()
        except CanceledError:
            run.add(stage="Canceled", reason="canceled before it started")
        except TensoryardError as error:
            run.add(stage="Failed", reason=error.message, hint=error.hint, by="tyard")
        except Exception as error:
            traceback.print_exc()
            run.add(stage="Failed", reason=f"tyard failed: {type(error).__name__}: {error}", by="tyard")
        self.workspace.store.delete(keys.queued(self.target, run_id))


class RunDriver:
    """One run, from wherever it stands to its end."""

    def __init__(self, controller: Controller, run: RunRecord) -> None:
        self.scheduler = controller.scheduler
        self.builder = controller.builder
        self.workspace = controller.workspace
        self.run = run
        self.folder = self.workspace.run_folder(run.id)
        self.state = run.state()

    def drive(self) -> None:
        if self.state.stage in ENDS:
            return
        self._prepare()
        self._wait_for_tasks()
        self._conclude()

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
        # Not imported here: what it needs on the node would slow the start of every run.
        shutil.copyfile(Path(__file__).with_name("rank.py"), self.folder / "launch" / "rank.py")
        shutil.copyfile(str(tf_config.__file__), self.folder / "launch" / "tf_config.py")
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
            self._log(f"Building the environment {spec}")
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
        for reference in self.run.job.references().values():
            if reference.mode != "download":
                continue
            source = self.workspace.store.local_path(keys.data(reference.path))
            target = self.folder / "inputs" / reference.path
            if source is None or target.exists():
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            aside = target.with_name(f".{target.name}.part")
            shutil.rmtree(aside, ignore_errors=True)
            if source.is_dir():
                shutil.copytree(source, aside)
            else:
                shutil.copyfile(source, aside)
            aside.rename(target)

    def _bring_outputs(self, run_id: str) -> None:
        earlier = RunRecord(self.workspace.store, run_id)
        found = earlier.outputs()
        for file in found.files if found else ():
            from tensoryard.store.transfer import download

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
        stopping, killing = False, False
        while True:
            if not stopping and self.run.requested("cancel"):
                stopping = True
                self.scheduler.stop(self.run.id, self.folder, kill=False)
                if self.state.stage != "Running":
                    raise CanceledError
            if not killing and self.run.requested("kill"):
                killing = True
                self.scheduler.stop(self.run.id, self.folder, kill=True)
            seen = self.scheduler.poll(self.run.id, self.folder)
            if seen.phase is Phase.OVER:
                return
            if seen.phase is Phase.RUNNING:
                self._enter("Running")
            elif seen.reason != self.state.reason:
                self.state.add(self.run.add(fact="waiting", reason=seen.reason))
            time.sleep(POLL_SECONDS)

    def _conclude(self) -> None:
        self._enter("Post-processing")
        left = self.scheduler.sweep(self.run.id, self.folder)
        if left:
            self.run.add(fact="warning", reason=f"{left} processes outlived their task and were killed")
        found = outputs.conclude(self.run, self.folder)
        for warning in found.warnings:
            self.run.add(fact="warning", reason=warning)
        decided = verdict(self.run)
        self.run.add(stage=decided.stage, reason=decided.reason, **decided.facts)


def launch_files(workspace: Workspace, job: Job, run_id: str, placement: Placement) -> dict[str, str]:
    """The rendered files of a run: `render` with the paths that this workspace gives it."""
    folder = workspace.run_folder(run_id)
    paths = {}
    for reference in job.references().values():
        brought = folder / "inputs" / reference.path
        mounted = workspace.store.local_path(keys.data(reference.path))
        paths[reference] = str(mounted if reference.mode == "mount" and mounted else brought)
    return render(job, placement, run_id=run_id, run_dir=str(folder), local_paths=paths)


@contextmanager
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
