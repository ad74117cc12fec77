"""Runs the real `tyard` for tests: its own process, its own workspace, an environment that is there at once."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgspec

import loaded_tyard
from launching import all_processes
from tensoryard.environment import Environment, EnvironmentSpec
from tensoryard.environment.lock import recipe_key
from tensoryard.environment.spec import recipe
from tensoryard.job import Job
from tensoryard.run import RunRecord
from tensoryard.settings import AzureWorkspace, Settings
from tensoryard.store import Store
from tensoryard.store.file import FileStore

HASH = "0123456789abcdef"


class Tyard:
    """`tyard` in a folder with a job; the job's environment is the bare interpreter of these tests."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.workspace = folder / "workspace"
        self.store: Store = FileStore(self.workspace)
        self.environ = {
            **{name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")},
            "TYARD_WORKSPACE": str(self.workspace),
            "TYARD_CACHE": str(folder / "cache"),
            "TERM": "xterm",
        }

    def connect(self, azure: AzureWorkspace, store: Store, environ: dict[str, str]) -> None:
        """Use a workspace on Azure; store: the same one, for the tests' own looks; environ: to be signed in."""
        self.store = store
        self.environ |= environ
        self.workspace.mkdir()
        (self.workspace / "workspace.json").write_bytes(msgspec.json.encode(Settings(name=azure.name, azure=azure)))

    def record(self, run: str) -> RunRecord:
        return RunRecord(self.store, run)

    def job(self, script: str, **fields: Any) -> None:
        """Write job.yaml and its script."""
        (self.folder / "train.py").write_text(script, encoding="utf-8")
        fields = {"experiment": "job", "entry_script": "train.py"} | fields
        _put_environment(self.folder / "cache", msgspec.convert(fields, Job).environment_spec())
        (self.folder / "job.yaml").write_bytes(msgspec.json.encode(fields))
        (self.folder / ".tyardignore").write_text("cache\nworkspace\n")

    def start(self, *arguments: str, **how: Any) -> "subprocess.Popen[bytes]":
        argv = [sys.executable, "-m", "tensoryard", *arguments]
        how = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "stdin": subprocess.DEVNULL} | how
        return subprocess.Popen(argv, cwd=self.folder, env=self.environ, **how)

    def __call__(self, *arguments: str, code: int = 0) -> str:
        """What it printed to stdout; the code is checked."""
        out, _ = self.both(*arguments, code=code)
        return out

    def both(self, *arguments: str, code: int = 0) -> tuple[str, str]:
        if loaded_tyard.can_run(arguments, self.environ):
            found, out, talk = loaded_tyard.run(arguments, self.folder, self.environ)
        else:
            process = self.start(*arguments)
            out, talk = process.communicate()
            found = process.returncode
        assert found == code, (out, talk)
        return out.decode(), talk.decode()

    def run(self, script: str, code: int = 0, **fields: Any) -> str:
        """The id of a run of a script, at its end."""
        self.job(script, **fields)
        out = self("run", code=code)
        return out.split()[1]

    def leftovers(self, run: str = "job-0001") -> list[str]:
        """Command lines of processes that carry the run's folder in their environment or their arguments."""
        mark = os.fsencode(self.workspace / "runs" / run)
        return [command for _, command, environ in all_processes() if mark in environ + command.encode()]

    def close(self) -> None:
        """Kill what belongs to the workspace: runs, and the controller that forked itself away."""
        mark = os.fsencode(self.workspace)
        for pid, command, environ in all_processes():
            if mark in environ + command.encode():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


def _put_environment(cache: Path, spec: EnvironmentSpec) -> None:
    folder = cache / "environments" / HASH
    (folder / "venv" / "bin").mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        (folder / "venv" / "bin" / "python").symlink_to(Path(sys.executable).resolve())
    (folder / "used").touch()
    record = Environment(
        hash=HASH, name="plain", python="", python_version="", tensorflow="", lock_sha256="", created_at=time.time()
    )
    (folder / "environment.json").write_bytes(msgspec.json.encode(record))
    locks = cache / "locks" / recipe_key(recipe(spec))
    locks.mkdir(parents=True, exist_ok=True)
    (locks / "environment").write_text(HASH)
