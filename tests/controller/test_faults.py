"""What is said and what is left when something dies. Scripts are plain Python that stands in for training."""

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from launching import PEAK_KIB, Yard, all_processes, as_root, exists, in_a_folder, parameter_server, wait_until
from tensoryard.errors import StoreError
from tensoryard.job import Job
from tensoryard.run import RunRecord
from tensoryard.submit import submit

SLEEPS = "import time; time.sleep(600)"
DEAF = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("deaf", flush=True)
time.sleep(600)
"""
# The task named by the argument does the deed once all others run; those stand in for tasks that wait for it.
ONE_DOES = """
import glob, os, signal, sys, time
doer, tasks = sys.argv[1], int(sys.argv[2])
print(f"{os.environ['TYARD_TASK']} begins")
open(f"outputs/{os.environ['TYARD_TASK']}", "w").close()
while os.environ["TYARD_TASK"] != doer or len(os.listdir("outputs")) < tasks:
    time.sleep(0.01)
"""
WORKERS = {"distributed_training": "multi_worker_mirrored", "node_count": 2}
PARAMETER_SERVER = {"distributed_training": parameter_server(worker_count=2, parameter_server_count=1)}


def one_does(deed: str, doer: str, tasks: int) -> dict[str, object]:
    return {"script": ONE_DOES + deed, "script_params": {doer: str(tasks)}}


@pytest.fixture
def memory_limit() -> Iterator[Callable[[int, int], None]]:
    """Puts a process into a memory cgroup of so many bytes."""
    version_1 = Path("/sys/fs/cgroup/memory")
    top = version_1 if version_1.is_dir() else Path("/sys/fs/cgroup")
    group = top / f"tyard-test-{os.getpid()}"

    def is_removed() -> bool:
        # Of a process that is going away the list is empty before the cgroup is.
        as_root(f"rmdir {group} 2>/dev/null || true")
        return not group.exists()

    def limit(pid: int, size_bytes: int) -> None:
        file = "memory.limit_in_bytes" if version_1.is_dir() else "memory.max"
        as_root(f"mkdir {group} && echo {size_bytes} > {group / file} && echo {pid} > {group / 'cgroup.procs'}")

    yield limit
    wait_until(is_removed, "the cgroup is empty and removed")


@contextlib.contextmanager
def kernel_kills(how: int) -> Iterator[None]:
    """
    Keeps tests of SIGKILL apart from the one whose script the kernel kills; how: LOCK_EX for that one.

    Linux counts such kills for the whole machine, and a script that is killed meanwhile is said to be one of them.
    """
    with Path(tempfile.gettempdir(), f"tyard-tests-kernel-kills-{os.getuid()}").open("a") as lock:
        fcntl.flock(lock, how)
        yield


def host() -> str:
    return os.uname().nodename


def start_and_wait(yard: Yard, script: str, file: str = "tasks/worker-0.started.json", **fields: object) -> RunRecord:
    """A run with a controller beside it, once one of its files has something in it."""
    run = yard.submit(script, **fields)
    yard.start_controller()
    yard.wait_for_file(run, file)
    return run


def pid_of(yard: Yard, run: RunRecord, command: str) -> int:
    """The process of a run whose command line holds a text, once it is there."""
    found: list[int] = []

    def look() -> bool:
        found[:] = [pid for pid, line in yard.processes(run) if command in line]
        return bool(found)

    wait_until(look, f"a process with `{command}` runs")
    return found[0]


def end_of(yard: Yard, run: RunRecord) -> tuple[str, str | None]:
    """(stage, reason) of the run's end; fails when a process is left."""
    stage = yard.wait_for_stage(run, "Completed", "Failed", "Canceled")
    assert yard.leftovers(run) == []
    return stage, run.state().reason


