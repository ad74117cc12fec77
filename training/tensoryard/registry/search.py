"""
Versions found by conditions: the index narrows where it can, the records decide.

The index of blob storage lags, by ten minutes at worst. So what was written within the last hour is looked at
whatever the index says, and a version is found as soon as it is registered.
"""

import time
from collections.abc import Iterator, Sequence

from tensoryard.errors import CorruptRecordError, NotFoundError, UsageError
from tensoryard.registry.records import ModelVersion
from tensoryard.registry.registry import Registry
from tensoryard.registry.sources import nearest
from tensoryard.registry.tickets import highest_number
from tensoryard.registry.where import Clause, holds, indexed, names_of, value_of
from tensoryard.store import Store, keys
from tensoryard.store.parallel import in_batches

# More than the index ever lags, and as much again for a clock of this machine that is wrong.
_FRESH_S = 3600
_STEP = 1000


def search(registry: Registry, clauses: Sequence[Clause], name: str | None = None) -> Iterator[ModelVersion]:
    """
    The versions that fulfil every condition and are not deleted, newest first within each model.

    clauses: as `parse_where` gives them. name: only of this model. Read as the iteration goes.
    Raises UsageError when no version that was looked at has a name that a condition uses, NotFoundError for an
    unknown model.
    """
    named = [clause.value for clause in clauses if clause.name == "model" and clause.op == "="]
    if named and name is None:
        name = named[0]
    if name is not None and not highest_number(registry.store, keys.check_name("model", name)):
        raise NotFoundError(f"model `{name}`: there is no such model", nearest(name, registry.list_models()))
    narrow = indexed(clauses)
    looked_at = _candidates(registry, narrow, name) if narrow else _all(registry, name)
    unknown = {clause.name for clause in clauses}
    known: set[str] = set()
    seen = False
    for version in looked_at:
        seen = True
        unknown = {one for one in unknown if value_of(one, version) is None}
        if unknown:
            known |= names_of([version])
        if all(holds(clause, version) for clause in clauses):
            yield version
    if seen and (strange := sorted(unknown - known)):
        has = ", ".join(f"`{one}`" for one in sorted(known))
        raise UsageError(f"where: no version has `{strange[0]}`; what they have is {has}", nearest(strange[0], known))


def _all(registry: Registry, name: str | None) -> Iterator[ModelVersion]:
    for each in [name] if name is not None else registry.list_models():
        try:
            yield from registry.list_versions(each)
        except NotFoundError:
            if name is not None:
                raise


def _candidates(registry: Registry, narrow: dict[str, str], name: str | None) -> Iterator[ModelVersion]:
    store = registry.store
    prefix = keys.MODELS if name is None else keys.model(name)
    found = {*store.find_by_tags(narrow, prefix), *_fresh(store, name)}
    wanted = sorted(
        (parsed for key in found if (parsed := keys.parse_model_version(key))),
        key=lambda one: (one[0], -one[1]),
    )

    def read(one: tuple[str, int]) -> ModelVersion | None:
        try:
            return registry.get(*one)
        except NotFoundError:  # deleted, or the index is older than a clean-up
            return None
        except CorruptRecordError as error:
            registry.warn(error.message)
            return None

    for version in in_batches(store, read, wanted):
        if version is not None:
            yield version


def _fresh(store: Store, name: str | None) -> Iterator[str]:
    """Keys of the records that were written lately, whatever the index knows of them."""
    since = time.time() - _FRESH_S
    if name is None:
        yield from (entry.key for entry in store.list(keys.MODELS) if entry.modified_at > since)
        return
    above = highest_number(store, name)
    while above > 0:
        start, above = above, max(0, above - _STEP)
        # Numbers are given out in order, so behind a stretch of old records there are only older ones.
        after = keys.model_version(name, above)
        until = keys.model_version(name, start)
        is_old = False
        for entry in store.list(keys.model(name, "versions/"), start_after=after):
            if entry.key > until:
                break
            if entry.modified_at > since:
                yield entry.key
            else:
                is_old = True
        if is_old:
            return
