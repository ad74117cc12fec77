"""
Another release of Slurm in the place of this machine's, for one command and what it starts: that of another Debian.

    python -m services.slurm_release trixie pytest slurm        from tests/, as root

In a mount namespace of the command's own, the packages' /usr lies over this machine's: newer libraries run what is
here as well, and everything finds the other Slurm where it looks for one. Of an older Debian only Slurm's own files
do, and this machine's libraries run them.
"""

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

from services.kept import kept

_PACKAGES = ("slurmctld", "slurmd", "slurm-client", "munge", "~n^libpmix2")
_OVER = """
mount -t tmpfs tmpfs "$2"
mkdir "$2/upper" "$2/work"
mount -t overlay overlay -o "lowerdir=$1/usr:/usr,upperdir=$2/upper,workdir=$2/work" /usr
shift 2
exec "$@"
"""


def with_release(suite: str, argv: list[str]) -> list[str]:
    """The command line of a command with the Slurm of a Debian suite, such as `trixie`. It has to be run as root."""
    root = kept(f"slurm-{suite}", lambda aside: _bring(aside, suite))
    scratch = root.parent / f"{root.name}.over"
    scratch.mkdir(exist_ok=True)
    return ["unshare", "--mount", "sh", "-ec", _OVER, "slurm-release", str(root), str(scratch), *argv]


def _bring(aside: Path, suite: str) -> Path:
    """The packages and all that they need."""
    assert shutil.which("mmdebstrap"), "the tests need mmdebstrap: run tools/system-packages"
    root = aside / "root"
    options = ["--variant=extract", "--format=directory", f"--include={','.join(_PACKAGES)}"]
    # Suites that nobody releases are signed anew more often than some mirrors follow.
    options += ['--aptopt=Acquire::Check-Valid-Until "false"']
    made = subprocess.run(
        ["mmdebstrap", *options, suite, str(root), _mirror()], capture_output=True, text=True, check=False
    )
    assert made.returncode == 0, f"mmdebstrap: {made.stderr[-2000:]}"
    (libraries,) = (root / "usr/lib").glob("*-linux-gnu")
    libc = next(root.rglob(f"{libraries.name}/libc.so.6"))
    if platform.libc_ver(str(libc)) < platform.libc_ver():
        _keep_slurm_alone(root, libraries)
    # None of this machine's own plugins beside those of the other release.
    os.setxattr(libraries / "slurm-wlm", "trusted.overlay.opaque", b"y")
    return root


def _mirror() -> str:
    """Where this machine has its Debian from: a release alone, as an old one has lost what was mended since."""
    argv = ["apt-get", "indextargets", "--format", "$(LABEL) $(REPO_URI)", "Created-By: Packages"]
    if "Debian " not in subprocess.check_output(argv, text=True):
        # A new machine has no lists of packages yet.
        subprocess.run(["apt-get", "update", "-qq"], capture_output=True, check=False)
    for line in subprocess.check_output(argv, text=True).splitlines():
        if line.startswith("Debian "):
            return line.removeprefix("Debian ")
    raise AssertionError("apt has no index of Debian: run apt-get update")


def _keep_slurm_alone(root: Path, libraries: Path) -> None:
    """
    Drop all that this machine has newer.

    Slurm's PMIx plugin goes by the layout of the library that it was built with, and mpirun by that of this
    machine's: the other one stays beside it, under a name that is as long.
    """
    plugins, pmix = libraries / "slurm-wlm", libraries / "pmix0"
    (libraries / "pmix2").rename(pmix)
    library = max((pmix / "lib").glob("libpmix.so.*"), key=lambda path: len(path.name))
    for file in (*plugins.glob("mpi_pmix_v*.so"), library, pmix / "share" / "pmix-mca-params.conf"):
        file.write_bytes(file.read_bytes().replace(b"/pmix2", b"/pmix0"))
    if not (pmix / "lib" / "libpmix.so").exists():
        (pmix / "lib" / "libpmix.so").symlink_to(library.name)
    whole = root.rename(root.parent / f"{root.name}.whole")
    try:
        files = [path for path in whole.glob("usr/*bin/*") if path.is_file() and not path.is_symlink()]
        programs = [path for path in files if b"libslurmfull.so" in path.read_bytes()]
        for path in (*programs, *(whole / path.relative_to(root) for path in (plugins, pmix))):
            (root / path.relative_to(whole)).parent.mkdir(parents=True, exist_ok=True)
            path.rename(root / path.relative_to(whole))
    finally:
        shutil.rmtree(whole)


if __name__ == "__main__":
    command = with_release(sys.argv[1], sys.argv[2:])
    os.execvp(command[0], command)
