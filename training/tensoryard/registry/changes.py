"""
Aliases and deletions, each looked at again after it was made.

An alias and a deletion of the version that it is given can be made at the same moment, and neither sees the other
before. So each looks after its own write: whichever came last sees both, and undoes its own.
"""

from tensoryard.errors import NotFoundError, UsageError
from tensoryard.registry.aliases import aliases_of, move, move_back
from tensoryard.registry.deletions import bring_back, deletion_of, gone, hide, unhide
from tensoryard.registry.outcome import AGAIN, told
from tensoryard.registry.records import Event
from tensoryard.store import Store


def point(store: Store, name: str, alias: str, version: int | None, by: str | None) -> Event | None:
    """
    The event that made alias name a version, or none where version is None; None where it never named one.

    Raises NotFoundError when the version was deleted meanwhile, and leaves the alias as it was.
    """
    what = f"`{name}@{alias}`"
    with told(f"{what}: was not changed", f"{what}: whether it was changed is not known", AGAIN):
        event, added = move(store, name, alias, version, by)
    if event is None or version is None:
        return event
    with told(f"{what}: was changed, but whether `{name}:{version}` was deleted meanwhile is not known"):
        deletion = deletion_of(store, name, version)
        if deletion is None:
            return event
        if added:
            move_back(store, name, event)
    raise NotFoundError(*gone(name, version, deletion))


def delete(store: Store, name: str, version: int, reason: str, force: bool, by: str | None) -> Event | None:
    """
    The event that hides a version; the one before where it was hidden already.

    Raises UsageError when an alias names the version, or comes to name it meanwhile, and force is false.
    """
    if not force:
        _check_no_alias(store, name, version)
    what = f"`{name}:{version}`"
    with told(f"{what}: was not deleted", f"{what}: whether it was deleted is not known", AGAIN):
        event, added = hide(store, name, version, reason, by)
    if event is not None and added and not force:
        with told(f"{what}: was deleted, but whether an alias came to name it meanwhile is not known"):
            try:
                _check_no_alias(store, name, version)
            except UsageError:  # one did
                unhide(store, name, version, event)
                raise
    return event


def restore(store: Store, name: str, version: int, by: str | None) -> Event | None:
    """The event that brings a version back, None when it was never hidden. Raises NotFoundError when it is purged."""
    what = f"`{name}:{version}`"
    with told(f"{what}: was not restored", f"{what}: whether it was restored is not known", AGAIN):
        return bring_back(store, name, version, by)


def _check_no_alias(store: Store, name: str, version: int) -> None:
    holders = [alias for alias, number in aliases_of(store, name).items() if number == version]
    if holders:
        named = ", ".join(f"`{alias}`" for alias in holders)
        raise UsageError(
            f"`{name}:{version}`: the alias {named} names it, and would then lead to nothing",
            f"`tyard models alias {name}:<version> {holders[0]}` moves the alias; `--force` deletes all the same",
        )
