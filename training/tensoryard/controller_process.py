"""
Starts a controller as a process of its own, which outlives this one and its terminal.

Two ways, one for each caller: the command line forks, and does it before it has read the job, so that the
controller's modules load on another core meanwhile; Python programs, whose threads a fork would break, start
a new interpreter.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import traceback
from pathlib import Path

from tensoryard.workspace import Workspace

LOG = "controller.log"


class ForkedController:
    """A forked process that has loaded what a controller needs and waits for `start`; without it, it ends quietly."""

    def __init__(self, workspace: Workspace) -> None:
        reading, self._writing = os.pipe()
        sys.stdout.flush()
        sys.stderr.flush()
        child = os.fork()
        if child:
            os.close(reading)
            self._child = child
            return
        os.close(self._writing)
        try:
            os.setsid()
            if os.fork():
                os._exit(0)  # the grandchild belongs to init: nobody here has to wait for it
            _be_controller(workspace, reading)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(0)

    def start(self) -> None:
        """Let it serve: it returns at once when another controller is at work."""
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self._child, 0)
        os.write(self._writing, b"s")
        os.close(self._writing)


def _be_controller(workspace: Workspace, told: int) -> None:
    from tensoryard.controller import local_controller
    from tensoryard.render import preload

    # A command that follows a run has handlers of its own for these.
    signal.set_wakeup_fd(-1)
    for handled in (signal.SIGINT, signal.SIGTERM):
        signal.signal(handled, signal.SIG_DFL)
    for number in range(3, 1024):
        if number != told:
            with contextlib.suppress(OSError):
                os.close(number)
    nothing = os.open(os.devnull, os.O_RDWR)
    for number in range(3):
        os.dup2(nothing, number)
    preload()
    controller = local_controller(workspace)
    if os.read(told, 1):
        _log_to(workspace)
        controller.serve()


def _log_to(workspace: Workspace) -> None:
    log = os.open(workspace.root / LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(log, 1)
    os.dup2(log, 2)


def fork_controller(workspace: Workspace) -> None:
    """See that a controller is at work, from a process without threads."""
    from tensoryard.controller import controller_lock

    with controller_lock(workspace) as held:
        if not held:
            return
    ForkedController(workspace).start()


def spawn_controller(workspace: Workspace) -> None:
    """See that a controller is at work, from any Python program."""
    from tensoryard.controller import controller_lock

    with controller_lock(workspace) as held:
        if not held:
            return
    with (workspace.root / LOG).open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "tensoryard.controller_process", str(workspace.root)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd="/",  # `-m` looks in the current folder first, and a project may hold modules of any name
            start_new_session=True,
        )
    # Waited for beside the program, which may go on for days: an ended controller would stay a zombie.
    threading.Thread(target=process.wait, daemon=True).start()


if __name__ == "__main__":
    from tensoryard.controller import local_controller

    local_controller(Workspace(Path(sys.argv[1]))).serve()
