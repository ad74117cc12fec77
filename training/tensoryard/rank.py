"""
Runs beside the user's script: one of these a task, on the node, with nothing but the standard library.

    python rank.py TASK command...      TASK: a name of launch/layout.json, or `-` to find it from MPI or Slurm

It gives the script its TF_CONFIG, its log and a session of its own, and owns the end. Whoever decides the
outcome of the run first writes launch/end.json; all others see it and stop their script: TERM, 10 s, KILL.
What became of the task is in tasks/<task>.json. Nothing here needs the controller to be alive.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import signal
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Layout = dict[str, Any]

GRACE_SECONDS = 10.0
LOOK_SECONDS = 0.2
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36


def main(argv: list[str]) -> int:
    run_dir = os.environ["TYARD_RUN_DIR"]
    with open(os.path.join(run_dir, "launch", "layout.json"), encoding="utf-8") as file:
        layout = json.load(file)
    task = find_task(argv[0], layout)
    return Supervisor(run_dir, layout, task).run(argv[1:])


def find_task(name: str, layout: Layout) -> str:
    """The task's name, from the argument or from what MPI, Gloo or Slurm tell this process."""
    if name != "-":
        return name
    for variable in ("OMPI_COMM_WORLD_RANK", "HOROVOD_RANK", "PMI_RANK", "SLURM_PROCID"):
        if variable in os.environ:
            return str(layout["tasks"][int(os.environ[variable]) % len(layout["tasks"])]["name"])
    raise SystemExit("rank.py: no MPI, Gloo or Slurm rank in the environment")


