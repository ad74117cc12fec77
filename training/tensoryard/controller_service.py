"""Controllers that go on for ever, one for each of several targets, in one process."""

import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence

from tensoryard.controller import controller_of
from tensoryard.errors import TensoryardError
from tensoryard.lease import Lease
from tensoryard.workspace import Workspace

RETRY_SECONDS = (1.0, 60.0)


def serve(workspace: Workspace, targets: Sequence[str], lease_s: float, say: Callable[[str], None]) -> None:
    """
    Never returns: a signal ends the process, after the leases are given back.

    What it drives is left as it is. A lease that is lost ends it too, with exit code 1, as another may be at work.
    """
    workspace.root.mkdir(parents=True, exist_ok=True)
    leases: list[Lease] = []

    def lost(reason: str) -> None:
        say(reason)
        sys.stderr.flush()
        os._exit(1)

    for target in targets:
        lease = Lease(workspace.store, workspace.queue(target), lease_s, lost)
        leases.append(lease)
        threading.Thread(target=_serve, args=(workspace, target, lease, say), name=target, daemon=True).start()
    told = _signal_to_end()
    say(f"Ended by {signal.Signals(told).name}: runs go on, and the next controller goes on with them")
    for lease in leases:
        lease.release()
    sys.stderr.flush()
    # Not by unwinding: threads that drive runs would first have to see them end.
    os._exit(0)


def _signal_to_end() -> int:
    """The first signal that asks this process to end, once it has come."""
    told: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda number, frame: told.append(number))
    while not told:
        time.sleep(0.2)
    return told[0]


def _serve(workspace: Workspace, target: str, lease: Lease, say: Callable[[str], None]) -> None:
    pause, longest = RETRY_SECONDS
    held = False
    while True:
        try:
            if not held:
                lease.acquire(say)
                held = True
                say(f"Serving `{target}`")
            controller = controller_of(workspace, target)
            while True:
                controller.serve()
                pause = RETRY_SECONDS[0]
                time.sleep(controller.pace.queue_seconds)
        except (TensoryardError, OSError) as error:
            said = error.message if isinstance(error, TensoryardError) else error
            say(f"`{target}`: {said}; trying again in {pause:g} s")
        except Exception:
            traceback.print_exc()
        time.sleep(pause)
        pause = min(2 * pause, longest)
