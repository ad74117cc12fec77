"""
One builder of an image at a time, of all machines of a workspace: two runs that want it at once build it once.

Where two build all the same, since the store was away or one was believed dead, `ImageRecords` decides between them.
"""

import contextlib
import os
import socket
from collections.abc import Iterator

from tensoryard.environment import Log, interruption
from tensoryard.lease import Lease, Term
from tensoryard.store import Store, keys

_TERM_S = 15.0  # so long nothing is heard of a builder until another takes over


class _Turn(Lease):
    def prefix_of(self, target: str) -> str:
        return keys.image_builders(target)

    def waiting(self, term: Term) -> str:
        host, pid = term.holder.split()[:2]
        return f"waiting for the build of image {self.target} by process {pid} on {host}"

    def is_gone(self, term: Term) -> bool:
        host, pid = term.holder.split()[:2]
        return host == socket.gethostname() and not os.path.exists(f"/proc/{pid}")  # noqa: PTH110 - once a second

    def look(self) -> None:
        interruption.look()


@contextlib.contextmanager
def of_the_workspace(store: Store, key: str, log: Log) -> Iterator[None]:
    """Hold the right to build the image of a key while the block runs."""
    turn = _Turn(store, key, _TERM_S, lambda why: None)
    turn.acquire(log)
    try:
        yield
    finally:
        turn.release()
