"""Many files at once: failures are collected; what waits is dropped when the user says so, or too much fails."""

from collections.abc import Callable, Iterator, Sequence
from threading import Condition, Event, Lock
from typing import NamedTuple, Protocol, TypeVar

from tensoryard.errors import StoreError, TensoryardError

# On a folder; more on a network, where a worker waits most of the time.
AT_ONCE = 8
AT_ONCE_AWAY = 16
# A large file is sent in pieces side by side already, 64 MiB of them.
LARGE_BYTES = 8 << 20
_LARGE_AT_ONCE = 2
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


def each_file(items: Sequence[Item], work: Callable[[Item, Event], None], at_once: int, verb: str) -> None:
    """
    Do work for every file, whatever becomes of the others.

    work: given the file and an event, upon which it stops by raising Stopped; verb: such as "uploaded".
    Raises one StoreError for all that failed (the error itself when there was one file only), and what Ctrl-C
    raises, once nothing is under way.
    """
    from concurrent.futures import ThreadPoolExecutor

    large = iter([item for item in items if item.size_bytes > LARGE_BYTES])
    small = iter([item for item in items if item.size_bytes <= LARGE_BYTES])
    lock, stop, idle = Lock(), Event(), Condition()
    active = 0
    failed: list[Failed] = []
    done = 0

    def worker(*queues: Iterator[Item]) -> None:
        nonlocal active
        with idle:
            active += 1
        try:
            work_off(*queues)
        finally:
            with idle:
                active -= 1
                idle.notify_all()

    def end() -> None:
        # Not the pool's own wait: a thread that was being started when Ctrl-C came is not among its threads.
        with idle:
            stop.set()
            idle.wait_for(lambda: not active)
        pool.shutdown(wait=True, cancel_futures=True)

    def work_off(*queues: Iterator[Item]) -> None:
        nonlocal done
        for queue in queues:
            while not stop.is_set():
                with lock:
                    item = next(queue, None)
                if item is None:
                    break
                try:
                    work(item, stop)
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
                else:
                    with lock:
                        done += 1

    pool = ThreadPoolExecutor(at_once, "tyard-file")
    try:
        workers = [pool.submit(worker, large, small) for _ in range(min(_LARGE_AT_ONCE, len(items)))]
        workers += [pool.submit(worker, small) for _ in range(min(at_once, len(items)) - len(workers))]
        for one in workers:
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
    if total == 1:
        return failed[0].error
    rest = total - done - len(failed)
    shown = "; ".join(f"`{one.name}`: {_reason(one)}" for one in failed[:_SHOWN])
    more = f"; and {len(failed) - _SHOWN} more" if len(failed) > _SHOWN else ""
    dropped = f", {rest} were not tried after that" if rest else ""
    hint = next((one.error.hint for one in failed if one.error.hint), None)
    again = "the same command again does only what is missing"
    return StoreError(
        f"data: {done} of {total} files were {verb}, {len(failed)} failed{dropped}: {shown}{more}",
        f"{hint}; {again}" if hint else again,
    )


def _reason(failed: Failed) -> str:
    """The error without the file's name where it begins with it."""
    place, _, rest = failed.error.message.partition(": ")
    return rest if rest and place.strip("`").endswith(failed.name) else failed.error.message
