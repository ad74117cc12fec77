"""Runs on this machine: simulated nodes, first come first served, so many runs at a time."""

import fcntl
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from tensoryard import processes
from tensoryard.end_record import decide_end
from tensoryard.errors import SchedulerError, UsageError
from tensoryard.job import Job
from tensoryard.render import Placement
from tensoryard.scheduler import Phase, Seen, WriteFiles
from tensoryard.store import keys
from tensoryard.verdict import LEFT_NO_RESULT

LOOK_AT_SUPERVISORS_SECONDS = 1.0
GONE_SECONDS = 2.0


class _Waiting(NamedTuple):
    number: int
    job: Job
    write_files: WriteFiles


class LocalScheduler:
    """
    Starts each run's launch script in a session of its own.

    The script and its supervisors hold a lock on launch/alive: while it is held the run is running, whoever
    started it. So a new controller finds a run again without trusting a process id.
    """

    def __init__(self, concurrent_runs: Callable[[], int]) -> None:
        """concurrent_runs: the limit, asked anew each time; where it cannot be told the last one holds."""
        self._ask_limit = concurrent_runs
        self._limit = 1
        self._unread = ""
        self._lock = threading.Lock()
        self._waiting: dict[str, _Waiting] = {}
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._running: dict[str, Path] = {}
        self._looked_at: dict[str, float] = {}

    def recover(self, run_id: str, folder: Path) -> None:
        """See `Scheduler.recover`."""
        if _alive(folder):
            with self._lock:
                self._running[run_id] = folder

    def submit(self, run_id: str, folder: Path, job: Job, write_files: WriteFiles) -> None:
        parsed = keys.parse_run_id(run_id)
        with self._lock:
            if _alive(folder) or _started(folder):
                self._running[run_id] = folder
            else:
                self._running.pop(run_id, None)  # a launch that came to nothing
                self._waiting[run_id] = _Waiting(parsed[1] if parsed else 0, job, write_files)

    def poll(self, run_id: str, folder: Path) -> Seen:
        with self._lock:
            if run_id in self._waiting:
                own = self._waiting[run_id].number
                ahead = sorted((entry.number, other) for other, entry in self._waiting.items() if entry.number < own)
                if len(self._running) + len(ahead) >= self._limit_now():
                    others = [*self._running, *(other for _, other in ahead)]
                    named = ", ".join(others[:3]) + (f" and {len(others) - 3} more" if len(others) > 3 else "")
                    return Seen(Phase.WAITING, f"waiting for {named} on this machine")
                self._running[run_id] = folder
                self._launch(run_id, folder, self._waiting.pop(run_id))
                return Seen(Phase.RUNNING)
        if _alive(folder):
            self._look_at_supervisors(run_id, folder)
            return Seen(Phase.RUNNING)
        with self._lock:
            self._running.pop(run_id, None)
            child = self._children.pop(run_id, None)
        if child is not None:
            child.wait()
        return Seen(Phase.OVER)

    def stop(self, run_id: str, folder: Path, *, kill: bool, because: str | None = None) -> None:
        with self._lock:
            self._waiting.pop(run_id, None)
        if because is None:
            end_run(folder, "canceled")
        else:
            end_run(folder, "failed", reason=because)
        if kill:
            # Each supervisor sees it and kills; one that is stuck is killed by `sweep`, which finds all that is left.
            (folder / "launch" / "kill").touch()

    def sweep(self, run_id: str, folder: Path) -> int:
        killed = processes.kill(set(_processes_of(folder)))
        deadline = time.monotonic() + GONE_SECONDS
        # A process that was killed is there for a moment more, and on a busy machine for a longer one.
        while killed and (left := set(_processes_of(folder))) and time.monotonic() < deadline:
            processes.kill(left)
            time.sleep(0.01)
        return killed

    def settle(self) -> None:
        """At once: `sweep` has seen to all."""

    def _launch(self, run_id: str, folder: Path, entry: _Waiting) -> None:
        with _free_ports(len(entry.job.tasks())) as ports:
            entry.write_files(Placement("local", ("localhost",) * entry.job.node_count, ports))
        alive = os.open(folder / "launch" / "alive", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            # Waits, if at all, for a process that another thread is about to start and that still holds a copy.
            fcntl.flock(alive, fcntl.LOCK_EX)
            with (folder / "logs" / "launch.log").open("ab") as log:
                self._children[run_id] = subprocess.Popen(
                    ["bash", str(folder / "launch" / "run.sh")],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    pass_fds=(alive,),
                    env=launch_environment(),
                )
        except OSError as error:
            raise SchedulerError(f"run `{run_id}`: its launch script cannot be started: {error}") from None
        finally:
            os.close(alive)

    def _limit_now(self) -> int:
        """A workspace.json that somebody is editing, saved in half, is no reason to fail a run that waits."""
        try:
            self._limit = max(1, self._ask_limit())
            self._unread = ""
        except UsageError as error:
            if error.message != self._unread:
                self._unread = error.message
                print(f"{error.message}; still {self._limit} at once", file=sys.stderr, flush=True)
        return self._limit

    def _look_at_supervisors(self, run_id: str, folder: Path) -> None:
        """A supervisor that was killed cannot say so, and its task's peers would wait for ever."""
        if time.monotonic() - self._looked_at.get(run_id, 0) < LOOK_AT_SUPERVISORS_SECONDS:
            return
        self._looked_at[run_id] = time.monotonic()
        for task, facts in _started_tasks(folder):
            supervisor = facts.get("supervisor")
            here = facts.get("host") == os.uname().nodename
            gone = here and isinstance(supervisor, int) and not processes.is_there(supervisor)
            if gone and not (folder / "tasks" / f"{task}.json").exists():
                end_run(folder, "failed", task=task, reason=LEFT_NO_RESULT)


def end_run(folder: Path, outcome: str, **facts: object) -> None:
    """Decide the outcome of the tasks, unless a task has: `rank.py` of each sees it and stops its script."""
    (folder / "launch").mkdir(parents=True, exist_ok=True)
    writer = f"{os.getpid()}.{threading.get_ident()}"
    decide_end(str(folder), writer, {"outcome": outcome, "host": os.uname().nodename, **facts})


# What belongs to the machine and its user. All else a job asks for by name: another run's controller may be the one
# that starts this run, and what its terminal held, a token say, is none of this run's business.
_OF_THE_MACHINE = re.compile(
    "HOME|USER|LOGNAME|SHELL|PATH|LD_LIBRARY_PATH|TZ|TMPDIR|LANG|LC_.*|XDG_.*|SSL_CERT_(FILE|DIR)"
    "|((https?|ftp|all|no)_proxy)|((HTTPS?|FTP|ALL|NO)_PROXY)"
)


def launch_environment() -> dict[str, str]:
    """What of this process's environment a launch script is given."""
    return {name: value for name, value in os.environ.items() if _OF_THE_MACHINE.fullmatch(name)}


def _alive(folder: Path) -> bool:
    try:
        handle = os.open(folder / "launch" / "alive", os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False


def _started_tasks(folder: Path) -> Iterator[tuple[str, dict[str, object]]]:
    for path in (folder / "tasks").glob("*.started.json"):
        with suppress(OSError, ValueError):
            yield path.name.removesuffix(".started.json"), json.loads(path.read_text())


def _started(folder: Path) -> bool:
    """A launch that died before any task started may be done again; one that started a task may not."""
    tasks = folder / "tasks"
    return tasks.is_dir() and any(tasks.glob("*.json"))


def _processes_of(folder: Path) -> Iterator[int]:
    """Processes of a run: on Linux all that carry its folder in their environment, wherever they went."""
    yield from (pid for pid, value in processes.carrying("TYARD_RUN_DIR") if value == str(folder))
    if sys.platform == "linux":
        return
    for task, facts in _started_tasks(folder):
        group = facts.get("pid")
        ended = (folder / "tasks" / f"{task}.json").exists()  # its number may be another process's by now
        if isinstance(group, int) and not ended:
            listed = subprocess.run(
                ["/bin/ps", "-o", "pid=", "-g", str(group)], capture_output=True, text=True, check=False
            )
            yield from (int(word) for word in listed.stdout.split())


@contextmanager
def _free_ports(count: int) -> Iterator[tuple[int, ...]]:
    """TCP ports of this machine that nobody listens on, held until the launch files are written."""
    import socket

    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("localhost", 0))
        yield tuple(each.getsockname()[1] for each in sockets)
