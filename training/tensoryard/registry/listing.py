"""A page of models: only what it shows is read, side by side where each request is a way over a network."""

from collections.abc import Iterator
from typing import NamedTuple

from tensoryard.errors import NotFoundError, TensoryardError
from tensoryard.registry.records import ModelVersion
from tensoryard.registry.registry import Registry
from tensoryard.store.parallel import in_batches

# Each model takes a few requests one after the other: with these a usual page is two rounds of them.
_AT_ONCE = 32


class Listed(NamedTuple):
    """A version, and the aliases of its model by name."""

    version: ModelVersion
    aliases: dict[str, int]


def newest_of_models(registry: Registry, *, after: str = "") -> Iterator[Listed]:
    """
    The newest version of every model, in the order of the names; one that has none is passed over.

    after: only models whose names come after this one, to go on where a page ended. Read as the iteration goes.
    """

    def read(name: str) -> Listed | TensoryardError:
        try:
            return Listed(registry.get(name), registry.aliases(name))
        except TensoryardError as error:
            return error

    names = [name for name in registry.list_models() if name > after]
    for found in in_batches(registry.store, read, names, at_once=_AT_ONCE):
        if isinstance(found, Listed):
            yield found
        elif not isinstance(found, NotFoundError):
            registry.warn(found.message)
