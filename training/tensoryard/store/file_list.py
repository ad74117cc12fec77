"""Listings of a store in a folder: in the order of keys, a folder at a time, links out of the store left out."""

import os
from collections.abc import Iterator

from tensoryard.store.disk import plain_errors

# Of the store itself: no key begins so.
_OWN = (".tmp", ".tags")


def walk(root: str, folder: str, start: str, after: str) -> Iterator[tuple[str, str]]:
    """
    (key, path) of every file below a folder whose first name begins with start, in key order.

    root: the store's folder; folder: "" for all of it, else ends in "/"; after: only keys that come after it.
    """
    for name, path in names(root, folder):
        key = folder + name
        if not name.startswith(start):
            continue
        if not name.endswith("/"):
            if key > after:
                yield key, path
        elif key > after or after.startswith(key):
            yield from walk(root, key, "", after)


def names(root: str, folder: str) -> Iterator[tuple[str, str]]:
    """(name, path) directly in a folder; a folder's name ends in "/", as in keys, and sorts with it."""
    path = f"{root}/{folder}"
    found = []
    with plain_errors(path, "listing"):
        try:
            with os.scandir(path) as entries:
                for entry in entries:
                    if entry.is_symlink() and (entry.is_dir() or not is_inside(root, entry.path)):
                        continue
                    found.append((f"{entry.name}/" if entry.is_dir() else entry.name, entry.path))
        except (FileNotFoundError, NotADirectoryError):
            return
    for name, child in sorted(found):
        if folder or not name.startswith(_OWN):
            yield name, child


def is_inside(root: str, link: str) -> bool:
    """Whether what a link leads to is in the store."""
    return os.path.realpath(link).startswith(f"{os.path.realpath(root)}/")
