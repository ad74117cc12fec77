"""
Who serves a compute target: one controller at a time, of all that reach the store.

A term is a numbered value, put if absent: whoever puts the next number has the next term. The holder puts one well
before a term is over; another may do so only when it has seen no new one for as long as a term is, by its own clock,
so that clocks need not agree. A holder that comes late finds its number taken, and ends; one whose word gets no
answer ends by its own clock, a term after it asked for its last one, which is before anybody may take over.
"""

import os
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress

import msgspec

from tensoryard.errors import AlreadyExistsError, StoreError
from tensoryard.store import Store, keys

TERM_S = 30.0
KEPT_TERMS = 5


class Term(msgspec.Struct, frozen=True):
    """Who has a term. over: it was given back."""

    holder: str
    over: bool = False


class Lease:
    """
    The right to serve a target; `lost` is called, once, in a thread of its own, when it is another's or may be.

    term_s: after so many seconds without a word of its holder another takes over.
    """

    def __init__(self, store: Store, target: str, term_s: float, lost: Callable[[str], None]) -> None:
        self._store = store
        self._prefix = self.prefix_of(target)
        self._term_s = term_s
        self._lost = lost
        self._ending = threading.Event()
        self._over = threading.Lock()
        self._number = 0
        # Which number was asked for last, and when for the first time: an answer to that may have got lost.
        self._asking = (0, 0.0)
        self._asked_at = 0.0  # for the term that is in force
        self._trouble = f"the store has not answered for {term_s:g} s"
        self._thread: threading.Thread | None = None
        self.target = target
        self.holder = f"{socket.gethostname()} {os.getpid()} {os.urandom(4).hex()}"

    def acquire(self, say: Callable[[str], None]) -> None:
        """Returns once it is held, or `release` was called. Raises StoreError when the store cannot be read."""
        seen, seen_at, said = -1, 0.0, None
        while not self._ending.is_set():
            number, term = self._newest()
            if number != seen:
                seen, seen_at = number, time.monotonic()
            if term is None or term.over or self.is_gone(term) or time.monotonic() - seen_at > self._term_s:
                if self._put(number + 1):
                    break
                continue
            if said != term.holder:
                said = term.holder
                say(self.waiting(term))
            self.look()
            self._ending.wait(min(1.0, self._term_s / 5))
        else:
            return
        self._thread = threading.Thread(target=self._keep, daemon=True)
        self._thread.start()
        threading.Thread(target=self._watch, daemon=True).start()

    def release(self) -> None:
        """Give it back, so that the next controller need not wait."""
        self._ending.set()
        if self._thread is not None:
            self._thread.join()
            with suppress(StoreError):
                self._put(self._number + 1, over=True)

    def prefix_of(self, target: str) -> str:
        """Where the terms are."""
        return keys.lease(target)

    def waiting(self, term: Term) -> str:
        """What is said of who has a term."""
        return f"`{self.target}` is served by {term.holder}: waiting"

    def is_gone(self, term: Term) -> bool:
        """Whether its holder is known to have ended without giving it back."""
        return False

    def look(self) -> None:
        """Called while it waits; what it raises ends the waiting."""

    def _keep(self) -> None:
        while not self._ending.wait(self._term_s / 3):
            try:
                if not self._put(self._number + 1):
                    self._lose(f"`{self.target}` is served by another controller now")
            except StoreError as error:
                self._trouble = error.message

    def _watch(self) -> None:
        """Beside `_keep`, which may wait for an answer for longer than a term."""
        while not self._ending.wait(max(0.0, self._asked_at + self._term_s - time.monotonic())):
            if time.monotonic() >= self._asked_at + self._term_s:
                self._lose(f"`{self.target}` may be served by another controller now: {self._trouble}")

    def _lose(self, reason: str) -> None:
        if self._over.acquire(blocking=False):  # and never let go: it is said once
            self._ending.set()
            self._lost(reason)

    def _put(self, number: int, *, over: bool = False) -> bool:
        """Whether a term is ours now."""
        if self._asking[0] != number:
            self._asking = (number, time.monotonic())
        try:
            self._store.put(keys.numbered(self._prefix, number), msgspec.json.encode(Term(self.holder, over)))
        except AlreadyExistsError:
            # Our own, if the answer to an earlier try was lost.
            if self._term(number) != Term(self.holder, over):
                return False
        self._number, self._asked_at = self._asking
        with suppress(StoreError):
            self._store.delete(keys.numbered(self._prefix, number - KEPT_TERMS))
        return True

    def _newest(self) -> tuple[int, Term | None]:
        numbers = [keys.parse_numbered(name) or 0 for name in self._store.children(self._prefix)]
        newest = max(numbers, default=0)
        return newest, self._term(newest) if newest else None

    def _term(self, number: int) -> Term | None:
        with suppress(StoreError, msgspec.MsgspecError):
            return msgspec.json.decode(self._store.read(keys.numbered(self._prefix, number)), type=Term)
        return None
