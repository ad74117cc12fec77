"""
Index tags of blobs: any text in the signs that Azure allows, and the question that finds it.

Azure takes 10 tags a blob, names of 1 to 128 and values of up to 256 letters, digits, blanks and `+-.:=_/`.
Other bytes, and `=` itself, are written `=XX`, as in quoted-printable.
Source: https://learn.microsoft.com/azure/storage/blobs/storage-manage-find-blobs#setting-blob-index-tags
"""

import re
from collections.abc import Mapping

from tensoryard.errors import UsageError

_PLAIN = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 +-.:_/")
_MOST, _NAME_LENGTH, _VALUE_LENGTH = 10, 128, 256


def encoded_tags(key: str, tags: Mapping[str, str]) -> dict[str, str]:
    """The tags as Azure takes them. Raises UsageError when they are too many or too long for it."""
    if len(tags) > _MOST:
        raise UsageError(f"`{key}`: got {len(tags)} tags, blob storage takes {_MOST}")
    found = {}
    for name, value in tags.items():
        coded = encoded(name), encoded(value)
        if not 1 <= len(coded[0]) <= _NAME_LENGTH or len(coded[1]) > _VALUE_LENGTH:
            raise UsageError(
                f"`{key}`: got the tag `{name}` of {len(coded[0])} signs with a value of {len(coded[1])}, blob "
                f"storage takes 1 to {_NAME_LENGTH} and up to {_VALUE_LENGTH}, where what is no plain letter counts 3"
            )
        found[coded[0]] = coded[1]
    return found


def decoded_tags(tags: Mapping[str, str]) -> dict[str, str]:
    return {decoded(name): decoded(value) for name, value in tags.items()}


def encoded(text: str) -> str:
    return "".join(chr(byte) if byte in _PLAIN else f"={byte:02X}" for byte in text.encode())


def decoded(text: str) -> str:
    plain = re.sub(rb"=([0-9A-F]{2})", lambda found: bytes([int(found[1], 16)]), text.encode())
    return plain.decode(errors="replace")


def question(tags: Mapping[str, str]) -> str:
    """The search, within one container, for blobs that have every one of these tags, which are encoded."""
    # No quote can be in them: it is not among the signs that Azure allows. Nor can `@container`: only a search of the
    # whole account may name one.
    return " AND ".join(f"\"{name}\"='{value}'" for name, value in tags.items())
