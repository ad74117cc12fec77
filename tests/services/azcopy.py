"""AzCopy, Microsoft's program for copying to and from blob storage, to measure beside: as npm has it, for Linux."""

import os
import subprocess
from pathlib import Path

from services.debian import unpacked
from services.npm import installed


def azcopy(source: str, target: str, from_to: str, folder: Path) -> None:
    """
    Copies all of a folder or of a container, each with /* behind it, as AzCopy does by default.

    from_to: LocalBlob or BlobLocal; folder: where it keeps what it has to remember.

    Raises CalledProcessError with what it said where it fails.
    """
    (program,) = installed(Path(__file__).parent / "azcopy_npm").glob("node_modules/@azure-tools/*/dist/bin/azcopy_*")
    program.chmod(0o755)
    # It links a keyring's library, which it asks only where somebody signs in.
    (library,) = unpacked("libsecret-1-0").glob("usr/lib/*/libsecret-1.so.0")
    surroundings = {
        **os.environ,
        "LD_LIBRARY_PATH": str(library.parent),
        "AZCOPY_LOG_LOCATION": str(folder),
        "AZCOPY_JOB_PLAN_LOCATION": str(folder),
        "AZCOPY_DISABLE_SYSLOG": "true",
    }
    argv = [str(program), "copy", source, target, "--from-to", from_to, "--recursive"]
    subprocess.run(
        [*argv, "--log-level", "NONE", "--skip-version-check"], env=surroundings, check=True, capture_output=True
    )
