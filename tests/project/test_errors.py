"""What an error says when nobody catches it."""

import pickle

import pytest

from tensoryard.cli.main import show_error
from tensoryard.errors import JobError, NotFoundError


def test_an_uncaught_error_tells_the_next_step() -> None:
    assert str(JobError("a: got 1")) == "a: got 1"
    error = pickle.loads(pickle.dumps(JobError("a: got 1", "use 2")))
    assert (error.message, error.hint, str(error)) == ("a: got 1", "use 2", "a: got 1\n\nhint: use 2")


def test_the_command_line_tells_it_once(capfd: pytest.CaptureFixture[str]) -> None:
    show_error(NotFoundError("run `a`: is not there", "`tyard runs list` lists all"))
    assert capfd.readouterr().err == "error: run `a`: is not there\n\nhint: `tyard runs list` lists all\n"
