"""Many files at once: failures are collected; what waits is dropped when the user says so, or too much fails."""

from collections.abc import Callable, Sequence
from threading import Condition, Event, Lock
from typing import NamedTuple, Protocol, TypeVar

from tensoryard.errors import StoreError, TensoryardError
from tensoryard.store.buffers import kept

# On a folder; more on a network, where a worker waits most of the time.
AT_ONCE = 8
AT_ONCE_AWAY = 16
# What of a file is in memory, at most: of a larger one pieces go side by side already.
HELD_BYTES = 64 << 20
# Of all files that are under way together.
_ROOM_BYTES = 192 << 20
# The account is away or a role is missing: the rest would fail too, each after all its tries.
_GIVE_UP_AFTER = 5
_SHOWN = 5


class Wanted(Protocol):
    """A file to transfer. name: its path in the datastore; replaces: whether other bytes are where it goes."""

    @property
    def name(self) -> str: ...
    @property
    def size_bytes(self) -> int: ...
    @property
    def replaces(self) -> bool: ...


Item = TypeVar("Item", bound=Wanted)


class Stopped(Exception):  # noqa: N818 (nothing failed)
    """Raised by work that was asked to stop; never leaves `each_file`."""


class Failed(NamedTuple):
    name: str
    error: TensoryardError


def each_file(
    items: Sequence[Item],
    work: Callable[[Item, Event], None],
    at_once: int,
    verb: str,
    *,
    held_bytes: int = HELD_BYTES,
) -> None:
    """
    Do work for every file, whatever becomes of the others.

    work: given the file and an event, upon which it stops by raising Stopped; verb: such as "uploaded";
    held_bytes: what of a file is in memory, at most.
    Raises one StoreError for all that failed (the error itself when there was one file only), and what Ctrl-C
    raises, once nothing is under way.
    """
    from concurrent.futures import ThreadPoolExecutor

    # The largest first, so that none of them is left to go alone at the end.
    queue = iter(sorted(items, key=lambda item: item.size_bytes, reverse=True))
    lock, stop, idle = Lock(), Event(), Condition()
    active = held = 0
    failed: list[Failed] = []
    done = 0

    def worker() -> None:
        nonlocal active
        with idle:
            active += 1
        try:
            work_off()
        finally:
            with idle:
                active -= 1
                idle.notify_all()

    def end() -> None:
        # Not the pool's own wait: a thread that was being started when Ctrl-C came is not among its threads.
        with idle:
            stop.set()
            idle.notify_all()
            idle.wait_for(lambda: not active)
        pool.shutdown(wait=True, cancel_futures=True)

    def enter(size_bytes: int) -> None:
        nonlocal held
        with idle:
            idle.wait_for(lambda: held + size_bytes <= _ROOM_BYTES or stop.is_set())
            held += size_bytes

    def leave(size_bytes: int) -> None:
        nonlocal held
        with idle:
            held -= size_bytes
            idle.notify_all()

    def work_off() -> None:
        nonlocal done
        while not stop.is_set():
            with lock:
                item = next(queue, None)
            if item is None:
                return
            takes = min(item.size_bytes, held_bytes)
            enter(takes)
            try:
                if not stop.is_set():
                    work(item, stop)
                    with lock:
                        done += 1
            except Stopped:
                return
            except TensoryardError as error:
                with lock:
                    failed.append(Failed(item.name, error))
                    if len(failed) >= _GIVE_UP_AFTER:
                        stop.set()
            except BaseException:
                stop.set()
                raise
            finally:
                leave(takes)

    pool = ThreadPoolExecutor(at_once, "tyard-file")
    try:
        with kept():
            for one in [pool.submit(worker) for _ in range(min(at_once, len(items)))]:
                one.result()
    finally:
        _whatever_is_pressed(end)
    if failed:
        raise _all_in_one(failed, done, len(items), verb)


def _whatever_is_pressed(end: Callable[[], None]) -> None:
    """Wait for an end however often Ctrl-C is pressed: everything is stopping already."""
    while True:
        try:
            end()
        except KeyboardInterrupt:
            continue
        return


def _all_in_one(failed: Sequence[Failed], done: int, total: int, verb: str) -> TensoryardError:
    again = "the same command again does only what is missing"
    # What was asked for last was carried out all the same, or was not: nobody said so.
    unknown = sum(isinstance(one.error, StoreError) and bool(one.error.maybe_written) for one in failed)
    hint = next((one.error.hint for one in failed if one.error.hint), None)
    hint = f"{hint}; {again}" if hint else again
    if total == 1:
        if unknown:
            return StoreError(f"data: whether `{failed[0].name}` was {verb} is not known: {_reason(failed[0])}", hint)
        return failed[0].error
    rest = total - done - len(failed)
    shown = "; ".join(f"`{one.name}`: {_reason(one)}" for one in failed[:_SHOWN])
    more = f"; and {len(failed) - _SHOWN} more" if len(failed) > _SHOWN else ""
    all_the_same = f", of which {unknown} may be {verb} all the same" if unknown else ""
    dropped = f", {rest} were not tried after that" if rest else ""
    return StoreError(
        f"data: {done} of {total} files were {verb}, {len(failed)} failed{all_the_same}{dropped}: {shown}{more}", hint
    )


def _reason(failed: Failed) -> str:
    """The error without the file's name where it begins with it."""
    place, _, rest = failed.error.message.partition(": ")
    return rest if rest and place.strip("`").endswith(failed.name) else failed.error.message
