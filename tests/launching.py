"""Runs jobs for tests: real controller, scheduler and launch scripts, in an environment without TensorFlow."""

import contextlib
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest

import tensoryard
from tensoryard.controller import Controller
from tensoryard.environment import Environment, EnvironmentSpec, Log
from tensoryard.job import Job, ParameterServer, ParameterServerTraining
from tensoryard.preparing import ON_NODE
from tensoryard.run import RunRecord
from tensoryard.scheduler import Scheduler
from tensoryard.scheduler.local import LocalScheduler
from tensoryard.scheduler.slurm import SlurmScheduler
from tensoryard.store import Store, keys
from tensoryard.submit import submit
from tensoryard.targets import LOCAL, SLURM, queue_name
from tensoryard.workspace import Workspace

GIVE_UP_SECONDS = 400.0
ODD_NAMES = ["with blank", 'a "quote"', "it's", "$HOME", "naïve-été", "日本", "a;b&c", "-rf", "~", "%41", "*?[x]"]
# For tests of what is done before or beside the store: of the fixture `yard`, the one that costs less.
in_a_folder = pytest.mark.parametrize("yard", ["folder"], indirect=True)
# Source of a function for a program of its own. Not getrusage: its peak begins at that of the process that forked it.
PEAK_KIB = """
def peak_kib():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmHWM"))
"""


class PlainPython:
    """A builder whose every environment is the bare interpreter of these tests: scripts start at once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def find(self, spec: EnvironmentSpec) -> Environment | None:
        python = self.folder / "venv" / "bin" / "python"
        python.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            python.symlink_to(Path(sys.executable).resolve())
        return Environment(
            hash="0" * 16,
            name="plain-python",
            python=str(python),
            python_version="",
            tensorflow="",
            lock_sha256="",
            mpi=shutil.which("mpirun") if spec.horovod else None,
        )

    def ensure(self, spec: EnvironmentSpec, log: Log, rebuild: bool = False) -> Environment:
        raise AssertionError("`find` always finds")

    def lock(self, environment: Environment) -> str:
        return ""


class Yard:
    """A workspace in a folder of its own, ways to run jobs in it, and a look at what they left behind."""

    def __init__(self, folder: Path, store: Store | None = None) -> None:
        """store: in place of the workspace's own folder."""
        self.folder = folder
        self.workspace = Workspace(folder / "workspace")
        if store is not None:
            self.workspace.__dict__["store"] = store
        self.target = LOCAL
        self.controllers: list[BaseProcess] = []

    def source(self, script: str, name: str = "train.py") -> Path:
        folder = self.folder / "source"
        folder.mkdir(exist_ok=True)
        (folder / name).write_text(script, encoding="utf-8")
        return folder

    def submit(self, script: str, **fields: Any) -> RunRecord:
        """A queued run of a script; fields: of the job."""
        fields = {"experiment": "test", "entry_script": "train.py"} | fields
        fields.setdefault("source_directory", str(self.source(script)))
        job = Job(**fields)
        self.target = queue_name(job.compute_target)
        return submit(self.workspace, job, lambda text: None)

    def controller(self, workspace: Workspace | None = None, builder: Any = None) -> Controller:
        workspace = workspace or self.workspace
        scheduler: Scheduler = LocalScheduler(lambda: workspace.settings().concurrent_runs)
        if self.target == SLURM:
            scheduler = SlurmScheduler()
        return Controller(workspace, self.target, scheduler, builder or PlainPython(self.folder / "environment"))

    def serve(self) -> None:
        """Bring every queued run to its end, in this process."""
        self.controller().serve()

    def run(self, script: str, **fields: Any) -> RunRecord:
        """A run of a script, at its end."""
        run = self.submit(script, **fields)
        self.serve()
        return run

    def start_controller(self, **how: Any) -> BaseProcess:
        """A controller in a process of its own, which can be killed."""

        def serve() -> None:
            controller = self.controller(**how)
            controller.serve()
            controller.scheduler.settle()

        process = multiprocessing.get_context("fork").Process(target=serve)
        process.start()
        self.controllers.append(process)
        return process

    def work_folder(self, run: RunRecord) -> Path:
        return self.workspace.work_folder(run.id)

    def text(self, run: RunRecord, name: str) -> str:
        """A file of a run: where it is worked on, or once it has ended, in the store."""
        # The folder goes when all of it is in the store.
        with contextlib.suppress(FileNotFoundError):
            return (self.work_folder(run) / name).read_text()
        return run.store.read(run.key(name)).decode()

    def replace(self, run: RunRecord, name: str, data: bytes) -> None:
        """Put other bytes in place of a record, as a broken disk might."""
        run.store.put(run.key(name), data, overwrite=True)

    def queued(self) -> list[str]:
        return list(self.workspace.store.children(keys.queued(self.workspace.queue(self.target))))

    def log(self, run: RunRecord, task: str = "worker-0") -> str:
        return self.text(run, f"logs/{task}.log")

    def wait_for_file(self, run: RunRecord, name: str) -> str:
        """The text of a file of the run's folder, once there is any."""
        path = self.work_folder(run) / name
        wait_until(lambda: path.is_file() and path.stat().st_size > 0, f"{path} has something in it")
        return path.read_text()

    def record(self, run: RunRecord, name: str) -> dict[str, Any]:
        """A JSON file of the run's folder."""
        return dict(json.loads(self.text(run, name)))

    def wait_for_stage(self, run: RunRecord, *stages: str) -> str:
        wait_until(lambda: run.state().stage in stages, f"{run.id} is {' or '.join(stages)}")
        return run.state().stage

    def processes(self, run: RunRecord) -> list[tuple[int, str]]:
        """(pid, command line) of processes that carry the run's folder in their environment or their arguments."""
        mark = os.fsencode(self.work_folder(run))
        return [(pid, command) for pid, command, environ in all_processes() if mark in environ + command.encode()]

    def running(self, text: str) -> list[int]:
        """Processes whose command line holds a text."""
        return [pid for pid, command, _ in all_processes() if text in command]

    def leftovers(self, run: RunRecord) -> list[str]:
        return [command for _, command in self.processes(run)]

    def left(self) -> list[tuple[int, str]]:
        """(pid, command line) of processes of any run or controller of the workspace."""
        mark = os.fsencode(self.workspace.root)
        return [(pid, command) for pid, command, environ in all_processes() if mark in environ + command.encode()]

    def close(self) -> None:
        for process in self.controllers:
            process.kill()
            process.join()
        for pid, _ in self.left():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def lay_out_by_hand(folder: Path, files: dict[str, str], scripts: dict[str, str]) -> None:
    """A run's folder as the controller makes it; files: what `render` gave, scripts: by name in the source folder."""
    for name in (
        "launch/path/tensoryard",
        "launch/world",
        "environment/bin",
        "source",
        "tasks",
        "logs",
        "outputs",
        "metrics",
    ):
        (folder / name).mkdir(parents=True)
    (folder / "environment" / "bin" / "python").symlink_to(Path(sys.executable).resolve())
    package = Path(tensoryard.__file__).parent
    for name in ON_NODE:
        shutil.copyfile(package / name, folder / "launch" / name)
    shutil.copyfile(package / "context.py", folder / "launch" / "path" / "tensoryard" / "__init__.py")
    shutil.copyfile(package / "one_world.py", folder / "launch" / "world" / "sitecustomize.py")
    for top, texts in (("launch", files), ("source", scripts)):
        for name, text in texts.items():
            (folder / top / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / top / name).write_text(text, encoding="utf-8")


