"""Programs of Debian's packages that are not to be installed, because their services would start: unpacked, once."""

import fcntl
import os
import shutil
import subprocess
import time
from pathlib import Path


def unpacked(*packages: str) -> Path:
    """
    A folder with the files of packages, unpacked now or earlier; not of those that they depend on.

    Raises AssertionError with what to install where there is no apt-get.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tensoryard-tests"
    name = "+".join(packages)
    folder = cache / name
    if folder.exists():
        return folder
    assert shutil.which("apt-get"), f"the tests need {name} of Debian, and there is no apt-get"
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            _unpack(cache, folder, packages)
    return folder


def _unpack(cache: Path, folder: Path, packages: tuple[str, ...]) -> None:
    aside = cache / f"{folder.name}-{os.getpid()}-{time.monotonic_ns()}"
    aside.mkdir()
    try:
        fetch = ["apt-get", "download", "-qq", *packages]
        if subprocess.run(fetch, cwd=aside, capture_output=True, check=False).returncode:
            # A new machine has no lists of packages yet.
            subprocess.run(["apt-get", "update", "-qq"], capture_output=True, check=False)
            done = subprocess.run(fetch, cwd=aside, capture_output=True, text=True, check=False)
            assert done.returncode == 0, f"the tests need {folder.name}: apt-get install it\n{done.stderr}"
        for package in aside.glob("*.deb"):
            subprocess.run(["dpkg", "-x", str(package), str(aside / "unpacked")], check=True)
        (aside / "unpacked").rename(folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
