"""
Starts a task's script, waits for it or for the run's end, and leaves no process behind: what `rank.py` starts.

Standard library only: it lies beside `rank.py` on the node. Whoever decides the outcome of the run first writes
launch/end.json; all others see it and stop their script: TERM, 10 s, KILL. What became of the task is in
tasks/<task>.json. Nothing here needs the controller to be alive.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import signal
import sys
import time

# Its neighbours, by names that they have on a node as well as here.
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from children import (  # type: ignore[import-not-found]
    children,
    reap,
    send,
    signal_name,
    told_to_stop,
    wake_on,
)
from end_record import decide_end, end_path, is_full, oom_kills, reserve, write_json  # type: ignore[import-not-found]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Layout = dict[str, Any]

GRACE_SECONDS = 10.0
LOOK_SECONDS = 0.2
SYNC_SECONDS = 1.0
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
# What MPI, Gloo and Slurm call a process's number, and how many there are.
LAUNCHERS = (
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
    ("HOROVOD_RANK", "HOROVOD_SIZE"),
    ("PMI_RANK", "PMI_SIZE"),
    ("SLURM_PROCID", "SLURM_NTASKS"),
)


def main(argv: list[str]) -> int:
    run_dir = os.environ["TYARD_RUN_DIR"]
    with open(os.path.join(run_dir, "launch", "layout.json"), encoding="utf-8") as file:
        layout = json.load(file)
    task = find_task(argv[0], layout)
    return Supervisor(run_dir, layout, task).run(argv[1:] or words_of(os.path.join(run_dir, "launch", "command")))


def words_of(path: str) -> list[str]:
    with open(path, "rb") as file:
        return [os.fsdecode(word) for word in file.read().split(b"\0")[:-1]]


def find_task(name: str, layout: Layout) -> str:
    """The task's name, from the argument or from what MPI, Gloo or Slurm tell this process."""
    if name != "-":
        return name
    for rank, _ in LAUNCHERS:
        if rank in os.environ:
            return str(layout["tasks"][int(os.environ[rank]) % len(layout["tasks"])]["name"])
    raise SystemExit("rank.py: no MPI, Gloo or Slurm rank in the environment")


def world_size() -> int | None:
    """How many processes the launcher of this one started, or None where it does not say."""
    found = next((os.environ.get(size) for rank, size in LAUNCHERS if rank in os.environ), None)
    return int(found) if found else None