@pytest.mark.parametrize(
    ("deed", "said"),
    [
        ("print('no data'); sys.exit(3)", "exited with code 3"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "was ended by SIGKILL (the kernel sends it when memory runs out)"),
        ("import ctypes; ctypes.string_at(0)", "was ended by SIGSEGV (a fault in native code)"),
        ("os.kill(os.getpid(), signal.SIGRTMIN + 3)", "was ended by signal 37"),
    ],
)
@pytest.mark.parametrize("fields", [WORKERS, PARAMETER_SERVER], ids=["multi_worker", "parameter_server"])
@in_a_folder
def test_a_task_that_fails_is_named_and_stops_the_others(
    yard: Yard, deed: str, said: str, fields: dict[str, object]
) -> None:
    tasks = 2 if fields is WORKERS else 4
    with kernel_kills(fcntl.LOCK_SH):
        run = yard.run(**one_does(deed, "worker-1", tasks), **fields)
    assert end_of(yard, run) == ("Failed", f"worker-1 on {host()} {said}")
    assert run.state().stages[-1].reason == run.state().reason
    assert "worker-1 begins" in run.events()[0][-1].data["log"]
    others = {name: result["stopped"] for name, result in run.task_results().items() if name != "worker-1"}
    assert set(others.values()) == {True}
    assert len(others) == tasks - 1


@pytest.mark.parametrize("doer", ["chief-0", "ps-0", "worker-0"])
def test_any_role_that_is_killed_ends_the_run(yard: Yard, doer: str) -> None:
    deed = "os.kill(os.getpid(), signal.SIGKILL)"
    with kernel_kills(fcntl.LOCK_SH):
        run = yard.run(**one_does(deed, doer, 4), **PARAMETER_SERVER)
    stage, reason = end_of(yard, run)
    assert stage == "Failed"
    assert reason is not None
    assert reason.startswith(f"{doer} on {host()} was ended by SIGKILL")


def test_the_last_lines_of_the_log_go_with_the_reason(yard: Yard) -> None:
    run = yard.run("for n in range(100): print(n)\nprint('é' * 1000)\nraise SystemExit(5)")
    last = run.events()[0][-1]
    assert last.data["exit_code"] == 5
    assert last.data["log"] == [*(str(n) for n in range(81, 100)), "é" * 500]


@in_a_folder
def test_a_script_that_needs_too_much_memory_is_said_to_have(
    yard: Yard, memory_limit: Callable[[int, int], None]
) -> None:
    """Killed by the kernel for real, for the limit of a memory cgroup."""
    script = """
import os, time
while not os.path.exists("outputs/limited"): time.sleep(0.01)
hoard = [bytearray(1 << 20) for _ in range(1 << 12)]
"""
    run = start_and_wait(yard, script)
    wait_until(lambda: "pid" in yard.record(run, "tasks/worker-0.started.json"), "the script's pid is known")
    memory_limit(yard.record(run, "tasks/worker-0.started.json")["pid"], 64 << 20)
    with kernel_kills(fcntl.LOCK_EX):
        (yard.work_folder(run) / "outputs" / "limited").touch()
        end = end_of(yard, run)
    assert end == ("Failed", f"worker-0 on {host()}: the kernel killed it because memory ran out")


@in_a_folder
def test_a_supervisor_that_is_killed_takes_its_script_along(yard: Yard) -> None:
    run = start_and_wait(yard, SLEEPS)
    os.kill(pid_of(yard, run, "rank.py worker-0"), signal.SIGKILL)
    assert end_of(yard, run) == (
        "Failed",
        f"worker-0 on {host()}: it left no result: its supervisor was killed, or the machine went down",
    )


def test_a_supervisor_that_is_killed_ends_the_tasks_beside_it(yard: Yard) -> None:
    run = start_and_wait(yard, SLEEPS, "tasks/worker-1.started.json", **WORKERS)
    os.kill(pid_of(yard, run, "rank.py worker-1"), signal.SIGKILL)
    assert end_of(yard, run) == (
        "Failed",
        f"worker-1 on {host()}: it left no result: its supervisor was killed, or the machine went down",
    )


