"""How long a program may take, and a lock that is waited for no longer than that."""

import contextlib
import fcntl
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tensoryard.nodes.kept import opened


class Busy(Exception):  # noqa: N818 - no error of its own: told as the reason of a node
    """Another program held the lock until the time was over."""


class Deadline:
    """A moment on a clock. within_s: seconds from now; wait, clock: in place of the machine's own."""

    def __init__(
        self,
        within_s: float,
        wait: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._wait = wait
        self._clock = clock
        self._within_s = within_s
        self.again()

    def again(self) -> None:
        """Begin anew: the moment is as far away as it was at first."""
        self._began = self._clock()
        self._end = self._began + self._within_s

    @property
    def left_s(self) -> float:
        return max(0.0, self._end - self._clock())

    @property
    def over(self) -> bool:
        return self.left_s == 0

    def look_again(self, longest_s: float) -> None:
        """Wait until something may have changed: a second at first, when most does, up to longest_s later on."""
        self.wait(min(longest_s, max(1.0, (self._clock() - self._began) / 5)))

    def wait(self, seconds: float) -> None:
        """Wait, but not past the moment."""
        self._wait(min(seconds, self.left_s))


@contextlib.contextmanager
def held(path: Path, until: Deadline, look_s: float = 0.2) -> Iterator[None]:
    """
    Hold the lock of a file while the block runs; the kernel lets go of it when this process ends, however it ends.

    Raises Busy when another held it until the deadline.
    """
    with opened(path) as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if until.over:
                    raise Busy(f"another program gave out or deleted machines all the time ({path})") from None
                until.wait(look_s)
        yield
