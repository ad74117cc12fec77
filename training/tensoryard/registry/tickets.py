"""Version numbers, given out by tickets that are kept with each model."""

from collections.abc import Sequence
from contextlib import suppress

import msgspec

from tensoryard.errors import AlreadyExistsError, NotFoundError, StoreError, UsageError
from tensoryard.registry.records import decode
from tensoryard.store import Store, keys, tickets

# Numbers are fresh, so a taken one means that the ticket file was set back, as by an old backup.
NUMBERS_TRIED = 100


class Nonce(msgspec.Struct, frozen=True, kw_only=True):
    """The version number that a caller's retry token was given."""

    version: int


def take_number(store: Store, name: str, files: dict[str, int]) -> int:
    """
    A version number, from 1, that nobody was given before or will be; one that is not used leaves a gap.

    files: by model the file in which its last number was, as far as this process took one. Raises as `check_case`.
    """
    number = tickets.take_number(
        store,
        lambda file: keys.model_tickets(name, file),
        known_file=files.get(name, 0),
        before_first=lambda: _check_new(store, name),
    )
    files[name] = (number - 1) // tickets.TICKETS_PER_FILE
    if number == 1:
        _check_alone(store, name)
    return number


def _free_number(store: Store, name: str, files: dict[str, int]) -> int:
    """A fresh number that no version has: a nonce is bound to it for good."""
    for _ in range(NUMBERS_TRIED):
        number = take_number(store, name, files)
        if store.stat(keys.model_version(name, number)) is None:
            return number
    raise used_up(name)


def used_up(name: str) -> StoreError:
    return StoreError(
        f"model `{name}`: {NUMBERS_TRIED} fresh version numbers were taken already",
        f"`{keys.model_tickets(name, 0)}` is older than the versions: restore it together with them",
    )


def check_case(store: Store, name: str) -> None:
    """Raises UsageError for a new name that is a model's but for case: some file systems have one folder for both."""
    # Looked up in the other case too: such a file system finds the tickets of a name that is new.
    if store.stat(keys.model_tickets(name, 0)) and not store.stat(keys.model_tickets(name.swapcase(), 0)):
        return
    _check_new(store, name)


def _check_new(store: Store, name: str) -> None:
    """The same of a name that has no tickets."""
    same = _alike(store, name)
    if same and name not in same:
        raise _differs_in_case(name, same[0])


def _check_alone(store: Store, name: str) -> None:
    """
    The same once the first ticket is there, as two new names look for each other before either is.

    Whoever came second sees the other. Then the ticket goes, if nobody else took one, and with it the name.
    """
    others = [model for model in _alike(store, name) if model != name]
    if others:
        first = store.stat(keys.model_tickets(name, 0))
        if first is not None and first.size_bytes <= tickets.TICKET_BYTES:
            with suppress(StoreError):  # a container whose records cannot be deleted keeps a name without versions
                store.delete(first.key, etag=first.etag)
        raise _differs_in_case(name, others[0])


def _alike(store: Store, name: str) -> list[str]:
    models = (child.removesuffix("/") for child in store.children(keys.MODELS))
    return [model for model in models if model.lower() == name.lower()]


def _differs_in_case(name: str, other: str) -> UsageError:
    return UsageError(
        f"model: got `{name}`, but there is `{other}`, which differs only in case",
        f"register it as `{other}`, or use another name",
    )


def highest_number(store: Store, name: str) -> int:
    """The highest number that was given out, used or not; 0 for a model that nobody registered."""
    first = store.stat(keys.model_tickets(name, 0))
    if first is None or first.size_bytes < tickets.TICKETS_PER_FILE * tickets.TICKET_BYTES:
        return highest_of([first.size_bytes] if first else [])
    return highest_of([entry.size_bytes for entry in store.list(keys.model(name, "tickets/"))])


def highest_of(sizes: Sequence[int]) -> int:
    """The highest number that was given out of ticket files that have these sizes in bytes."""
    if not sizes:
        return 0
    places = min(-(-sizes[-1] // tickets.TICKET_BYTES), tickets.TICKETS_PER_FILE)
    return (len(sizes) - 1) * tickets.TICKETS_PER_FILE + places


def nonce_key(name: str, nonce: str) -> str:
    """Where the number of a caller's retry token is kept, whatever text the token is."""
    import hashlib

    return keys.model_nonce(name, hashlib.sha256(nonce.encode()).hexdigest())


def number_of_nonce(store: Store, name: str, nonce: str, files: dict[str, int]) -> int:
    """The one number that belongs to a nonce, taken now or by an earlier call that may not have come further."""
    key = nonce_key(name, nonce)
    try:
        return decode(store.read(key), key, Nonce).version
    except NotFoundError:
        number = _free_number(store, name, files)
    try:
        store.put(key, msgspec.json.encode(Nonce(version=number)))
    except AlreadyExistsError:  # the same retry elsewhere was first; both go on to write that one record
        return decode(store.read(key), key, Nonce).version
    return number