def gpu_problem() -> str | None:
    """Why no GPU can be used here, or None. Asks the driver itself: TensorFlow would fall back to the CPU."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return "the NVIDIA driver's library libcuda.so.1 is not on this node"
    code = driver.cuInit(0)
    if code:
        return f"the NVIDIA driver answered error {code} to cuInit"
    count = ctypes.c_int()
    driver.cuDeviceGetCount(ctypes.byref(count))
    return None if count.value else "the NVIDIA driver sees no GPU"


class Supervisor:
    """One task: starts its script, waits for it or for the run's end, and leaves no process behind."""

    def __init__(self, run_dir: str, layout: Layout, task: str) -> None:
        self.run_dir = run_dir
        self.layout = layout
        self.task = task
        self.end_path = end_path(run_dir)
        self.host = os.uname().nodename
        self.kills_before = oom_kills()

    def run(self, command: list[str]) -> int:
        if os.path.exists(self.end_path):
            print(f"rank.py: {self.task}: not started, as the run has ended: {self.end_path}", file=sys.stderr)
            return 1
        problem = self.problem()
        if problem:
            return self.refuse(problem)
        started = time.time()
        wakeup = wake_on(signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
        facts = {"host": self.host, "supervisor": os.getpid(), "started_at": started}
        # Before the start: a script that may have begun is never begun again.
        self.record(facts, ".started")
        reserve(f"{self.end_path}.{self.task}")
        reserve(os.path.join(self.run_dir, "tasks", f"{self.task}.json.draft"))
        try:
            pid = self.start(command)
        except OSError as error:
            return self.refuse(f"its script cannot be started: {error}")
        self.record(facts | {"pid": pid}, ".started")
        status, usage, stopped = self.wait(pid, wakeup)
        code = os.waitstatus_to_exitcode(status)
        factor = 1 if sys.platform == "darwin" else 1024  # Linux counts KiB
        result = facts | {
            "pid": pid,
            "exit_code": code if code >= 0 else None,
            "signal": signal_name(-code) if code < 0 else None,
            "stopped": stopped is not None,
            "ended_at": time.time(),
            "peak_memory_bytes": usage.ru_maxrss * factor,
        }
        if code and stopped is None:
            result["reason"] = self.failure(code)
        self.record(result)
        # Before what the script left behind is cleared away: the other tasks need not wait for that.
        if stopped is None and code:
            self.end("failed", **{name: result[name] for name in ("exit_code", "signal", "reason")})
        elif stopped is None and self.task == self.layout["ended_by"]:
            self.end("completed")
        self.clear(pid, time.monotonic() if stopped is None else stopped)
        with contextlib.suppress(OSError):
            os.unlink(f"{self.end_path}.{self.task}")  # what was reserved and not needed
        if self.layout["way"] == "mpi" and (code or stopped is not None):
            self.wait_for_others()
        if stopped is not None:
            return 0 if self.outcome() == "completed" else 1
        return code if code >= 0 else 128 - code

    def refuse(self, reason: str) -> int:
        """The exit code of a task whose script was not started."""
        self.record({"host": self.host, "exit_code": 1, "reason": reason})
        self.end("failed", exit_code=1, reason=reason)
        return 1

    def failure(self, code: int) -> str | None:
        """What this node knows of a script's failure beyond its exit code."""
        if code == -signal.SIGKILL and oom_kills() > self.kills_before:
            return "the kernel killed it because memory ran out"
        if is_full(self.run_dir):
            how = f"exited with code {code}" if code > 0 else f"was ended by {signal_name(-code)}"
            return f"it {how}: no space left on the disk that holds {self.run_dir}"
        return None

    def problem(self) -> str | None:
        """Why the script must not be started, or None."""
        asked = len(self.layout["tasks"])
        size = world_size() if self.layout["rank_from_environment"] else None
        if size is not None and size != asked:
            return f"the job asked for a world of {asked} ranks, this rank found itself in one of {size}"
        if size is None and self.layout["way"] == "mpi":
            return f"the job asked for a world of {asked} ranks, and the launcher did not say how large this one is"
        nodes = max(task["node"] for task in self.layout["tasks"]) + 1
        if self.layout["tf_config"] and len(self.hosts()) < nodes:
            given = ", ".join(self.hosts()) or "none"
            return f"the job needs the names of {nodes} nodes, TYARD_HOSTS gave {given}"
        if self.layout.get("shares_nodes") and (port := self.tf_config().taken_port()):
            return f"port {port}, which TF_CONFIG gives it, is another program's on this node"
        if self.layout["use_gpu"]:
            reason = gpu_problem()
            if reason:
                return f"use_gpu is set and this node has no usable GPU: {reason}"
        return None

    def tf_config(self) -> Any:
        import tf_config  # type: ignore[import-not-found]

        return tf_config.own_tf_config(self.layout, self.hosts(), self.task)

    def hosts(self) -> list[str]:
        """What TF_CONFIG calls each node: its name, or its address where names lead nowhere."""
        names = [str(host) for host in self.layout["hosts"] or os.environ.get("TYARD_HOSTS", "").split(",") if host]
        try:
            with open(os.path.join(self.run_dir, "launch", "addresses.json"), encoding="utf-8") as file:
                known = json.load(file)
        except FileNotFoundError:  # not on Slurm
            known = {}
        return [known.get(name, name) for name in names]

    def start(self, command: list[str]) -> int:
        """The process of the script, once it is one. Raises OSError when it cannot be."""
        environment = self.script_environment()
        log = os.open(
            os.path.join(self.run_dir, "logs", f"{self.task}.log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644
        )
        nothing = os.open(os.devnull, os.O_RDONLY)
        libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None
        if libc:
            # Grandchildren whose parent is gone come to us, so that all can be seen to be gone.
            libc.prctl(PR_SET_CHILD_SUBREAPER, 1)
        supervisor = os.getpid()
        # Closed by the exec: before that a TERM to the new group would find no group, or be swallowed.
        started, failing = os.pipe()
        pid = os.fork()
        if pid:
            for number in (nothing, failing):
                os.close(number)
            with open(started, "rb") as file:
                problem = file.read()
            if problem:
                os.waitpid(pid, 0)
                raise OSError(problem.decode(errors="replace"))
            if "SLURM_JOB_ID" in os.environ:
                keep_on_disk(log)
            return pid
        try:
            os.setpgid(0, 0)
            if libc:
                # Whatever ends this supervisor, even KILL, ends the script.
                libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
                if os.getppid() != supervisor:
                    os._exit(1)
            for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGPIPE):
                signal.signal(number, signal.SIG_DFL)
            os.dup2(nothing, 0)
            os.dup2(log, 1)
            os.dup2(log, 2)
            os.closerange(3, failing)
            os.closerange(failing + 1, 1024)
            os.execvpe(command[0], command, environment)
        except OSError as error:
            os.write(failing, f"{command[0]}: {error.strerror}".encode())
        finally:
            os._exit(127)  # whatever went wrong: this is a copy of the supervisor, which must not go on

    def script_environment(self) -> dict[str, str]:
        environment = dict(os.environ)
        own = next(task for task in self.layout["tasks"] if task["name"] == self.task)
        environment["TYARD_TASK"] = self.task
        environment["TYARD_NODE"] = str(own["node"])
        paths = [os.path.join(self.run_dir, "launch", "path"), environment.get("PYTHONPATH")]
        if self.layout["way"] == "mpi":
            paths.insert(0, os.path.join(self.run_dir, "launch", "world"))
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
        if self.layout["tf_config"]:
            environment["TF_CONFIG"] = self.tf_config().text
        if self.layout["share_cores"]:
            # Tasks that share a machine would each start a thread a core and fight for all of them.
            cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
            share = str(max(1, cores // len(self.layout["tasks"])))
            for variable in ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS"):
                environment.setdefault(variable, share)
        return environment

    def wait(self, pid: int, wakeup: int) -> tuple[int, Any, float | None]:
        """(wait status, resource usage, when it was first told to stop or None) once the script is gone."""
        limit = self.layout["max_run_duration_seconds"]
        # Not by the time of day, which is set right on a node that has just booted.
        started = time.monotonic()
        stopping_since = None
        killed = False
        while True:
            found, status, usage = reap(pid)
            if found:
                if stopping_since is None and os.waitstatus_to_exitcode(status) and self.was_told(wakeup, status):
                    stopping_since = time.monotonic()
                return status, usage, stopping_since
            now = time.monotonic()
            if stopping_since is None:
                told = told_to_stop(wakeup)
                late = limit is not None and now - started > limit
                if late:
                    self.end("failed", reason=f"it ran longer than max_run_duration_seconds allows ({limit} s)")
                elif told and not os.path.exists(self.end_path):
                    self.end("stopped", signal=signal_name(told))
                if told or late or os.path.exists(self.end_path):
                    stopping_since = now
                    send(-pid, signal.SIGTERM)
            elif not killed and self.patience_is_over(stopping_since):
                send(-pid, signal.SIGKILL)
                killed = True
            select.select([wakeup], [], [], LOOK_SECONDS)

    def was_told(self, wakeup: int, status: int) -> bool:
        """Whether what ended the script was for its task: Slurm sends a TERM to every process, in any order."""
        if os.waitstatus_to_exitcode(status) == -signal.SIGTERM:
            time.sleep(LOOK_SECONDS)
        told: int = told_to_stop(wakeup)
        if told and not os.path.exists(self.end_path):
            self.end("stopped", signal=signal_name(told))
        return told != 0

    def patience_is_over(self, since: float) -> bool:
        kill_path = os.path.join(self.run_dir, "launch", "kill")
        return time.monotonic() - since > GRACE_SECONDS or os.path.exists(kill_path)

    def clear(self, group: int, since: float) -> None:
        """End what the script left running, wherever it went: TERM, KILL 10 s after since, and see it gone."""
        told = set()
        while True:
            none_left, _, _ = reap(None)
            if none_left and not send(-group, 0):
                return
            kill = self.patience_is_over(since)
            for pid in {-group, *children()}:
                if kill or pid not in told:
                    told.add(pid)
                    send(pid, signal.SIGKILL if kill else signal.SIGTERM)
            if time.monotonic() - since > 2 * GRACE_SECONDS:
                return  # another user's process, or one that hangs in the kernel: nothing here can end it
            time.sleep(0.02)

    def wait_for_others(self) -> None:
        """
        Let every rank end its script before mpirun hears of a failure.

        At the first bad exit mpirun sends TERM and a second later KILL: no time for a script to save anything,
        and a longer timeout is one that Open MPI 4 waits out in full.
        """
        names = [f"{task['name']}.json" for task in self.layout["tasks"]]
        deadline = time.monotonic() + GRACE_SECONDS + 1
        while time.monotonic() < deadline:
            if all(os.path.exists(os.path.join(self.run_dir, "tasks", name)) for name in names):
                return
            time.sleep(LOOK_SECONDS / 4)

    def outcome(self) -> str | None:
        try:
            with open(self.end_path, encoding="utf-8") as file:
                return str(json.load(file)["outcome"])
        except FileNotFoundError:
            return None
        except (ValueError, KeyError):  # the disk was full when it was written
            return "failed"

    def end(self, outcome: str, **facts: object) -> None:
        decide_end(self.run_dir, self.task, {"outcome": outcome, "task": self.task, "host": self.host, **facts})

    def record(self, facts: dict[str, Any], suffix: str = "") -> None:
        path = os.path.join(self.run_dir, "tasks", f"{self.task}{suffix}.json")
        try:
            write_json(f"{path}.draft", facts)
            os.replace(f"{path}.draft", path)
        except OSError as error:
            # With the disk full the task still runs, and still ends by its exit code.
            print(f"rank.py: {self.task}: {path}: {error}", file=sys.stderr)


def keep_on_disk(log: int) -> None:
    """
    Write a log that grows out to its disk once a second, from a thread: a file server may be away for long.

    The disk that a cluster shares is NFS mostly, which keeps what a node writes there for half a minute.
    """
    import threading

    def sync() -> None:
        size = 0
        while True:
            with contextlib.suppress(OSError):
                if os.fstat(log).st_size != size:
                    size = os.fstat(log).st_size
                    os.fdatasync(log)
            time.sleep(SYNC_SECONDS)

    threading.Thread(target=sync, daemon=True).start()
