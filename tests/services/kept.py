"""What the tests fetch or make once on a machine, and keep for every later run."""

import fcntl
import os
import shutil
from collections.abc import Callable
from pathlib import Path


def cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tensoryard-tests"


def kept(name: str, make: Callable[[Path], Path]) -> Path:
    """
    Where a file or folder of that name is kept; made now if it was not, by one process while others wait.

    make: gets a new folder, which goes afterwards, and answers with what of it is kept.
    """
    cache = cache_folder()
    place = cache / name
    if place.exists():
        return place
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not place.exists():
            aside = cache / f"{name}.making"
            shutil.rmtree(aside, ignore_errors=True)
            aside.mkdir()
            try:
                make(aside).rename(place)
            finally:
                shutil.rmtree(aside, ignore_errors=True)
    return place
