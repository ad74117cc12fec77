"""
Builds an image on a node and leaves it as a folder in the OCI layout: the head pushes it, as nodes may only pull.

Layers stay on the node's own disk, for the next build there. A build that Slurm ends takes down what it has begun;
after one that was killed the next does.
"""

import os
import signal
import sys
import tempfile
from pathlib import Path

from tensoryard.environment import locking
from tensoryard.environment.buildah import DiskFullError
from tensoryard.environment.image_programs import program
from tensoryard.errors import TensoryardError


def main(folder: str, key: str, file: str, anew: str) -> int:
    """
    The exit code of a build.

    folder: has context/, gets oci/; file: the Dockerfile, by its path in context/; anew: "1" where no layer of an
    earlier build will do, else "0".
    """
    signal.signal(signal.SIGTERM, _end)
    try:
        own = _own_folder()
        with locking.held(own / "lock", "another build on this node", _say):
            builder = program(own / "buildah")
            builder.clear()

            def build() -> None:
                builder.build(key, Path(folder) / "context", _say, file, anew=anew == "1")

            try:
                build()
            except DiskFullError as error:
                builder.keep_only([])
                _say(f"{error.message}: removed the layers of earlier builds")
                build()
            builder.export(key, Path(folder) / "oci", _say)
    except TensoryardError as error:
        # What buildah said is there already.
        _say(error.message.partition("\n")[0] + (f"; {error.hint}" if error.hint else ""))
        return 1
    return 0


def _own_folder() -> Path:
    """A folder on this node's disk that is nobody else's. Raises TensoryardError."""
    own = Path(tempfile.gettempdir()) / f"tensoryard-builds-{os.getuid()}"
    own.mkdir(mode=0o700, exist_ok=True)
    if own.is_symlink() or own.stat().st_uid != os.getuid():
        raise TensoryardError(f"`{own}`, which is for builds on this node, belongs to somebody else")
    return own


def _end(number: int, frame: object) -> None:
    signal.signal(number, signal.SIG_IGN)  # Slurm kills when it has waited long enough
    sys.exit(128 + number)


def _say(line: str) -> None:
    print(line, flush=True)
