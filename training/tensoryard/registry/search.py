"""
Versions found by conditions: the index narrows where it can, the records decide.

The index of blob storage lags, by ten minutes at worst. So what was written within the last hour is looked at
whatever the index says, and a version is found as soon as it is registered. A folder's index never lags.

Source: https://learn.microsoft.com/azure/storage/blobs/storage-manage-find-blobs
"""

import time
from collections.abc import Iterator, Sequence

from tensoryard.errors import CorruptRecordError, NotFoundError, UsageError
from tensoryard.registry.deletions import deletion_of
from tensoryard.registry.records import ModelVersion, decode_version
from tensoryard.registry.registry import Registry
from tensoryard.registry.sources import nearest
from tensoryard.registry.tickets import highest_number
from tensoryard.registry.where import Clause, holds, indexed, may_be_missing, names_of, value_of
from tensoryard.store import Entry, Store, is_folder, keys
from tensoryard.store.parallel import in_batches

_FRESH_S = 3600.0
_SHOWN = 20


def search(
    registry: Registry, clauses: Sequence[Clause], name: str | None = None, *, before: int | None = None
) -> Iterator[ModelVersion]:
    """
    The versions that fulfil every condition and are not deleted, newest first within each model.

    clauses: as `parse_where` gives them. name, before: only of this model, and of it only
    versions below this number. Read as the iteration goes.
    Raises UsageError at the end when no version that was looked at has a name that a condition uses, and
    NotFoundError for an unknown model.
    """
    named = [clause.value for clause in clauses if clause.name == "model" and clause.op == "="]
    if named and name is None:
        name = keys.check_name("model", named[0])
    if name is not None and not highest_number(registry.store, keys.check_name("model", name)):
        raise NotFoundError(f"model `{name}`: there is no such model", nearest(name, registry.list_models()))
    narrow = indexed(clauses)
    looked_at = _candidates(registry, narrow, name, before) if narrow else None
    strange = {clause.name for clause in clauses if not may_be_missing(clause.name)}
    known: set[str] = set()
    for version in _all(registry, name, before) if looked_at is None else looked_at:
        if strange:
            strange = {one for one in strange if value_of(one, version) is None}
            known |= names_of(version)
        # Whether one is deleted is asked of those that are left.
        if all(holds(clause, version) for clause in clauses) and (
            looked_at is None or deletion_of(registry.store, version.name, version.version) is None
        ):
            yield version
    if known and strange:
        one = sorted(strange)[0]
        shown = ", ".join(f"`{each}`" for each in sorted(known)[:_SHOWN])
        more = f" and {len(known) - _SHOWN} more" if len(known) > _SHOWN else ""
        raise UsageError(f"where: no version has {one!a}; what they have is {shown}{more}", nearest(one, known))


def _all(registry: Registry, name: str | None, before: int | None) -> Iterator[ModelVersion]:
    for each in [name] if name is not None else registry.list_models():
        try:
            yield from registry.list_versions(each, before=before)
        except NotFoundError:  # a model whose first registration was killed
            if name is not None:
                raise


def _candidates(
    registry: Registry, narrow: dict[str, str], name: str | None, before: int | None
) -> Iterator[ModelVersion]:
    store = registry.store
    prefix = keys.MODELS if name is None else keys.model(name, "versions/")
    if name is not None:
        narrow = narrow | {"model": name}
    found = {*store.find_by_tags(narrow, prefix), *([] if is_folder(store) else _fresh(store, prefix))}
    numbered = (parsed for key in found if (parsed := keys.parse_model_version(key)))
    wanted = sorted((one for one in numbered if before is None or one[1] < before), key=lambda one: (one[0], -one[1]))

    def read(one: tuple[str, int]) -> ModelVersion | CorruptRecordError | None:
        key = keys.model_version(*one)
        try:
            return decode_version(store.read(key), key, *one)
        except NotFoundError:
            return None
        except CorruptRecordError as error:
            return error

    for version in in_batches(store, read, wanted):
        if isinstance(version, CorruptRecordError):
            registry.warn(version.message)
        elif version is not None:
            yield version


def _fresh(store: Store, prefix: str) -> list[str]:
    """Keys of the records that were written lately, whatever the index knows of them."""
    # Of all numbers: one that was taken long ago is written now when a registration that was killed is made again.
    entries: list[Entry] = [entry for entry in store.list(prefix) if keys.parse_model_version(entry.key)]
    # By the store's clock as well: that of this machine may be wrong.
    newest = max((entry.modified_at for entry in entries), default=0.0)
    since = min(time.time(), newest) - _FRESH_S
    return [entry.key for entry in entries if entry.modified_at >= since]
