"""
Images unpacked on this machine, for its tasks to run in.

    <digest>/    image.json, root/ (the files), bin/python (of the machine), work/ (to mount at), used (its time)

A folder with a digest for its name is always whole.
"""

import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from tensoryard.environment import Log, locking
from tensoryard.environment.image_unpack import ImageSource, unpack
from tensoryard.environment.in_use import in_use
from tensoryard.errors import EnvironmentBuildError

_SHORT = 12  # digits of a digest that a person is shown


class ImageFolders:
    """The unpacked images in a folder; flock: the lock of a name."""

    def __init__(self, folder: Path, flock: Callable[[str], Path]) -> None:
        self._folder = folder
        self._flock = flock

    def find(self, digest: str) -> Path | None:
        """The folder of an image that is unpacked here, marked as used now, or None."""
        folder = self._folder / digest.removeprefix("sha256:")
        if not (folder / "image.json").exists():
            return None
        with contextlib.suppress(OSError):  # a cache that others own can be used all the same
            os.utime(folder / "used")
        return folder

    def unpack(self, source: ImageSource, digest: str, log: Log) -> Path:
        """
        The folder of an image, made if it is not there.

        Raises EnvironmentBuildError when it cannot be, VerificationError for bytes that do not have their digest.
        """
        folder = self._folder / digest.removeprefix("sha256:")
        with locking.held(self._flock(folder.name), f"image {short(digest)} to be unpacked", log):
            if (folder / "image.json").exists():
                return folder
            for dead in self._folder.glob(f".unpacking-{folder.name}-*"):
                shutil.rmtree(dead, ignore_errors=True)  # the lock is ours, so whoever left it is gone
            aside = Path(tempfile.mkdtemp(prefix=f".unpacking-{folder.name}-", dir=self._folder))
            try:
                config = unpack(source, digest, aside / "root", log)
                for name in ("work", "bin"):
                    (aside / name).mkdir()
                # For what runs outside: rank.py, on nodes that see this folder and have the same Python.
                own = Path(getattr(sys, "_base_executable", sys.executable)).resolve()
                (aside / "bin" / "python").symlink_to(own)
                (aside / "used").touch()
                facts = {"digest": digest, "environment": _variables(config), "size_bytes": _tree_size(aside)}
                (aside / "image.json").write_bytes(msgspec.json.encode(facts))
                aside.chmod(0o755)
                aside.rename(folder)
            except OSError as error:
                raise EnvironmentBuildError(
                    f"image {short(digest)}: cannot be unpacked into {self._folder}: {error.strerror}",
                    hint="`tyard env prune --yes` removes what is not in use",
                ) from None
            finally:
                shutil.rmtree(aside, ignore_errors=True)
            return folder

    def is_busy(self, folder: Path) -> bool:
        """Whether a running process is in an image, or somebody unpacks it."""
        return in_use(folder) or locking.is_held(self._flock(folder.name))

    def remove(self, folder: Path) -> None:
        """Remove an image so that nobody ever sees half of it under its name."""
        away = Path(tempfile.mkdtemp(prefix=".removed-", dir=self._folder))
        folder.rename(away / folder.name)
        shutil.rmtree(away, ignore_errors=True)


def size_of(folder: Path) -> int:
    """Bytes of the files of an unpacked image."""
    return int(msgspec.json.decode((folder / "image.json").read_bytes())["size_bytes"])


def short(digest: str) -> str:
    """As much of a digest as a person is shown."""
    return digest.removeprefix("sha256:")[:_SHORT]


def _variables(config: Mapping[str, Any]) -> dict[str, str]:
    pairs = (entry.partition("=") for entry in config.get("config", {}).get("Env") or ())
    return {name: value for name, _, value in pairs}


def _tree_size(folder: Path) -> int:
    total = 0
    for parent, _, files in os.walk(folder):
        total += sum(os.lstat(os.path.join(parent, name)).st_size for name in files)  # noqa: PTH118 - tens of thousands
    return total
