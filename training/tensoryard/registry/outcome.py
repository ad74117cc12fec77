"""What a store that failed means for who asked: what was done, what was not, and what nobody knows."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from tensoryard.errors import StoreError
from tensoryard.store import keys

AGAIN = "the same again does nothing where it was done"


@contextmanager
def told(
    not_done: str, unknown: str = "", again: str = "", decides: Callable[[str], bool] = lambda key: True
) -> Iterator[None]:
    """
    A block in which a StoreError says what became of the whole.

    not_done: said where nothing was; unknown: where the answer to a write that decides was lost, and again: the hint
    then. decides: whether a key is one that makes it so.
    """
    try:
        yield
    except StoreError as error:
        if type(error) is not StoreError:  # of those that say what is there already, or cannot be read
            raise
        if unknown and error.maybe_written and decides(error.maybe_written):
            hint = "; ".join(one for one in (error.hint, again) if one)
            raise StoreError(f"{unknown}: {error.message}", hint) from error
        raise StoreError(f"{not_done}: {error.message}", error.hint) from error


def told_of_registration(name: str, nonce: str | None) -> AbstractContextManager[None]:
    """The same for a registration. nonce: the caller's, if there was one."""
    # Everything before the record may be written or not: no version comes of it.
    return told(
        f"model `{name}`: nothing was registered",
        f"model `{name}`: whether a version was registered is not known",
        "the same again with this nonce never makes a second one" if nonce else f"`tyard models list {name}` tells",
        lambda key: keys.parse_model_version(key) is not None,
    )
