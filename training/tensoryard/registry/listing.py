"""
A page of models: only what it shows is read, side by side where each request is a way over a network.

Over a network models are looked for in one listing of keys, which tells of each which version is the newest, whether
it was ever deleted, and what its aliases are; then a record each is left to read. Where models have so many keys that
a listing shows few of them, their names are listed instead, and each is asked for what it has.
"""

from collections.abc import Callable, Iterator
from itertools import groupby, islice
from typing import NamedTuple

from tensoryard.errors import NotFoundError, TensoryardError
from tensoryard.registry.aliases import aliases_in
from tensoryard.registry.records import ModelVersion, decode_version
from tensoryard.registry.registry import Registry
from tensoryard.store import is_folder, keys
from tensoryard.store.parallel import in_batches

# A usual page, and one more, are two rounds of these.
_AT_ONCE = 26
# Keys by a request: those of a usual page where a model has a ticket and a few versions.
_KEYS = 250
# With fewer models by a request, so often in a row, their keys are not worth listing.
_FEWEST_MODELS = 8
_IN_A_ROW = 4


class Listed(NamedTuple):
    """A version, and the aliases of its model by name."""

    version: ModelVersion
    aliases: dict[str, int]


# Reads what a model has to show.
_Head = Callable[[], Listed]


def newest_of_models(registry: Registry, *, after: str = "") -> Iterator[Listed]:
    """
    The newest version of every model, in the order of the names; one that has none is passed over.

    after: only models whose names come after this one, to go on where a page ended. Read as the iteration goes.
    """

    def read(head: _Head) -> Listed | TensoryardError:
        try:
            return head()
        except TensoryardError as error:
            return error

    for heads in _named(registry, after) if is_folder(registry.store) else _listed(registry, after):
        for found in in_batches(registry.store, read, heads, at_once=_AT_ONCE):
            if isinstance(found, Listed):
                yield found
            elif not isinstance(found, NotFoundError):
                registry.warn(found.message)


def _named(registry: Registry, after: str) -> Iterator[list[_Head]]:
    """All models after one, by their names."""
    # In the order of keys, where `a-1/` comes before `a/`.
    yield [_asked(registry, name) for name in registry.list_models() if not after or f"{name}/" > f"{after}/"]


def _listed(registry: Registry, after: str) -> Iterator[list[_Head]]:
    """Models after one, by their keys."""
    in_vain = 0
    while True:
        start = keys.after_model(after) if after else ""
        found = registry.store.list_keys(keys.MODELS, start_after=start, at_once=_KEYS)
        page = list(islice(found, _KEYS))
        models = [(name, list(own)) for name, own in groupby(page, key=lambda key: key.split("/")[1])]
        is_cut = len(page) == _KEYS
        heads = [_head(registry, name, own) for name, own in models if own[0].startswith(keys.model(name))]
        if is_cut:  # within the last one
            heads[-1:] = [_asked(registry, models[-1][0])]
        yield heads
        if not is_cut:
            return
        after = models[-1][0]
        in_vain = in_vain + 1 if len(models) < _FEWEST_MODELS else 0
        if in_vain == _IN_A_ROW:
            yield from _named(registry, after)
            return


def _asked(registry: Registry, name: str) -> _Head:
    """A model that is asked for what it has."""
    return lambda: Listed(registry.get(name), registry.aliases(name))


def _head(registry: Registry, name: str, own: list[str]) -> _Head:
    """A model all of whose keys are known."""
    numbers = [parsed[1] for key in own if (parsed := keys.parse_model_version(key))]
    newest = max(numbers, default=0)
    if not newest or any(key.startswith(keys.model_events(name, newest)) for key in own):
        return _asked(registry, name)  # the newest was deleted once

    def read() -> Listed:
        key = keys.model_version(name, newest)
        version = decode_version(registry.store.read(key), key, name, newest)
        aliases = [key for key in own if key.startswith(keys.model_aliases(name))]
        return Listed(version, aliases_in(registry.store, name, aliases))

    return read
