"""`python -m tensoryard` is `tyard`, for where no console script is on the PATH."""

from tensoryard.cli.main import main

if __name__ == "__main__":
    main()