@in_a_folder
def test_a_supervisor_that_is_told_to_stop_ends_the_run(yard: Yard) -> None:
    run = start_and_wait(yard, SLEEPS, "tasks/worker-1.started.json", **WORKERS)
    os.kill(pid_of(yard, run, "rank.py worker-1"), signal.SIGTERM)
    assert end_of(yard, run) == ("Failed", f"worker-1 on {host()}: it was stopped by SIGTERM from outside")


@in_a_folder
def test_tasks_go_on_without_their_launch_script(yard: Yard) -> None:
    """Nothing of it is needed once the supervisors run: killing it loses no work."""
    script = "import os, time\nwhile not os.path.exists('outputs/go'): time.sleep(0.01)"
    run = start_and_wait(yard, script, "tasks/worker-1.started.json", **WORKERS)
    os.kill(pid_of(yard, run, "launch/run.sh"), signal.SIGKILL)
    (yard.work_folder(run) / "outputs" / "go").touch()
    assert end_of(yard, run) == ("Completed", None)


@in_a_folder
def test_mpirun_that_is_killed_ends_the_run(yard: Yard) -> None:
    fields = {"distributed_training": "mpi", "process_count_per_node": 2}
    run = start_and_wait(yard, SLEEPS, "tasks/rank-1.started.json", **fields)
    os.kill(pid_of(yard, run, "mpirun --"), signal.SIGKILL)
    assert end_of(yard, run) == (
        "Failed",
        "no task left a result: what launched them was killed, or the machine went down; see logs/launch.log",
    )
    assert "Killed" in "\n".join(run.events()[0][-1].data["log"])


@in_a_folder
def test_a_rank_whose_supervisor_is_killed_under_mpirun_is_named(yard: Yard) -> None:
    """mpirun then stops the other rank, which is not the one to blame."""
    fields = {"distributed_training": "mpi", "process_count_per_node": 2}
    run = start_and_wait(yard, SLEEPS, "tasks/rank-1.started.json", **fields)
    os.kill(yard.record(run, "tasks/rank-1.started.json")["supervisor"], signal.SIGKILL)
    assert end_of(yard, run) == (
        "Failed",
        f"rank-1 on {host()}: it left no result: its supervisor was killed, or the machine went down",
    )


@pytest.mark.long
@in_a_folder
def test_a_script_that_ignores_term_is_killed_after_its_ten_seconds(yard: Yard) -> None:
    run = start_and_wait(yard, DEAF, "logs/worker-0.log")
    asked = time.time()
    run.request_cancel()
    assert end_of(yard, run) == ("Canceled", "canceled by request")
    result = run.task_results()["worker-0"]
    assert result["signal"] == "SIGKILL"
    assert result["ended_at"] - asked >= 10


def test_kill_does_not_wait_for_a_script_that_ignores_term(yard: Yard) -> None:
    run = start_and_wait(yard, DEAF, "logs/worker-0.log")
    run.request_cancel(kill=True)
    assert end_of(yard, run) == ("Canceled", "canceled by request")
    # From when the tasks could know: TERM alone would take ten seconds from there.
    assert run.task_results()["worker-0"]["ended_at"] - run.end()["at"] < 9


LEAVES_OTHERS = """
import os, signal, subprocess, sys
deaf = "import os, signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
wait = "import time; time.sleep(600)"
child = subprocess.Popen([sys.executable, "-c", wait])
bare = subprocess.Popen([sys.executable, "-c", wait], env={})
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.execve(sys.executable, [sys.executable, "-c", wait, "the daemon"], {})
    os._exit(0)
os.wait()
print(child.pid, bare.pid, flush=True)
"""


@in_a_folder
def test_nothing_that_the_script_started_outlives_it(yard: Yard) -> None:
    """Not a child, not one with an empty environment, not a daemon in a session of its own."""
    run = yard.run(LEAVES_OTHERS)
    assert end_of(yard, run) == ("Completed", None)
    assert [exists(int(pid)) for pid in yard.log(run).split()] == [False, False]
    assert [line for _, line, _ in all_processes() if "the daemon" in line and str(yard.folder) in line] == []
    assert run.state().warnings == []


