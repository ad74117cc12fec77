"""
Brings a run's image onto this node, before the tasks start; `environment.node_pull` does it.

That needs more than the standard library: it lies beside what the run was told of its image.
"""

import os
import sys

sys.path.insert(0, os.path.join(os.environ["TYARD_RUN_DIR"], "environment", "tools"))

from tensoryard.environment.node_pull import main

if __name__ == "__main__":
    sys.exit(main())
