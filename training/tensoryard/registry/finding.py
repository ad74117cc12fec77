"""What a check of the registry tells."""

import msgspec


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """
    One thing that is wrong, and what to do about it.

    kind: which of the rules is broken: name, key, ticket, record, nonce, alias, deletion, signature, file or index.
    version: its number, None where it is about no single one; key: where in the store.
    """

    kind: str
    model: str
    version: int | None = None
    key: str
    what: str
    fix: str