FILLS_THE_DISK = """
import os
with open("outputs/" + os.environ["TYARD_TASK"], "wb", buffering=0) as file:
    while True:
        file.write(bytes(1 << 16))
"""


@pytest.mark.parametrize(
    "fields", [{}, WORKERS, PARAMETER_SERVER], ids=["single", "multi_worker", "parameter_server"]
)
def test_a_script_that_fills_the_disk_is_said_to_have(
    small_disk: Callable[[int], Path], fields: dict[str, object]
) -> None:
    """The disk holds the whole workspace: there is no place for logs and records either."""
    yard = Yard(small_disk(16 << 20))
    run = yard.run(FILLS_THE_DISK, **fields)
    stage, reason = end_of(yard, run)
    assert stage == "Failed"
    assert f"on {host()}: it exited with code 1: no space left on the disk that holds " in str(reason)
    outputs = run.outputs()
    assert outputs is not None
    assert {file.path for file in outputs.files} <= {f"outputs/{task.name}" for task in run.job.tasks()}
    assert outputs.files
    assert list(run.store.children("queue/local/")) == []
    yard.close()


def test_a_script_that_fills_the_disk_and_goes_on_completes(small_disk: Callable[[int], Path]) -> None:
    yard = Yard(small_disk(16 << 20))
    run = yard.run(f"try:\n    exec({FILLS_THE_DISK!r})\nexcept OSError:\n    pass")
    assert end_of(yard, run) == ("Completed", None)
    yard.close()


def test_a_disk_that_is_full_before_the_run_is_prepared_fails_it(small_disk: Callable[[int], Path]) -> None:
    yard = Yard(small_disk(16 << 20))
    run = yard.submit(SLEEPS, experiment="big")
    with (yard.folder / "filler").open("wb", buffering=0) as file:
        while os.statvfs(yard.folder).f_bavail > 8:
            file.write(bytes(4096))
    yard.serve()
    stage, reason = end_of(yard, run)
    assert stage == "Failed"
    assert str(reason).endswith("No space left on device")
    yard.close()


def test_a_workspace_that_cannot_be_written_is_said_before_anything_else(
    small_disk: Callable[[int], Path],
) -> None:
    yard = Yard(small_disk(1 << 20))
    job = Job(experiment="x", entry_script="train.py", source_directory=str(yard.source(SLEEPS)))
    as_root(f"mount -o remount,ro {yard.folder}")
    with pytest.raises(StoreError) as caught:
        submit(yard.workspace, job, print)
    assert caught.value.message.endswith(": writing failed: read-only file system")
    assert str(yard.workspace.root) in caught.value.message
    assert caught.value.hint == "the disk is mounted read-only: use a folder on one that can be written"


FOLLOWS = """
import sys
from pathlib import Path
from tensoryard.errors import StoreError
from tensoryard.job import Job
from tensoryard.run import RunRecord
from tensoryard.submit import submit
from tensoryard.store.file import FileStore
from tensoryard.stream import LogLine, follow

run = RunRecord(FileStore(Path(sys.argv[1])), sys.argv[2])
letters = sum(len(item.text) for item in follow(run) if isinstance(item, LogLine))
print(letters, peak_kib())
"""


@in_a_folder
def test_an_endless_line_is_followed_in_little_memory(yard: Yard) -> None:
    run = yard.submit("import sys\nfor _ in range(1024): sys.stdout.write('x' * (1 << 20))")
    process = yard.start_controller()
    command = [sys.executable, "-c", PEAK_KIB + FOLLOWS, str(yard.workspace.root), run.id]
    letters, peak_kib = map(int, subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())
    process.join()
    assert letters == 1 << 30
    assert peak_kib < 100 << 10
    assert end_of(yard, run) == ("Completed", None)
    assert {len(line) for line in run.log_tail("worker-0")} == {500}
    (yard.work_folder(run) / "logs" / "worker-0.log").unlink()
