"""Slurm is for Linux: elsewhere these tests are not there."""

import sys

collect_ignore_glob = [] if sys.platform == "linux" else ["test_*.py"]
