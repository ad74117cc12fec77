"""Other releases of Slurm than the distribution's: some of these tests once more, on theirs."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from services.slurm_release import with_release

FOLDER = Path(__file__).parent
# What each command of Slurm's says, and each way of starting tasks: runs, why they wait, the queue's words, refusals.
FILES = ("test_slurm_runs.py", "test_slurm_faults.py", "test_slurm_cli.py", "test_slurm_cluster_cli.py")
CHOSEN = (
    "not blob and (runs_on_one_node or tf_config or by_mpirun or over_pmix or share_a_node or put_back or says_why"
    " or never_give or command_line or in_words)"
)


# Nodes from zero and back: 20.11 had other words for their states.
CLOUD = ("test_slurm_cloud.py", "started_ahead or canceled_while")


@pytest.mark.parametrize(
    ("suite", "release", "more", "passed"), [("bullseye", "20.11", None, 10), ("trixie", "24.11", CLOUD, 12)]
)
def test_runs_go_as_well_on_another_release(
    suite: str, release: str, more: tuple[str, str] | None, passed: int
) -> None:
    said = subprocess.check_output(with_release(suite, ["slurmctld", "-V"]), text=True)
    assert f" {release}." in said
    pytests_own = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    files, chosen = ((*FILES, more[0]), f"({CHOSEN}) or {more[1]}") if more else (FILES, CHOSEN)
    argv = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", chosen]
    done = subprocess.run(
        with_release(suite, [*argv, *(str(FOLDER / name) for name in files)]),
        env=pytests_own,
        cwd=FOLDER.parents[1],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"\n{passed} passed" in done.stdout
