"""
Moves runs through their stages; nothing else does.

It keeps no state: killed at any line and started again, it goes on from the events of each run and from what
the scheduler says. One controller serves a target at a time, held to that by a lock on a file.
"""

import contextlib
import fcntl
import os
import sys
import threading
import time
from collections.abc import Iterator
from typing import NamedTuple

from tensoryard.driver import CanceledError, RunDriver
from tensoryard.environment import EnvironmentBuilder
from tensoryard.errors import CorruptRecordError, StoreError, TensoryardError
from tensoryard.run import RunRecord
from tensoryard.run_requests import RunRequests
from tensoryard.scheduler import Scheduler
from tensoryard.store import is_folder, keys
from tensoryard.store.disk import plain_errors
from tensoryard.targets import LOCAL, SERVED_HERE, scheduler_of
from tensoryard.workspace import Workspace


class Pace(NamedTuple):
    """
    How often a store is asked for what is queued, and how a run fares when the store fails it.

    retry_seconds: from one try to the next, at first and at most; patience_seconds: of tries that all fail.
    """

    queue_seconds: float
    retry_seconds: tuple[float, float]
    patience_seconds: float


# A disk that is full stays so until somebody acts, and is in the way of the tasks too.
FOLDER = Pace(queue_seconds=0.1, retry_seconds=(1.0, 1.0), patience_seconds=30.0)
# A service that is away comes back, and the tasks go on without it.
REMOTE = Pace(queue_seconds=1.0, retry_seconds=(1.0, 30.0), patience_seconds=3600.0)


class Controller:
    """Drives every queued run of a target, each in a thread of its own, until the queue is empty."""

    def __init__(self, workspace: Workspace, target: str, scheduler: Scheduler, builder: EnvironmentBuilder) -> None:
        self.workspace = workspace
        self.target = target
        self.queue = workspace.queue(target)
        self.scheduler = scheduler
        self.builder = builder
        self.pace = FOLDER if is_folder(workspace.store) else REMOTE
        self.requests = RunRequests(workspace.store)
        # Runs whose store failed for all of the pace's patience, and when each is tried again: a disk may be
        # full for an hour, and the controller of a cluster has no successor that would take them up.
        self.put_off: dict[str, float] = {}

    def serve(self) -> None:
        """Returns when no run is queued, or at once when another controller is at work."""
        while self._queued():
            with controller_lock(self.workspace, self.target) as held:
                if not held:
                    return
                self._drain()
            # A run queued between the last look and the release of the lock found the lock held: look again.

    def _drain(self) -> None:
        drivers: dict[str, threading.Thread] = {}
        try:
            for run_id in self._queued():
                self.scheduler.recover(run_id, self.workspace.work_folder(run_id))
            pause = self.pace.queue_seconds
            while True:
                try:
                    queued = self._queued()
                    pause = self.pace.queue_seconds
                except StoreError as error:
                    if not any(thread.is_alive() for thread in drivers.values()):
                        raise
                    print(f"{self.queue}: {error.message}", file=sys.stderr, flush=True)
                    queued = list(drivers)
                    pause = min(2 * pause, self.pace.retry_seconds[1])
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
                    thread.join(pause / len(drivers))
        finally:
            # The lock is let go after this: no second controller may meet a run that still has its driver.
            for thread in drivers.values():
                thread.join()

    def _queued(self) -> list[str]:
        now = time.monotonic()
        children = self.workspace.store.children(keys.queued(self.queue))
        names = [name for name in children if self.put_off.get(name, now) <= now]
        return sorted(names, key=lambda name: (keys.parse_run_id(name) or ("", 0))[1])

    def _drive(self, run_id: str, in_line: threading.Event) -> None:
        run = RunRecord(self.workspace.store, run_id)
        pause, longest = self.pace.retry_seconds
        failing_since = None
        while True:
            began = time.monotonic()
            last_try = failing_since is not None and began - failing_since > self.pace.patience_seconds
            try:
                self._drive_to_end(run, in_line, last_try=last_try)
                self.requests.clear(run_id)
                self.workspace.store.delete(keys.queued(self.queue, run_id))
                return
            except Exception as error:
                # Its tasks go on meanwhile; the next try starts from what is recorded, as a new controller would.
                if not isinstance(error, StoreError):
                    _print_traceback()
                said = error.message if isinstance(error, TensoryardError) else error
                print(f"{run_id}: {said}; trying again in {pause:g} s", file=sys.stderr, flush=True)
                time.sleep(pause)
            finally:
                in_line.set()
            if last_try:
                # It stays queued, for this controller after a while or for the next one.
                self.put_off[run_id] = time.monotonic() + self.pace.patience_seconds
                return
            if failing_since is None or time.monotonic() - began > self.pace.patience_seconds:
                failing_since, pause = time.monotonic(), self.pace.retry_seconds[0]
            else:
                pause = min(pause * 2, longest)

    def _drive_to_end(self, run: RunRecord, in_line: threading.Event, *, last_try: bool) -> None:
        driver = RunDriver(self.workspace, self.scheduler, self.builder, run, self.requests, in_line)
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
            _print_traceback()
            driver.fail(f"tyard failed: {type(error).__name__}: {error}")
        driver.clear()


def _print_traceback() -> None:
    """Of the exception at hand, into the controller's log."""
    import traceback  # a controller that needs none starts a run sooner

    traceback.print_exc()


@contextlib.contextmanager
def controller_lock(workspace: Workspace, target: str = LOCAL) -> Iterator[bool]:
    """
    Whether this process now is the controller of a target; let go at the end, or by the kernel when it dies.

    It lies where runs are worked on, whatever the store is. Raises StoreError where that cannot be written.
    """
    lock = workspace.root / f"controller-{target}.lock"
    with plain_errors(lock, "writing"):
        workspace.root.mkdir(parents=True, exist_ok=True)
        handle = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True
    finally:
        os.close(handle)


def controller_of(workspace: Workspace, target: str = LOCAL) -> Controller:
    """The controller of a target's runs: of those on this machine, or of a Slurm cluster that it submits to."""
    from tensoryard.environment.by_runtime import BuilderByRuntime
    from tensoryard.target_images import node_images

    partition = target if target not in SERVED_HERE else ""
    builder = BuilderByRuntime(workspace, on_nodes=bool(node_images(workspace, target)), partition=partition)
    return Controller(workspace, target, _scheduler(workspace, target), builder)


def _scheduler(workspace: Workspace, target: str) -> Scheduler:
    if scheduler_of(target) == "slurm":
        from tensoryard.scheduler.slurm import SlurmScheduler

        return SlurmScheduler()
    from tensoryard.scheduler.local import LocalScheduler

    return LocalScheduler(lambda: workspace.settings().concurrent_runs)
