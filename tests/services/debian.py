"""Programs of Debian's packages that are not to be installed, because their services would start: unpacked, once."""

import shutil
import subprocess
from pathlib import Path

from services.kept import kept


def unpacked(*packages: str) -> Path:
    """
    A folder with the files of packages, unpacked now or earlier; not of those that they depend on.

    Raises AssertionError with what to install where there is no apt-get.
    """
    return kept("+".join(packages), lambda aside: _unpack(aside, packages))


def _unpack(aside: Path, packages: tuple[str, ...]) -> Path:
    names = " ".join(packages)
    assert shutil.which("apt-get"), f"the tests need {names} of Debian, and there is no apt-get"
    fetch = ["apt-get", "download", "-qq", *packages]
    if subprocess.run(fetch, cwd=aside, capture_output=True, check=False).returncode:
        # A new machine has no lists of packages yet.
        subprocess.run(["apt-get", "update", "-qq"], capture_output=True, check=False)
        done = subprocess.run(fetch, cwd=aside, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"the tests need {names}: apt-get install it\n{done.stderr}"
    for package in aside.glob("*.deb"):
        subprocess.run(["dpkg", "-x", str(package), str(aside / "unpacked")], check=True)
    return aside / "unpacked"
