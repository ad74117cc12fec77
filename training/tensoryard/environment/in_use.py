"""Who is in an environment right now: it is not removed under them."""

import contextlib
import hashlib
import os
from pathlib import Path

from tensoryard.processes import carrying
from tensoryard.run import RunRecord
from tensoryard.store.file import FileStore


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


def given(folder: Path, run_folder: Path) -> None:
    """Note that a run has an image, from before its tasks start, which may be days, until its end."""
    link = folder / "runs" / hashlib.sha256(os.fsencode(run_folder)).hexdigest()[:16]
    with contextlib.suppress(OSError):  # a cache that others own; then `in_use` alone keeps it
        link.symlink_to(run_folder)


def given_back(run_folder: Path) -> None:
    """Note that a run has ended. Where nobody did, `runs_in` finds out."""
    image = Path(os.path.realpath(run_folder / "environment"))
    with contextlib.suppress(OSError):
        (image / "runs" / hashlib.sha256(os.fsencode(run_folder)).hexdigest()[:16]).unlink()


def runs_in(folder: Path, called: Path | None = None) -> bool:
    """Whether a run that has not ended has an image. called: the folder's own name, where it was moved away."""
    return any(_has(link.readlink(), called or folder) for link in (folder / "runs").glob("*"))


def _has(run_folder: Path, image: Path) -> bool:
    # By the digest that both are named by: a node may have a copy of its own.
    if Path(os.path.realpath(run_folder / "environment")).name != image.name:
        return False
    # Of a run whose events are elsewhere the folder goes at its end.
    return not RunRecord(FileStore(run_folder.parents[1]), run_folder.name).state().ended
