"""The keys of models, listed once and sorted by what they are."""

import re
from collections.abc import Iterable, Iterator
from itertools import chain, groupby
from typing import NamedTuple, TypeVar

from tensoryard.errors import UsageError
from tensoryard.registry.records import check_alias
from tensoryard.store import Entry, Store, keys

_TICKETS = re.compile(r"tickets/(\d{4,})")
_VERSION = re.compile(r"versions/(\d{8,})\.json")
_NONCE = re.compile(r"nonces/[0-9a-f]{64}\.json")
_SIGNATURE = re.compile(r"signatures/(\d{8,})/[0-9a-f]{64}\.json")
_DELETION = re.compile(r"events/(\d{8,})/(\d{8,})\.json")
_ALIAS = re.compile(r"aliases/([^/]+)/(\d{8,})\.json")

_T = TypeVar("_T")


class Numbered(NamedTuple):
    """Events below a prefix, by their numbers."""

    prefix: str
    numbers: list[int]


class Kept(NamedTuple):
    """
    All keys of one model.

    tickets: size in bytes by number of the file; others: keys that the registry does not make.
    """

    name: str
    tickets: dict[int, int]
    versions: dict[int, str]
    nonces: list[str]
    signatures: dict[int, list[str]]
    deletions: dict[int, Numbered]
    aliases: dict[str, Numbered]
    others: list[str]


def kept_by_model(store: Store, name: str = "") -> Iterator[Kept]:
    """The keys of every model, one after the other, or of one; a model without any is not among them."""
    if name:
        # What has a model's place may be no folder.
        alone = store.stat(keys.model(name).removesuffix("/"))
        entries = chain([alone] if alone else [], store.list(keys.model(name)))
    else:
        entries = chain(store.list(keys.MODELS))
    # All keys of a model follow each other, as they begin with the same text.
    for model, group in groupby(entries, key=lambda entry: entry.key[len(keys.MODELS) :].partition("/")[0]):
        yield _kept(model, group)


def _kept(name: str, entries: Iterable[Entry]) -> Kept:
    kept = Kept(name, {}, {}, [], {}, {}, {}, [])
    known = _is_name(name)
    for entry in entries:
        if not known or not _sorted_in(kept, entry):
            kept.others.append(entry.key)
    return kept


def _sorted_in(kept: Kept, entry: Entry) -> bool:
    """Whether the registry makes such a key, which is then among the model's."""
    name, key = kept.name, entry.key
    rest = key[len(keys.model(name)) :]
    if found := _VERSION.fullmatch(rest):
        number = int(found[1])
        if keys.model_version(name, number) != key or number < 1:
            return False
        kept.versions[number] = key
    elif found := _TICKETS.fullmatch(rest):
        number = int(found[1])
        if keys.model_tickets(name, number) != key:
            return False
        kept.tickets[number] = entry.size_bytes
    elif _NONCE.fullmatch(rest):
        kept.nonces.append(key)
    elif found := _SIGNATURE.fullmatch(rest):
        kept.signatures.setdefault(int(found[1]), []).append(key)
    elif found := _DELETION.fullmatch(rest):
        version = int(found[1])
        return _add(kept.deletions, version, keys.model_events(name, version), int(found[2]), key)
    elif (found := _ALIAS.fullmatch(rest)) and _is_alias(found[1]):
        return _add(kept.aliases, found[1], keys.model_aliases(name, found[1]), int(found[2]), key)
    else:
        return False
    return True


def _add(events: dict[_T, Numbered], owner: _T, prefix: str, number: int, key: str) -> bool:
    if keys.numbered(prefix, number) != key or number < 1:
        return False
    events.setdefault(owner, Numbered(prefix, [])).numbers.append(number)
    return True


def _is_name(name: str) -> bool:
    try:
        keys.check_name("model", name)
    except UsageError:
        return False
    return True


def _is_alias(alias: str) -> bool:
    try:
        check_alias(alias)
    except UsageError:
        return False
    return True
