"""Files that Slurm's programs share with a person who runs one of them as root. No cluster is needed for it."""

import os
from pathlib import Path

import pytest

from plain_user import as_plain_user
from tensoryard.nodes import kept
from tensoryard.nodes.patience import Deadline, held

SLURM = 12345


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of the user that Slurm runs as."""
    path = tmp_path / "nodes"
    path.mkdir()
    os.chown(path, SLURM, SLURM)
    return path


def test_what_root_leaves_there_is_slurms_too(folder: Path) -> None:
    """`sudo tyard doctor --cluster --repair` on a head whose programs have not been needed yet."""
    with held(folder / "gpucluster.lock", Deadline(1)):
        kept.write(folder / "gpucluster-refused.json", {"gpucluster-1": "quota"})
    kept.append(folder / "nodes.log", "resume gpucluster-1\n")

    assert {path.name: path.stat().st_uid for path in folder.iterdir()} == dict.fromkeys(
        ("gpucluster.lock", "gpucluster-refused.json", "nodes.log"), SLURM
    )


def test_a_lock_of_somebody_elses_is_a_lock_all_the_same(tmp_path: Path) -> None:
    lock = tmp_path / "gpucluster.lock"
    lock.touch()
    lock.chmod(0o444)

    def taken() -> bool:
        with held(lock, Deadline(1)):
            return True

    assert as_plain_user(taken) is True
