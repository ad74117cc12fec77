"""Packages of npm as a folder's package-lock.json has them, installed once, beside the tests' other tools."""

import hashlib
import shutil
import subprocess
from pathlib import Path

from services.kept import kept


def installed(locked: Path) -> Path:
    """
    The folder that the packages of `locked` are installed in, with its other files; installed now if it was not.

    Raises AssertionError with what to install when there is no npm.
    """
    name = locked.name.removesuffix("_npm")
    digest = hashlib.sha256()
    for path in sorted(locked.iterdir()):
        digest.update(path.read_bytes())
    return kept(f"{name}-{digest.hexdigest()[:12]}", lambda aside: _install(aside / name, locked))


def _install(folder: Path, locked: Path) -> Path:
    npm = shutil.which("npm")
    assert npm, f"the tests need npm for {folder.name}: apt-get install npm (brew install node)"
    shutil.copytree(locked, folder)
    # Without the packages' own scripts: nothing of theirs is needed, and none of it runs here.
    argv = [npm, "ci", "--ignore-scripts", "--omit=dev", "--no-audit", "--no-fund"]
    done = subprocess.run(argv, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"npm ci of {folder.name} failed:\n{done.stdout}{done.stderr}"
    return folder
