"""What specs became on this machine: images/asked/<key of a spec>.json."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from tensoryard.environment import Environment


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What a spec became. number: of the pin that it was made from, 0 where there is none."""

    number: int
    environment: Environment


class AskedImages:
    """The records in a folder, each by the key of its spec."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def find(self, key: str) -> Asked | None:
        try:
            return msgspec.json.decode((self._folder / f"{key}.json").read_bytes(), type=Asked)
        except (FileNotFoundError, msgspec.DecodeError):
            return None

    def all(self) -> Iterator[tuple[str, Asked]]:
        """Those whose image is on this machine."""
        for path in self._folder.glob("[!.]*.json"):
            if (found := self.find(path.stem)) and (Path(found.environment.unpacked) / "image.json").exists():
                yield path.stem, found

    def write(self, key: str, asked: Asked) -> None:
        path = self._folder / f"{key}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_name(f".{path.name}-{os.getpid()}-{time.monotonic_ns()}")
        aside.write_bytes(msgspec.json.encode(asked))
        aside.replace(path)
