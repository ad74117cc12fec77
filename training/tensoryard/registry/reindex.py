"""The index of versions written anew from their records, where it was lost or somebody changed it."""

import msgspec

from tensoryard.errors import CorruptRecordError, NotFoundError, StoreError
from tensoryard.registry.outcome import told
from tensoryard.registry.records import decode_version, index_tags
from tensoryard.registry.registry import Registry
from tensoryard.registry.sources import nearest
from tensoryard.store import Store, is_folder, keys
from tensoryard.store.parallel import each

_BATCH = 1000


class Reindexed(msgspec.Struct, frozen=True, kw_only=True):
    """Counts of versions, the deleted ones too. unreadable: left as they are."""

    right: int
    mended: int
    unreadable: int


def reindex(registry: Registry, name: str | None = None) -> Reindexed:
    """
    What was found and mended in the index, of one model or of all; a second call finds all of it right.

    Raises NotFoundError for an unknown model.
    """
    store = registry.store
    if name is not None:
        keys.check_name("model", name)
    prefix = keys.MODELS if name is None else keys.model(name)

    def mend(one: tuple[str, int]) -> str | None:
        key = keys.model_version(*one)
        try:
            wanted = index_tags(decode_version(store.read(key), key, *one))
            if store.tags(key) == wanted and (found is None or key in found):
                return "right"
            store.set_tags(key, wanted)
        except NotFoundError:  # removed since the listing
            return None
        except CorruptRecordError as error:
            registry.warn(error.message)
            return "unreadable"
        return "mended"

    answers: list[str] = []

    def look(one: tuple[str, int]) -> None:
        if answer := mend(one):
            answers.append(answer)

    versions: list[tuple[str, int]] = []
    is_there = False
    with told("index: nothing was looked at"):
        for entry in store.list(prefix):
            is_there = True
            if parsed := keys.parse_model_version(entry.key):
                versions.append(parsed)
        if name is not None and not is_there:
            raise NotFoundError(f"model `{name}`: there is no such model", nearest(name, registry.list_models()))
        found = _found(store, versions) if is_folder(store) else None
    try:
        for start in range(0, len(versions), _BATCH):
            each(store, look, versions[start : start + _BATCH])
    except StoreError as error:
        raise StoreError(
            f"index: not finished, of {len(versions)} versions {answers.count('right')} were right and "
            f"{answers.count('mended')} were mended, as far as is known: {error.message}",
            "; ".join(one for one in (error.hint, "the same again goes on") if one),
        ) from error
    return Reindexed(**{kind: answers.count(kind) for kind in ("right", "mended", "unreadable")})


def _found(store: Store, versions: list[tuple[str, int]]) -> set[str]:
    """Keys that a search finds. Blob storage finds by the tags themselves; a folder by its log of them."""
    names = {name for name, _ in versions}
    return {key for name in names for key in store.find_by_tags({"model": name}, keys.model(name, "versions/"))}
