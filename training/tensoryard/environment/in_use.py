"""Who is in an environment right now: it is not removed under them."""

import os
from pathlib import Path

from tensoryard.processes import carrying


def in_use(folder: Path) -> bool:
    """Whether a process that we may look at was started from a folder (Linux; elsewhere nothing is known)."""
    # A task is started by way of the link in its run's folder, so its command line does not name the cache.
    top = f"{os.path.realpath(folder)}/"
    if any(os.path.realpath(f"{run}/environment").startswith(top) for _, run in carrying("TYARD_RUN_DIR")):
        return True
    needle = f"{folder}/".encode()
    for cmdline in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if needle in cmdline.read_bytes():
                return True
        except OSError:
            continue
    return False
