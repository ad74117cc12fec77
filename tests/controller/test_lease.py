"""One controller serves a target, of all that reach the store."""

import threading
import time
from collections.abc import Iterator
from contextlib import suppress

import msgspec
import pytest

from launching import wait_until
from tensoryard.errors import AlreadyExistsError, StoreError
from tensoryard.lease import Lease, Term
from tensoryard.store import Store, keys

TERM_S = 1.5
# For who shall not take over: longer than a busy machine keeps a holder from saying its next word.
LONG_S = 6.0


class Holders:
    """Makes leases on one target and keeps what they say."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.made: list[Lease] = []
        self.threads: list[threading.Thread] = []
        self.lost: list[str] = []
        self.said: list[str] = []

    def lease(self, term_s: float = TERM_S) -> Lease:
        self.made.append(Lease(self.store, "gpucluster", term_s, self.lost.append))
        return self.made[-1]

    def acquire_beside(self, term_s: float = TERM_S) -> tuple[Lease, threading.Thread]:
        lease = self.lease(term_s)
        thread = threading.Thread(target=lease.acquire, args=(self.said.append,), daemon=True)
        thread.start()
        self.threads.append(thread)
        return lease, thread


@pytest.fixture
def holders(store: Store) -> Iterator[Holders]:
    holders = Holders(store)
    yield holders
    for lease in holders.made:
        lease.release()
    for thread in holders.threads:
        thread.join()


def test_the_second_waits_until_the_first_gives_it_back(holders: Holders) -> None:
    first = holders.lease()
    first.acquire(holders.said.append)
    _, waiting = holders.acquire_beside(LONG_S)
    waiting.join(LONG_S + 1)
    assert waiting.is_alive()
    assert holders.said == [f"`gpucluster` is served by {first.holder}: waiting"]
    first.release()
    waiting.join(300)
    assert not waiting.is_alive()
    assert holders.lost == []


def test_another_takes_over_from_one_whose_word_hangs_and_that_one_ends_while_it_hangs(holders: Holders) -> None:
    """A store may take longer to answer, or to be given up, than a term is."""
    first = holders.lease()
    store, first._store = first._store, _Silent(first._store)  # type: ignore[assignment]
    first.acquire(holders.said.append)
    first._store.hold.clear()  # type: ignore[attr-defined]
    _, waiting = holders.acquire_beside()
    wait_until(lambda: holders.lost, "the first hears of it")
    waiting.join(300)
    assert not waiting.is_alive()
    first._store.hold.set()  # type: ignore[attr-defined]
    assert holders.lost == [
        f"`gpucluster` may be served by another controller now: the store has not answered for {TERM_S} s"
    ]
    assert len(list(store.children(keys.lease("gpucluster")))) <= 6


def test_a_holder_that_finds_its_next_term_taken_hears_of_it(holders: Holders) -> None:
    """As a machine that was paused."""
    holders.lease(LONG_S).acquire(holders.said.append)
    number = max(keys.parse_numbered(name) or 0 for name in holders.store.children(keys.lease("gpucluster")))
    term = msgspec.json.encode(Term("another"))
    for taken in range(number + 1, number + 4):  # it may have come further meanwhile
        with suppress(AlreadyExistsError):
            holders.store.put(keys.numbered(keys.lease("gpucluster"), taken), term)
    wait_until(lambda: holders.lost, "it hears of it")
    assert holders.lost == ["`gpucluster` is served by another controller now"]


def test_an_answer_that_got_lost_makes_no_term_longer(holders: Holders) -> None:
    """Another counts from when the term was there, and not from when its holder learnt of it."""
    lease = holders.lease(LONG_S)
    assert lease._put(1)
    first, lease._store = lease._store, _LosesAnAnswer(lease._store)  # type: ignore[assignment]
    with pytest.raises(StoreError):
        lease._put(2)
    learnt_at = time.monotonic()
    lease._store = first
    assert lease._put(2)
    assert lease._asked_at < learnt_at


def test_of_many_that_begin_at_once_one_has_it(holders: Holders) -> None:
    started = [holders.acquire_beside(10 * LONG_S) for _ in range(5)]
    wait_until(lambda: any(not thread.is_alive() for _, thread in started), "one has it")
    wait_until(lambda: len(holders.said) == 4, "the others wait")
    assert sum(not thread.is_alive() for _, thread in started) == 1


class _LosesAnAnswer:
    """A store that puts, and says that it could not."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def put(self, *args: object) -> object:
        self._store.put(*args)  # type: ignore[arg-type]
        raise StoreError("no answer")


class _Silent:
    """A store whose puts wait while `hold` is not set."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.hold = threading.Event()
        self.hold.set()

    def put(self, *args: object) -> object:
        self.hold.wait()
        return self._store.put(*args)  # type: ignore[arg-type]

    def __getattr__(self, name: str) -> object:
        return getattr(self._store, name)
