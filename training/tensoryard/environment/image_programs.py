"""The programs that build images: the first that is on PATH does."""

import shutil
from pathlib import Path

from tensoryard.environment import buildah
from tensoryard.environment.buildah import Buildah
from tensoryard.environment.docker import Docker
from tensoryard.errors import EnvironmentBuildError

# The last needs a daemon, and packs every layer anew.
PROGRAMS = (*buildah.PROGRAMS, "docker")


def program(storage: Path) -> Buildah | Docker:
    """What builds images here; storage: a folder for it alone. Raises EnvironmentBuildError when nothing is there."""
    found = next((name for name in PROGRAMS if shutil.which(name)), None)
    if found is None:
        raise EnvironmentBuildError(
            "runtime: images are built by `buildah`, `podman` or `docker`, and none of them is on PATH",
            hint="sudo apt-get install buildah, or set `runtime: venv`",
        )
    return Docker(storage) if found == "docker" else Buildah(storage, found)
