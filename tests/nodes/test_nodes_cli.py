"""`tyard node` where there is nothing for it to do; what it does is in tests/slurm/test_slurm_cloud.py."""

import re

import pytest

from cli_runner import Tyard


@pytest.mark.parametrize("command", ["resume gpu-1", "suspend gpu-1", "fail gpu-1", "reconcile"])
def test_a_workspace_without_machines_says_so_in_the_log_too(cli: Tyard, command: str) -> None:
    """Slurm throws away what its programs say."""
    log = cli.folder / "nodes.log"
    _, talk = cli.both("node", *command.split(), "--log", str(log), code=2)

    assert "names no workspace on Azure, so there are no machines to start" in talk
    assert re.search(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ \[\d+\] error: ", log.read_text(), re.MULTILINE)


def test_a_log_that_cannot_be_written_stops_nothing(cli: Tyard) -> None:
    _, talk = cli.both("node", "reconcile", "--log", "/nowhere/nodes.log", code=2)

    assert "names no workspace on Azure" in talk
