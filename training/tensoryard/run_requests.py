"""What clients ask of runs: to be stopped, or killed. A controller looks for all of its runs at once."""

import math
import sys
import time
from threading import Lock

from tensoryard.errors import StoreError
from tensoryard.store import Store, is_folder, keys

NAMES = ("cancel", "kill")


class RunRequests:
    """
    What was asked of the runs of a store, as one controller sees it.

    A folder is asked each time. Any other store is listed, for all runs together, when somebody needs to know, and
    may be away meanwhile.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._folder = is_folder(store)
        self._looking = Lock()
        self._looked_at = -math.inf
        self._found: frozenset[str] = frozenset()

    def made(self, run_id: str, name: str, within_s: float) -> bool:
        """Whether a run was asked for one of `NAMES`; within_s: how old the answer may be, or a failed try at it."""
        key = keys.requested(run_id, name)
        if self._folder:
            return self._store.stat(key) is not None
        if time.monotonic() - self._looked_at >= within_s and self._looking.acquire(blocking=False):
            try:
                self._look()
            finally:
                self._looking.release()
        return key in self._found

    def clear(self, run_id: str) -> None:
        """Remove what was asked of a run that has ended; what is asked at that moment stays, and harms nobody."""
        for name in NAMES:
            key = keys.requested(run_id, name)
            if self._folder or key in self._found:
                self._store.delete(key)

    def _look(self) -> None:
        try:
            self._found = frozenset(self._store.list_keys(keys.REQUESTS))
        except StoreError as error:
            # The tasks need no store: they go on, and whoever asks for their end cannot reach it either.
            print(f"{keys.REQUESTS}: {error.message}", file=sys.stderr, flush=True)
        self._looked_at = time.monotonic()
