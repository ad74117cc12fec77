"""
Builds an image on this node, for a head that does not; `environment.node_build` does it.

    python build_image.py FOLDER KEY FILE ANEW      FOLDER: of the build, with context/ and tools/ in it
"""

import os
import sys

sys.path.insert(0, os.path.join(sys.argv[1], "tools"))

from tensoryard.environment.node_build import main

if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
