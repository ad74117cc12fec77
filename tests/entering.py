"""What a line of Python says in an image that `in_image.py` has entered: no run around it, and as any user."""

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tensoryard import in_image
from tensoryard.environment import Environment

USER = 61234
# Nobody else may enter the folders that lead to pytest's.
_ENTER = """
mount --bind "$IMAGES" /srv
{first}
cd "$TYARD_RUN_DIR"
exec {become} "$@"
"""


@contextmanager
def run_folder(image: Environment, use_gpu: bool = False) -> Iterator[Path]:
    """The folder of a run in an image, which every user can enter and write to; gone at the end."""
    folder = Path(tempfile.mkdtemp(prefix="tyard-run-", dir="/tmp"))
    folder.chmod(0o777)
    try:
        (folder / "launch").mkdir()
        (folder / "environment").symlink_to(Path("/srv", Path(image.unpacked).name))
        layout = {"use_gpu": use_gpu, "image": {"mounts": [], "variables": ["OF_THE_JOB"]}}
        (folder / "launch" / "layout.json").write_text(json.dumps(layout))
        shutil.copyfile(in_image.__file__, folder / "launch" / "in_image.py")
        yield folder
    finally:
        shutil.rmtree(folder)


def said_in(
    image: Environment, folder: Path, shows: str, plain: bool = False, first: str = "", **environ: str
) -> tuple[str, str]:
    """
    What a line of Python prints in an image, to stdout and stderr.

    plain: for a user who is not root; first: what a shell does to the machine's mounts, unseen by all others.
    """
    become = f"setpriv --reuid={USER} --regid={USER} --clear-groups" if plain else ""
    enter = ["unshare", "--mount", "sh", "-ec", _ENTER.format(first=first, become=become), "sh"]
    # Debian's own: that of the tests may lie in a folder of root's.
    start = ["/usr/bin/python3", "-I", "-S", f"{folder}/launch/in_image.py"]
    done = subprocess.run(
        [*enter, *start, "python", "-c", f"import os; {shows}"],
        env={
            "TYARD_RUN_DIR": str(folder),
            "IMAGES": str(Path(image.unpacked).parent),
            "PATH": os.environ["PATH"],
            "OF_THE_JOB": "mine",
            **environ,
        },
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout, done.stderr
