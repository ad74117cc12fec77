"""
Builds an image on a node and leaves it as a folder in the OCI layout: the head pushes it, as nodes may only pull.

Layers stay on the node's own disk, for the next build there.
"""

import os
import tempfile
from pathlib import Path

from tensoryard.environment import locking
from tensoryard.environment.image_programs import program
from tensoryard.errors import TensoryardError


def main(folder: str, key: str, file: str) -> int:
    """The exit code of a build. folder: has context/, gets oci/; file: the Dockerfile, by its path in context/."""
    own = Path(tempfile.gettempdir()) / f"tensoryard-builds-{os.getuid()}"
    own.mkdir(mode=0o700, exist_ok=True)
    if own.stat().st_uid != os.getuid():
        _say(f"`{own}` belongs to somebody else")
        return 1
    try:
        with locking.held(own / "lock", "another build on this node", _say):
            builder = program(own / "buildah")
            builder.build(key, Path(folder) / "context", _say, file)
            builder.export(key, Path(folder) / "oci", _say)
    except TensoryardError as error:
        # What buildah said is there already.
        _say(error.message.partition("\n")[0] + (f"; {error.hint}" if error.hint else ""))
        return 1
    return 0


def _say(line: str) -> None:
    print(line, flush=True)