class StoreThat:
    """A store that calls `before` with the name and arguments of every call; all else goes to the real one."""

    def __init__(self, store: Store, before: Callable[[str, tuple[Any, ...]], None]) -> None:
        self._store = store
        self._before = before

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._store, name)
        if name.startswith("_") or not callable(found):
            return found

        def call(*args: Any, **kwargs: Any) -> Any:
            self._before(name, args)
            return found(*args, **kwargs)

        return call


def parameter_server(**counts: Any) -> ParameterServerTraining:
    return ParameterServerTraining(ParameterServer(**counts))


def all_processes() -> Iterator[tuple[int, str, bytes]]:
    """(pid, command line, environment) of every process but this one that is no zombie and may be looked at."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                yield int(entry.name), command, (entry / "environ").read_bytes() + b"\0"


def as_root(command: str) -> None:
    """Run a shell command as root: as we are, or by sudo without a password as CI machines allow."""
    prefix = [] if os.getuid() == 0 else ["sudo", "-n"]
    subprocess.run([*prefix, "sh", "-c", command], check=True)


def same(one: object, other: object) -> bool:
    """Whether two values are equal: pytest takes ten minutes to say how half a million bytes differ."""
    return one == other


def exists(pid: int) -> bool:
    """Whether there is a process of this number that is no zombie."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def wait_until(condition: Callable[[], object], what: str) -> None:
    """Returns once the condition holds; gives up after a time that no working machine needs."""
    deadline = time.monotonic() + GIVE_UP_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {GIVE_UP_SECONDS:.0f} s in vain until {what}")
        time.sleep(0.01)
