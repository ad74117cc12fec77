"""`python -m tensoryard.cli` is `tyard`."""

from tensoryard.cli.main import main

main()
