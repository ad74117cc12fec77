"""
Slurm is for Linux: elsewhere these tests are not there.

They share one cluster, so one worker runs them all. Those whose cluster starts with no node, has accounting or is of
another release have their own, and mostly wait: for another worker.
"""

import sys
from pathlib import Path

import pytest

collect_ignore_glob = [] if sys.platform == "linux" else ["test_*.py"]


@pytest.hookimpl(tryfirst=True)  # xdist's own reads the marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            of_their_own = ("test_slurm_accounting", "test_slurm_cloud", "test_slurm_releases", "test_slurm_whole")
            own = item.path.stem.startswith(of_their_own)
            item.add_marker(pytest.mark.xdist_group("slurm-cloud" if own else "slurm"))
