"""A real server as a child of the tests: known to listen before it is used, and never outliving them."""

import ctypes
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

_STARTS_WITHIN_S = 300


class Server:
    """
    A running process; `close` ends it, and so does the end of this process.

    listens: what it prints once it listens, with one group; found: what that group matched.
    """

    def __init__(self, argv: Sequence[str], listens: str, cwd: Path | None = None) -> None:
        self._process = subprocess.Popen(
            argv,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,  # Ctrl-C is for the tests: their ends still need it
            preexec_fn=_die_with_parent if sys.platform == "linux" else None,
        )
        self.pid = self._process.pid
        self.found = self._wait_for(listens)
        # What it goes on to say goes nowhere, but a full pipe would stop it.
        threading.Thread(target=self._drain, daemon=True).start()

    def close(self) -> None:
        self._process.kill()
        self._process.wait()

    def _wait_for(self, listens: str) -> str:
        said: list[str] = []
        assert self._process.stdout is not None
        watch = threading.Timer(_STARTS_WITHIN_S, self._process.kill)
        watch.start()
        try:
            for line in self._process.stdout:
                said.append(line)
                if found := re.search(listens, line):
                    return found[1]
        finally:
            watch.cancel()
        self.close()
        raise AssertionError(f"{self._process.args} ended before it listened; it said:\n{''.join(said)}")

    def _drain(self) -> None:
        assert self._process.stdout is not None
        for _ in self._process.stdout:
            pass


def _die_with_parent() -> None:
    """Runs in the new process: Linux ends it when the tests' process is gone, however that ended."""
    pr_set_pdeathsig = 1
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)
