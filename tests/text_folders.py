"""Folders of short texts, and a store that tells what is read of it, for tests of what is sent and fetched."""

from collections.abc import Generator
from pathlib import Path

from tensoryard.store import Store


def write(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def read(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in sorted(folder.rglob("*")) if path.is_file()}


class Counting:
    """A store that notes which keys are read, in whichever way."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.read_keys: list[str] = []

    def __getattr__(self, name: str) -> object:
        return getattr(self.store, name)

    def read(self, key: str, *where: int) -> bytes:
        self.read_keys.append(key)
        return self.store.read(key, *where)

    def view(self, key: str, offset: int, length: int) -> memoryview:
        self.read_keys.append(key)
        return self.store.view(key, offset, length)

    def stream(self, key: str, offset: int, etag: str) -> Generator[memoryview, None, None]:
        self.read_keys.append(key)
        yield from self.store.stream(key, offset, etag)
