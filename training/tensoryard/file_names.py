"""Names of files that cannot be kept, or cannot be written everywhere: told apart before anything is sent."""

import re
import unicodedata
from collections.abc import Iterable

from tensoryard.errors import UsageError
from tensoryard.store import keys

# Source: https://learn.microsoft.com/windows/win32/fileio/naming-a-file
_NOT_ON_WINDOWS = re.compile(r'[<>:"|?*]|[. ](/|$)|(^|/)(con|prn|aux|nul|com[0-9]|lpt[0-9])([./]|$)', re.IGNORECASE)
# Blob storage takes off dots at the end of a part, and allows 254 parts.
# Source: https://learn.microsoft.com/rest/api/storageservices/naming-and-referencing-containers--blobs--and-metadata
_MOST_PARTS = 254


def not_kept(path: str) -> str | None:
    """Why no store may hold a path of the datastore, or None when every store can."""
    try:
        key = keys.check_key(keys.data(path), "path")
    except UsageError as error:
        return error.message.rpartition(": ")[2]
    if any(part.endswith(".") for part in key.split("/")):
        return "blob storage takes off a dot at the end of a name"
    if key.count("/") >= _MOST_PARTS:
        return f"more than {_MOST_PARTS} folders in each other"
    return None


def not_on_windows(path: str) -> bool:
    """Whether Windows refuses to write a path, or writes it under another name."""
    return _NOT_ON_WINDOWS.search(path) is not None


def colliding(paths: Iterable[str]) -> list[tuple[str, str]]:
    """
    Pairs of paths that are one on a disk that does not tell capitals (or ways to write an accent) apart.

    Folders may meet there: `A/x` and `a/y` are two files all the same; a file and a folder may not.
    """
    listed = sorted(paths)
    files: dict[str, str] = {}
    pairs = []
    for path in listed:
        other = files.setdefault(_folded(path), path)
        if other != path:
            pairs.append((other, path))
    for path in listed:
        parent = path.rpartition("/")[0]
        while parent:
            other = files.get(_folded(parent), parent)
            if other != parent:
                pairs.append((other, path))
            parent = parent.rpartition("/")[0]
    return pairs


def _folded(path: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", path).casefold())
