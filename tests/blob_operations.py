"""What a store on blob storage is asked for, to be tried where the network or the account refuses it."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tensoryard.store.blob import BlobStore
from tensoryard.store.blob_account import Patience

QUICK = Patience(attempts=6, first_wait_s=0.01, longest_wait_s=0.1)
BIG = os.urandom((1 << 20) + 7)
OPERATIONS: dict[str, Callable[[BlobStore, Path], Any]] = {
    "put": lambda store, path: store.put("m/new", b"new", tags={"b": "2"})[:2],
    "put over": lambda store, path: store.put("m/old", b"newer", overwrite=True)[:2],
    "put file": lambda store, path: store.put_file("m/file", path)[:2],
    "put file over": lambda store, path: store.put_file("m/old", path, overwrite=True)[:2],
    "append": lambda store, path: store.append("m/log", b"two\n"),
    "append new": lambda store, path: store.append("m/fresh", b"first\n"),
    "append twice": lambda store, path: [store.append("m/log", data) for data in (b"two\n", b"three\n")],
    "append at": lambda store, path: store.append("m/log", b"two\n", at=4),
    "append at new": lambda store, path: store.append("m/fresh", b"two\n", at=0),
    "append nothing": lambda store, path: store.append("m/fresh", b""),
    "read": lambda store, path: store.read("m/old", 1),
    "read much": lambda store, path: store.read("m/big", 3, 1 << 20),
    "view": lambda store, path: bytes(store.view("m/big", 3, 1 << 20)),
    "stream": lambda store, path: b"".join(store.stream("m/big", 3, getattr(store.stat("m/big"), "etag", ""))),
    "read all": lambda store, path: store.read("m/big"),
    "stat": lambda store, path: store.stat("m/old") is not None,
    "list": lambda store, path: [entry[:2] for entry in store.list("m/")],
    "list part": lambda store, path: [entry[:2] for entry in store.list("m/o")],
    "list keys": lambda store, path: list(store.list_keys("m/", at_once=2)),
    "children": lambda store, path: list(store.children("m/")),
    "tags": lambda store, path: store.tags("m/old"),
    "set tags": lambda store, path: store.set_tags("m/old", {"c": "3"}),
    "find": lambda store, path: list(store.find_by_tags({"a": "1"}, "m/")),
    "delete": lambda store, path: store.delete("m/old"),
    "delete seen": lambda store, path: store.delete("m/old", etag=getattr(store.stat("m/old"), "etag", "")),
    "touch": lambda store, path: store.touch("m/old"),
}