def world_size() -> int | None:
    for variable in ("OMPI_COMM_WORLD_SIZE", "HOROVOD_SIZE", "PMI_SIZE", "SLURM_NTASKS"):
        if variable in os.environ:
            return int(os.environ[variable])
    return None


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
        self.end_path = os.path.join(run_dir, "launch", "end.json")
        self.host = os.uname().nodename
        self.kills_before = oom_kills()

    def run(self, command: list[str]) -> int:
        if os.path.exists(self.end_path):
            return 1
        problem = self.problem()
        if problem:
            self.record({"host": self.host, "exit_code": 1, "reason": problem})
            self.end("failed", exit_code=1, reason=problem)
            return 1
        started = time.time()
        wakeup = wake_on(signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
        pid = self.start(command)
        self.record({"host": self.host, "pid": pid, "supervisor": os.getpid(), "started_at": started}, ".started")
        status, usage, stopped = self.wait(pid, wakeup, started)
        empty_group(pid)
        code = os.waitstatus_to_exitcode(status)
        factor = 1 if sys.platform == "darwin" else 1024  # Linux counts KiB
        result = {
            "host": self.host,
            "pid": pid,
            "exit_code": code if code >= 0 else None,
            "signal": signal.Signals(-code).name if code < 0 else None,
            "stopped": stopped,
            "started_at": started,
            "ended_at": time.time(),
            "peak_memory_bytes": usage.ru_maxrss * factor,
        }
        if code == -signal.SIGKILL and not stopped and oom_kills() > self.kills_before:
            result["reason"] = "the kernel killed it because memory ran out"
        self.record(result)
        if stopped:
            return 0 if self.outcome() == "completed" else 1
        if code:
            self.end("failed", **{name: result.get(name) for name in ("exit_code", "signal", "reason")})
            return code if code > 0 else 128 - code
        if self.task == self.layout["ended_by"]:
            self.end("completed")
        return 0

    def problem(self) -> str | None:
        """Why the script must not be started, or None."""
        size = world_size() if self.layout["rank_from_environment"] else None
        asked = len(self.layout["tasks"])
        if size is not None and size != asked:
            return f"the job asked for a world of {asked} ranks, this rank found itself in one of {size}"
        if self.layout["use_gpu"]:
            reason = gpu_problem()
            if reason:
                return f"use_gpu is set and this node has no usable GPU: {reason}"
        return None

    def start(self, command: list[str]) -> int:
        environment = self.script_environment()
        log = os.open(
            os.path.join(self.run_dir, "logs", f"{self.task}.log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644
        )
        nothing = os.open(os.devnull, os.O_RDONLY)
        libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None
        if libc:
            # Grandchildren whose parent is gone come to us, so that the group can be seen to be empty.
            libc.prctl(PR_SET_CHILD_SUBREAPER, 1)
        supervisor = os.getpid()
        pid = os.fork()
        if pid:
            os.close(log)
            return pid
        try:
            os.setsid()
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
            os.closerange(3, 1024)
            os.execvpe(command[0], command, environment)
        except OSError as error:
            os.write(2, f"cannot start {command[0]}: {error}\n".encode())
        os._exit(127)

    def script_environment(self) -> dict[str, str]:
        environment = dict(os.environ)
        own = next(task for task in self.layout["tasks"] if task["name"] == self.task)
        environment["TYARD_TASK"] = self.task
        environment["TYARD_NODE"] = str(own["node"])
        path = os.path.join(self.run_dir, "launch", "path")
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [path, environment.get("PYTHONPATH")]))
        if self.layout["tf_config"]:
            sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
            import tf_config  # type: ignore[import-not-found]  # it lies beside this file on the node

            tasks = [tf_config.Task(task["role"], task["index"], task["node"]) for task in self.layout["tasks"]]
            hosts = self.layout["hosts"] or os.environ["TYARD_HOSTS"].split(",")
            task_addresses = tf_config.addresses(tasks, hosts, self.layout["ports"])
            environment["TF_CONFIG"] = dict(tf_config.tf_configs(tasks, task_addresses, only=self.task))[self.task]
        if self.layout["share_cores"]:
            # Tasks that share a machine would each start a thread a core and fight for all of them.
            cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
            share = str(max(1, cores // len(self.layout["tasks"])))
            for variable in ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS"):
                environment.setdefault(variable, share)
        return environment

    def wait(self, pid: int, wakeup: int, started: float) -> tuple[int, Any, bool]:
        """(wait status, resource usage, whether it was stopped) once the script is gone."""
        limit = self.layout["max_run_duration_seconds"]
        stopping_since = None
        killed = False
        while True:
            found, status, usage = reap(pid)
            if found:
                return status, usage, stopping_since is not None
            now = time.monotonic()
            if stopping_since is None:
                if limit is not None and time.time() - started > limit:
                    self.end("failed", reason=f"it ran longer than max_run_duration_seconds allows ({limit} s)")
                if told_to_stop(wakeup) or os.path.exists(self.end_path):
                    stopping_since = now
                    signal_group(pid, signal.SIGTERM)
            elif not killed and (
                now - stopping_since > GRACE_SECONDS or os.path.exists(os.path.join(self.run_dir, "launch", "kill"))
            ):
                signal_group(pid, signal.SIGKILL)
                killed = True
            select.select([wakeup], [], [], LOOK_SECONDS)

    def outcome(self) -> str | None:
        try:
            with open(self.end_path, encoding="utf-8") as file:
                return str(json.load(file)["outcome"])
        except FileNotFoundError:
            return None

    def end(self, outcome: str, **facts: object) -> None:
        """Decide the run's outcome, unless somebody has."""
        facts = {"outcome": outcome, "task": self.task, "host": self.host, "at": time.time(), **facts}
        draft = f"{self.end_path}.{self.task}"
        with open(draft, "w", encoding="utf-8") as file:
            json.dump(facts, file)
        try:
            os.link(draft, self.end_path)
        except FileExistsError:
            pass
        finally:
            os.unlink(draft)

    def record(self, facts: dict[str, Any], suffix: str = "") -> None:
        path = os.path.join(self.run_dir, "tasks", f"{self.task}{suffix}.json")
        try:
            with open(f"{path}.draft", "w", encoding="utf-8") as file:
                json.dump(facts, file)
            os.replace(f"{path}.draft", path)
        except OSError as error:
            # With the disk full the task still runs, and still ends by its exit code.
            print(f"rank.py: {self.task}: {path}: {error}", file=sys.stderr)


def wake_on(*numbers: int) -> int:
    """A file descriptor that becomes readable when one of these signals arrives, holding its number."""
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    os.set_blocking(writing, False)
    for number in numbers:
        signal.signal(number, lambda number, frame: None)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    return reading


def told_to_stop(wakeup: int) -> bool:
    try:
        return any(number != signal.SIGCHLD for number in os.read(wakeup, 4096))
    except BlockingIOError:
        return False


def reap(pid: int) -> tuple[bool, int, Any]:
    """(whether pid is gone, its status, its resource usage); reaps orphans of the group on the way."""
    while True:
        try:
            found, status, usage = os.wait4(-1, os.WNOHANG)
        except ChildProcessError:
            return True, 0, None
        if found == pid:
            return True, status, usage
        if not found:
            return False, 0, None


def signal_group(group: int, number: int) -> bool:
    """Whether the group still had a process to signal."""
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return False
    except PermissionError:  # macOS: only zombies are left
        return False
    return True


def empty_group(group: int) -> None:
    """End what the script left running in its group: TERM, 10 s, KILL, and look that it is gone."""
    deadline = time.monotonic() + GRACE_SECONDS
    number = int(signal.SIGTERM)
    while signal_group(group, number):
        reap(0)
        if not signal_group(group, 0):
            return
        number = signal.SIGKILL if time.monotonic() > deadline else 0
        time.sleep(0.02)


def oom_kills() -> int:
    """How often this kernel has killed for memory since it started; 0 where it does not say."""
    try:
        with open("/proc/vmstat", encoding="ascii") as file:
            return next((int(line.split()[1]) for line in file if line.startswith("oom_kill ")), 0)
    except OSError:
        return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
