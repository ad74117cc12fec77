"""Many requests at once where each is a way over a network, one after the other where it is a disk."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

from tensoryard.store import Store, is_folder

AT_ONCE = 8

Item = TypeVar("Item")
Result = TypeVar("Result")


def each(
    store: Store, work: Callable[[Item], Result], items: Iterable[Item], *, at_once: int = AT_ONCE
) -> list[Result]:
    """
    What work returns for every item, in their order.

    Raises what the first that failed raised, once none is under way; those that wait are dropped then.
    """
    todo = list(items)
    if is_folder(store) or len(todo) < 2:
        return [work(item) for item in todo]
    from concurrent.futures import ThreadPoolExecutor

    pool = ThreadPoolExecutor(min(at_once, len(todo)))
    try:
        return list(pool.map(work, todo))
    finally:
        pool.shutdown(cancel_futures=True)


def in_batches(
    store: Store, work: Callable[[Item], Result], items: Sequence[Item], *, at_once: int = AT_ONCE
) -> Iterator[Result]:
    """The same for whom a few may be enough: no more is begun than a batch beyond what is taken."""
    step = 1 if is_folder(store) else 2 * at_once
    for start in range(0, len(items), step):
        yield from each(store, work, items[start : start + step], at_once=at_once)
