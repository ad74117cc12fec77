"""
Starts a controller as a process of its own, which outlives this one and its terminal.

Two ways, one for each caller: the command line forks, and `tyard run` does so before it has loaded anything, so
that the controller's modules load on another core meanwhile; Python programs, whose threads a fork would break,
start a new interpreter.
"""

import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tensoryard.workspace import Workspace

LOG = "controller.log"


class ForkedController:
    """A process that loads what a controller needs and waits for `start`; without it, it ends quietly."""

    _early: "ForkedController | None" = None

    def __init__(self) -> None:
        reading, self._writing = os.pipe()
        sys.stdout.flush()
        sys.stderr.flush()
        self._child = os.fork()
        if self._child:
            os.close(reading)
            return
        try:
            os.setsid()
            if os.fork():
                os._exit(0)  # the grandchild belongs to init: nobody here has to wait for it
            _be_controller(reading)
        finally:
            os._exit(0)

    @classmethod
    def fork_early(cls) -> None:
        """Fork now the one that `forked` will hand out."""
        cls._early = cls()

    @classmethod
    def forked(cls) -> "ForkedController":
        early, cls._early = cls._early, None
        return early or cls()

    def start(self, workspace: "Workspace") -> None:
        """Let it serve a workspace: it returns at once when another controller is at work there."""
        os.waitpid(self._child, 0)
        os.write(self._writing, os.fsencode(workspace.root))
        os.close(self._writing)


def _be_controller(told: int) -> None:
    import gc
    import signal
    import traceback

    # A command that follows a run has handlers of its own for these.
    signal.set_wakeup_fd(-1)
    for handled in (signal.SIGINT, signal.SIGTERM):
        signal.signal(handled, signal.SIG_DFL)
    os.dup2(told, 3)
    os.closerange(4, 1024)
    nothing = os.open(os.devnull, os.O_RDWR)
    for number in range(3):
        os.dup2(nothing, number)
    from pathlib import Path

    import tensoryard.environment.spec
    import tensoryard.scheduler.local
    import tensoryard.store.file  # noqa: F401 - these three are loaded ahead of their first use
    from tensoryard.controller import local_controller
    from tensoryard.environment.venv import default_cache
    from tensoryard.render import preload
    from tensoryard.workspace import Workspace

    preload(default_cache() / "templates")
    gc.enable()
    with open(3, "rb") as pipe:
        root = os.fsdecode(pipe.read())
    if not root:
        return
    log = os.open(Path(root) / LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(log, 1)
    os.dup2(log, 2)
    try:
        local_controller(Workspace(Path(root))).serve()
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()


def fork_controller(workspace: "Workspace") -> None:
    """See that a controller is at work on what is queued, from a process without threads."""
    from tensoryard.store import is_folder

    if not is_folder(workspace.store):
        # What reaches a store over a network may have threads of its own, which a fork would break.
        spawn_controller(workspace)
    elif _is_wanted(workspace):
        ForkedController().start(workspace)


def spawn_controller(workspace: "Workspace") -> None:
    """See that a controller is at work on what is queued, from any Python program."""
    import subprocess
    import threading

    if not _is_wanted(workspace):
        return
    with (workspace.root / LOG).open("ab") as log:
        process = subprocess.Popen(
            # -P: a project may hold modules of any name, and `-m` would look in its folder first.
            [sys.executable, "-P", "-m", "tensoryard.controller_process", str(workspace.root)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    # Waited for beside the program, which may go on for days: an ended controller would stay a zombie.
    threading.Thread(target=process.wait, daemon=True).start()


def _is_wanted(workspace: "Workspace") -> bool:
    """Whether runs wait for this machine and no controller is at work; others' runs are their own controllers'."""
    from tensoryard.controller import controller_lock
    from tensoryard.store import keys
    from tensoryard.targets import LOCAL

    with controller_lock(workspace) as held:
        if not held:
            return False
    return next(iter(workspace.store.children(keys.queued(workspace.queue(LOCAL)))), None) is not None


if __name__ == "__main__":
    from pathlib import Path

    from tensoryard.controller import local_controller
    from tensoryard.workspace import Workspace

    local_controller(Workspace(Path(sys.argv[1]))).serve()
