"""The console script `tyard`, and `python -m tensoryard`."""

import gc
import sys


def main() -> None:
    # What is loaded now stays: collecting garbage meanwhile would cost a tenth of the start.
    gc.disable()
    if sys.argv[1:2] == ["run"] and not {"-h", "--help"} & set(sys.argv):
        from tensoryard.controller_process import ForkedController

        # Before anything else is loaded: what the controller needs loads on another core meanwhile.
        ForkedController.fork_early()
    from tensoryard.cli.main import main

    gc.enable()
    main()


if __name__ == "__main__":
    main()
