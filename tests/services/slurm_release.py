"""
Another release of Slurm in the place of this machine's, for one command and what it starts: that of another Debian.

    python -m services.slurm_release trixie pytest slurm        from tests/, as root

In a mount namespace of the command's own, the packages' /usr lies over this machine's: newer libraries run what is
here as well, and everything finds the other Slurm where it looks for one.
"""

import fcntl
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

_PACKAGES = ("slurmctld", "slurmd", "slurm-client", "munge")
_OVER = """
mount -t tmpfs tmpfs "$2"
mkdir "$2/upper" "$2/work"
mount -t overlay overlay -o "lowerdir=$1/usr:/usr,upperdir=$2/upper,workdir=$2/work" /usr
shift 2
exec "$@"
"""


def with_release(suite: str, argv: list[str]) -> list[str]:
    """The command line of a command with the Slurm of a Debian suite, such as `trixie`. It has to be run as root."""
    root = _root(suite)
    scratch = root.parent / f"{root.name}.over"
    scratch.mkdir(exist_ok=True)
    return ["unshare", "--mount", "sh", "-ec", _OVER, "slurm-release", str(root), str(scratch), *argv]


def _root(suite: str) -> Path:
    """Where the packages lie and all that they need; brought if this machine has them not."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tensoryard-tests"
    kept = cache / f"slurm-{suite}"
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / f"slurm-{suite}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not kept.exists():
            _bring(suite, cache, kept)
    return kept


def _bring(suite: str, cache: Path, kept: Path) -> None:
    assert shutil.which("mmdebstrap"), "the tests need mmdebstrap: run tools/system-packages"
    aside = cache / f"slurm-{suite}-{os.getpid()}-{time.monotonic_ns()}"
    options = ["--variant=extract", "--format=directory", f"--include={','.join(_PACKAGES)}"]
    # Suites that nobody releases are signed anew more often than some mirrors follow.
    options += ['--aptopt=Acquire::Check-Valid-Until "false"']
    try:
        made = subprocess.run(
            ["mmdebstrap", *options, suite, str(aside)], capture_output=True, text=True, check=False
        )
        assert made.returncode == 0, f"mmdebstrap: {made.stderr[-2000:]}"
        # None of this machine's own plugins beside those of the other release.
        for plugins in aside.glob("usr/lib/*/slurm-wlm"):
            os.setxattr(plugins, "trusted.overlay.opaque", b"y")
        aside.rename(kept)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


if __name__ == "__main__":
    command = with_release(sys.argv[1], sys.argv[2:])
    os.execvp(command[0], command)
