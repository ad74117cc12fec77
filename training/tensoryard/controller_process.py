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
    from pathlib import Path

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

    def start(self, workspace: "Workspace", target: str) -> None:
        """
        Let it serve a target's runs, if that is for this machine to do.

        It returns at once when another controller is at work there.
        """
        from tensoryard.targets import SERVED_HERE

        os.waitpid(self._child, 0)
        if target in SERVED_HERE:
            os.write(self._writing, os.fsencode(workspace.root) + b"\0" + target.encode())
        os.close(self._writing)


def _be_controller(told: int) -> None:
    import gc
    import signal

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

    import tensoryard.controller
    import tensoryard.environment.spec
    import tensoryard.scheduler.local
    import tensoryard.store.file
    import tensoryard.workspace  # noqa: F401 - these five are loaded ahead of their first use
    from tensoryard.environment.venv import default_cache
    from tensoryard.render import preload

    preload(default_cache() / "templates")
    gc.enable()
    with open(3, "rb") as pipe:
        root, _, target = os.fsdecode(pipe.read()).partition("\0")
    if not root:
        return
    log = os.open(Path(root) / LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(log, 1)
    os.dup2(log, 2)
    try:
        _serve(Path(root), target)
    except BaseException:
        import traceback

        traceback.print_exc()
        sys.stderr.flush()


def _serve(root: "Path", target: str) -> None:
    from tensoryard.controller import controller_of
    from tensoryard.workspace import Workspace

    controller = controller_of(Workspace(root), target)
    controller.serve()
    controller.scheduler.settle()  # beside the next controller, if there is one by now


def fork_controller(workspace: "Workspace") -> None:
    """See that controllers are at work on what is queued for this machine, from a process without threads."""
    from tensoryard.store import is_folder

    if not is_folder(workspace.store):
        # What reaches a store over a network may have threads of its own, which a fork would break.
        spawn_controller(workspace)
        return
    for target in _wanted(workspace):
        ForkedController().start(workspace, target)


def spawn_controller(workspace: "Workspace") -> None:
    """See that controllers are at work on what is queued for this machine, from any Python program."""
    import subprocess
    import threading

    for target in _wanted(workspace):
        with (workspace.root / LOG).open("ab") as log:
            process = subprocess.Popen(
                # -P: a project may hold modules of any name, and `-m` would look in its folder first.
                [sys.executable, "-P", "-m", "tensoryard.controller_process", str(workspace.root), target],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        # Waited for beside the program, which may go on for days: an ended controller would stay a zombie.
        threading.Thread(target=process.wait, daemon=True).start()


def _wanted(workspace: "Workspace") -> list[str]:
    """
    The targets for this machine to serve whose runs wait while no controller is at work.

    None in a workspace that cannot be written: who may only read it follows runs, and others serve them.
    """
    from contextlib import ExitStack

    from tensoryard.controller import controller_lock
    from tensoryard.errors import StoreError
    from tensoryard.store import keys
    from tensoryard.targets import SERVED_HERE

    wanted = []
    with ExitStack() as locks:
        for target in SERVED_HERE:
            try:
                held = locks.enter_context(controller_lock(workspace, target))
            except StoreError:
                return []
            if held and next(iter(workspace.store.children(keys.queued(workspace.queue(target)))), None) is not None:
                wanted.append(target)
    return wanted


if __name__ == "__main__":
    from pathlib import Path

    from tensoryard.controller import controller_of
    from tensoryard.workspace import Workspace

    controller_of(Workspace(Path(sys.argv[1])), sys.argv[2]).serve()
