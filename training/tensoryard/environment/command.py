"""Commands that build environments: uv with its output streamed, and nothing of it left behind on an interruption."""

import os
import queue
import re
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, NamedTuple

from tensoryard import processes
from tensoryard.environment import Log, interruption

# What a shell around us has active says nothing about the environment that is built.
_NOT_INHERITED = (
    "VIRTUAL_ENV",
    "CONDA_PREFIX",
    "PYTHONPATH",
    "PYTHONHOME",
    "PYTHONSTARTUP",
    "UV_PROJECT_ENVIRONMENT",
)
_ADDRESS = re.compile(r"https?://[^\s`'\"<>]+")
_STOP_SECONDS = 5.0
# Says of a command and of all that it starts which process they work for.
_BUILDER = "TYARD_BUILDER"


class Finished(NamedTuple):
    """How a command ended: exit code, standard output, and the lines of standard error."""

    code: int
    stdout: str
    talk: list[str]


def uv(*arguments: str | Path) -> list[str]:
    """The argv of a uv command."""
    import uv

    return [os.fspath(uv.find_uv_bin()), *(os.fspath(argument) for argument in arguments)]


def run(
    argv: Sequence[str],
    *,
    cwd: Path,
    log: Log | None = None,
    environ: Mapping[str, str] | None = None,
    keep_addresses: Sequence[str] = (),
    merged: bool = False,
) -> Finished:
    """
    Run a command to its end in a process group of its own; on any exception here the whole group is ended.

    log: gets each line of standard error; merged: of standard output too, in the order that they come in;
    environ: added to this process's variables. Addresses of a package index are taken out of every line
    (they may hold a password) save those that occur in keep_addresses.
    """
    inherited = {name: value for name, value in os.environ.items() if name not in _NOT_INHERITED}
    process = subprocess.Popen(
        argv,
        cwd=cwd,
        env={**inherited, "NO_COLOR": "1", _BUILDER: str(os.getpid()), **(environ or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT if merged else subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    assert process.stdout is not None
    spoken = process.stdout if merged else process.stderr
    assert spoken is not None
    captured: list[str] = [""] if merged else []
    reader = threading.Thread(target=lambda pipe: captured.append(pipe.read()), args=(process.stdout,), daemon=True)
    lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    speaker = threading.Thread(target=_pass_on, args=(spoken, lines), daemon=True)
    talk: list[str] = []
    try:
        if not merged:
            reader.start()
        speaker.start()
        while (line := _next(lines)) is not None:
            clean = without_addresses(line.rstrip(), keep_addresses)
            talk.append(clean)
            if log is not None and clean:
                log(clean)
        if not merged:
            reader.join()
        return Finished(process.wait(), "".join(captured), talk)
    except BaseException:
        _end_group(process)
        raise
    finally:
        for thread, pipe in ((reader, process.stdout), (speaker, spoken)):
            if thread.ident is not None:
                thread.join(_STOP_SECONDS)
            pipe.close()


def _pass_on(pipe: IO[str], lines: "queue.SimpleQueue[str | None]") -> None:
    for line in pipe:
        lines.put(line)
    lines.put(None)


def _next(lines: "queue.SimpleQueue[str | None]") -> str | None:
    """The next line, or None when there will be no more."""
    while True:
        try:
            return lines.get(timeout=interruption.LOOK_SECONDS)
        except queue.Empty:
            interruption.look()


def end_orphans() -> None:
    """Kill what builders that were killed themselves have left at work: uv, compilers (Linux only)."""
    owned = [(pid, int(value)) for pid, value in processes.carrying(_BUILDER) if value.isdigit()]
    # In a container of this machine numbers of processes are others than here.
    processes.kill({pid for pid, owner in owned if not processes.is_there(owner) and processes.is_beside(pid)})


def without_addresses(line: str, keep: Sequence[str] = ()) -> str:
    """A line with web addresses replaced, save those that occur in keep."""
    return _ADDRESS.sub(lambda found: found[0] if any(found[0] in text for text in keep) else "<package index>", line)


def _end_group(process: subprocess.Popen[str]) -> None:
    # The compilers of a wheel outlive uv when only uv is ended.
    for sent in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, sent)
            process.wait(_STOP_SECONDS)
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue
