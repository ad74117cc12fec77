"""A folder to submit, with what a path in job.yaml may point to by mistake, and what is said of such a file."""

from pathlib import Path

import pytest

from tensoryard.errors import TensoryardError
from tensoryard.job_file import load_job

START = "entry_script: train.py\n"


def source_folder(below: Path) -> Path:
    folder = below / "source"
    (folder / "folder").mkdir(parents=True)
    (folder / "train.py").touch()
    (below / "outside.py").touch()
    (folder / "link.py").symlink_to("../outside.py")
    return folder


def fails(path: Path, *changes: str) -> TensoryardError:
    with pytest.raises(TensoryardError) as caught:
        load_job(path, changes)
    return caught.value
