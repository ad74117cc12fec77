"""Packages of npm as a folder's package-lock.json has them, installed once, beside the tests' other tools."""

import fcntl
import hashlib
import os
import shutil
import subprocess
from pathlib import Path


def installed(locked: Path) -> Path:
    """
    The folder that the packages of `locked` are installed in, with its other files; installed now if it was not.

    Raises AssertionError with what to install when there is no npm.
    """
    name = locked.name.removesuffix("_npm")
    digest = hashlib.sha256()
    for path in sorted(locked.iterdir()):
        digest.update(path.read_bytes())
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tensoryard-tests"
    home = cache / f"{name}-{digest.hexdigest()[:12]}"
    npm = shutil.which("npm")
    assert npm or home.exists(), f"the tests need npm for {name}: apt-get install npm (brew install node)"
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not home.exists():
            aside = home.with_name(f"{home.name}.making")
            shutil.rmtree(aside, ignore_errors=True)
            shutil.copytree(locked, aside)
            # Without the packages' own scripts: nothing of theirs is needed, and none of it runs here.
            argv = [str(npm), "ci", "--ignore-scripts", "--omit=dev", "--no-audit", "--no-fund"]
            done = subprocess.run(argv, cwd=aside, capture_output=True, text=True, check=False)
            assert done.returncode == 0, f"npm ci of {name} failed:\n{done.stdout}{done.stderr}"
            aside.rename(home)
    return home
