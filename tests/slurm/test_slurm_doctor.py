"""`tyard doctor --cluster` on any Slurm cluster: what everything else stands on, and nodes that get no jobs."""

import json
from pathlib import Path
from typing import Any

import pytest

from cli_runner import Tyard
from services.slurm import SlurmCluster


@pytest.fixture
def doctor(slurm: SlurmCluster, cli: Tyard) -> Tyard:
    cli.environ["SLURM_CONF"] = slurm.environ["SLURM_CONF"]
    return cli


def found(doctor: Tyard, code: int = 1) -> list[dict[str, Any]]:
    findings: list[dict[str, Any]] = json.loads(doctor("doctor", "--cluster", "--json", code=code))
    return findings


def clock(doctor: Tyard, synchronized: str) -> None:
    """What systemd says of this machine's clock: `timedatectl show` of a machine that has it."""
    program = doctor.folder / "bin" / "timedatectl"
    program.parent.mkdir()
    asked = "show --property=NTPSynchronized --value"
    program.write_text(f'#!/bin/sh\n[ "$*" = "{asked}" ] && echo {synchronized}\n')
    program.chmod(0o755)
    doctor.environ["PATH"] = f"{program.parent}:{doctor.environ['PATH']}"


def test_nothing_is_said_of_a_cluster_that_is_well(doctor: Tyard) -> None:
    clock(doctor, "yes")

    assert found(doctor, code=0) == []


def test_a_clock_that_nobody_sets_is_told_with_what_sets_it(doctor: Tyard) -> None:
    clock(doctor, "no")
    (finding,) = found(doctor)

    assert finding["problem"] == "the clock is not synchronized: munge refuses credentials that are minutes off"
    assert finding["fix"] == "sudo systemctl restart chrony"


def test_munge_that_does_not_answer_is_told_first(slurm: SlurmCluster, doctor: Tyard) -> None:
    """Slurm's commands fail with it, in words that name no way out."""
    socket = slurm.munge_socket
    away = Path(f"{socket}.away")
    socket.rename(away)
    try:
        first, *_ = found(doctor)
    finally:
        away.rename(socket)

    assert first["problem"].startswith("munge gives no credential: ")
    assert "No such file or directory" in first["problem"]
    assert first["fix"] == "sudo systemctl restart munge"


def test_nodes_that_get_no_jobs_are_told_with_why(slurm: SlurmCluster, doctor: Tyard) -> None:
    slurm.run("scontrol", "update", "nodename=node-2", "state=drain", "reason=a fan is broken")
    (finding,) = found(doctor)

    assert finding["problem"] == "`node-2` is drained: a fan is broken"
    assert finding["fix"] == "when the cause is gone: scontrol update nodename=node-2 state=resume"
