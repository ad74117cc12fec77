"""
Where everything is kept: one protocol, with a folder (``file.FileStore``) behind it.

Keys are relative POSIX paths such as ``runs/mnist-0007/job.json``; ``keys`` makes them all.
Values are written once. What changes over time is appended to, or is one more numbered key, so that
state is always folded from what was added and no two writers can undo each other.
"""

from collections.abc import Callable, Generator, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple, Protocol

# Bytes in memory that may be used for others afterwards.
Sent = Callable[[bytes | memoryview], None]


class Entry(NamedTuple):
    """
    One stored value as a listing shows it.

    etag changes whenever the bytes do and is compared only for equality; modified_at: seconds since the epoch, UTC.
    """

    key: str
    size_bytes: int
    etag: str
    modified_at: float


class Store(Protocol):
    """What a run, a datastore and the registry need from storage. Safe between processes and after a kill."""

    def put(self, key: str, data: bytes, *, overwrite: bool = False, tags: Mapping[str, str] | None = None) -> Entry:
        """
        Write a whole value and return its entry; a reader sees all of it or none.

        overwrite: only the datastore may replace a value, and then whole.
        Raises AlreadyExistsError when the key is there and overwrite is false; of many writers exactly one wins.
        """
        ...

    def put_file(self, key: str, path: Path, *, overwrite: bool = False, sent: Sent | None = None) -> Entry:
        """
        Write the bytes of a local file under a key, with the promises of `put`, never all of it in memory.

        sent: given the bytes in order, once they are on their way; what it raises ends the writing, and nothing of
        it is seen. What an earlier call sent in vain may be used, and not sent again.
        Raises VerificationError, and nothing of it is seen either, when the file is written to meanwhile.
        """
        ...

    def copy(self, source: str, target: str, *, etag: str | None = None) -> Entry:
        """
        Write the bytes of a value under another key too, with the promises of `put`; returns the new entry.

        They pass through this machine only where the store is on it. etag: which the source must have throughout.
        Raises NotFoundError when source is absent, VerificationError when it is or becomes another value,
        AlreadyExistsError when target is there.
        """
        ...

    def append(self, key: str, data: bytes, *, at: int | None = None) -> int:
        """
        Add bytes at the end, creating the key if needed; returns the offset they start at. Never interleaves.

        at: the length that the value has, for its only writer; a try that was applied and whose answer was lost
        may then be made again and adds nothing. Raises AlreadyExistsError when the value has another length.
        """
        ...

    def claim(self, key: str, data: bytes, most_bytes: int) -> int | None:
        """
        Add bytes at the end of a value that is there, by one request where requests are made; returns their offset,
        which nobody else is given, or None, and nothing is added, where it would become longer than most_bytes.

        For places of which one is as good as another: where an answer is lost, data stays behind and is added again.
        Raises NotFoundError when the key is absent.
        """
        ...

    def read(self, key: str, offset: int = 0, length: int | None = None) -> bytes:
        """
        Bytes from offset (0-based), at most length of them; empty at or past the end.

        Raises NotFoundError when the key is absent.
        """
        ...

    def view(self, key: str, offset: int, length: int) -> memoryview:
        """The same bytes for whom they only pass through: a copy costs the processor as much as getting them."""
        ...

    def stream(self, key: str, offset: int, etag: str) -> Generator[memoryview, None, None]:
        """
        All bytes from offset on, in small pieces as they come, by one request where requests are made.

        etag: which the value must have throughout. Raises NotFoundError when the key is absent, VerificationError
        when it has, or comes to have, another value.
        """
        ...

    def stat(self, key: str) -> Entry | None:
        """The entry of a key, or None when it is absent."""
        ...

    def list(self, prefix: str, *, start_after: str = "") -> Iterator[Entry]:
        """Entries whose key starts with prefix, in key order (code points), those after start_after only."""
        ...

    def list_keys(self, prefix: str, *, start_after: str = "", at_once: int = 5000) -> Iterator[str]:
        """
        The keys alone, in the same order, for whom a few may be enough.

        at_once: how many come by one request, where requests are made; the next follow as the iteration goes.
        """
        ...

    def children(self, prefix: str) -> Iterator[str]:
        """Names directly below a prefix that ends in "/", in order; those with more below them end in "/"."""
        ...

    def tags(self, key: str) -> dict[str, str]:
        """The tags of a key; empty when it has none. Raises NotFoundError when the key is absent."""
        ...

    def set_tags(self, key: str, tags: Mapping[str, str]) -> None:
        """Replace the tags of a key. Tags are an index that can be rebuilt, never the truth."""
        ...

    def find_by_tags(self, tags: Mapping[str, str], prefix: str = "") -> Iterator[str]:
        """Keys under prefix whose tags hold every pair given, in order. May lag behind a put."""
        ...

    def touch(self, key: str) -> bool:
        """
        Give a value a new etag and a modified_at of now; returns whether it is there.

        For a value kept by its digest that somebody is about to rely on: whoever saw it before, and would delete it
        by its etag, does not any more.
        """
        ...

    def delete(self, key: str, *, etag: str | None = None) -> bool:
        """
        Remove a key if it is there. For garbage collection and a claimed queue entry, nothing else.

        etag: only while the value has it. Returns whether the key is gone, False where it has another etag.
        """
        ...

    def local_path(self, key: str) -> Path | None:
        """Where a key or prefix lies on this machine's disks, or None for a store that is not a folder."""
        ...


def is_folder(store: Store) -> bool:
    """Whether a store lies on this machine's disks: asked at no cost, and never away."""
    return store.local_path("") is not None
