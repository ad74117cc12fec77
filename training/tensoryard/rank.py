"""
Runs beside the user's script: one of these a task, on the node, with nothing but the standard library.

    python rank.py TASK command...      TASK: a name of launch/layout.json, or `-` to find it from MPI or Slurm

Without a command it takes the words of launch/command, each ended by a NUL. It gives the script its TF_CONFIG, its
log and a process group of its own, and owns the end. All of that is in `supervisor.py`: Python compiles the file
that it is told to run anew each time, and what that imports only once.
"""

import os
import sys

# The files lie side by side on the node, and -I keeps their folder off the path.
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from supervisor import main  # type: ignore[import-not-found]

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
