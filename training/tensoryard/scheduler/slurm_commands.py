"""
Slurm's commands, asked in plain forms that 20.11, 22.05, 24.11 and 26.05 were seen to share.

Each call is one process, bounded in time. What it says is read by fields, never as prose.
"""

import os
import re
import subprocess
from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from tensoryard.errors import SchedulerError
from tensoryard.scheduler.local import launch_environment

ANSWERS_WITHIN_S = 60.0
# What a command says when slurmctld is away, restarts or is busy: it is asked again later.
_AWAY = (
    "Unable to contact slurm controller",
    "Connection refused",
    "Connection timed out",
    "Socket timed out",
    "Zero Bytes were transmitted",
    "Transport endpoint is not connected",
    "Slurm backup controller in standby mode",
    "Resource temporarily unavailable",
    "Slurm temporarily unable to accept job",
    "Too many open files",
    "Communication connection failure",
    "Insane message length",
)


# `error: `, and before the words of a library call `slurm_load_jobs error: `.
_NAMES = re.compile(r"^(error: |fatal: |slurm_\w+ error: |allocation failure: )+")


class AwayError(Exception):
    """Slurm's controller did not answer; whether it did what it was asked is not known."""


class Row(NamedTuple):
    """
    A job as squeue lists it.

    state: such as PENDING; reason: squeue's code; nodes: as Slurm writes names; folder: where it was told to run.
    """

    job: str
    state: str
    reason: str
    nodes: str
    folder: str


class NodeState(NamedTuple):
    """A node as sinfo lists it. state: such as idle or down*; reason: an administrator's or Slurm's own words."""

    name: str
    state: str
    reason: str

    @property
    def is_lost(self) -> bool:
        """Whether nothing runs there any more: Slurm gave it up, or cannot reach it (`*`)."""
        plain = self.state.rstrip("*~#!%$@^-+")
        return self.state.endswith("*") or plain in (
            "down",
            "fail",
            "failing",
            "error",
            "powered_down",
            "powering_down",
        )


def _argv_environment() -> dict[str, str]:
    environment = launch_environment()
    # Which cluster; all else that begins so would be an option of the job, or be of an allocation we may be in.
    if "SLURM_CONF" in os.environ:
        environment["SLURM_CONF"] = os.environ["SLURM_CONF"]
    return environment


def ask(argv: Sequence[str]) -> str:
    """
    What a command of Slurm's printed.

    Raises AwayError when it could not reach slurmctld, SchedulerError with its words when it was refused.
    """
    try:
        done = subprocess.run(
            argv,
            env=_argv_environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=ANSWERS_WITHIN_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise AwayError(f"{argv[0]} got no answer within {ANSWERS_WITHIN_S:.0f} s") from None
    except FileNotFoundError:
        raise SchedulerError(
            f"`{argv[0]}` is not on this machine's PATH",
            hint="submit from a machine that has Slurm's commands, such as the cluster's login node",
        ) from None
    if done.returncode == 0:
        return done.stdout
    words = in_one_line(done.stderr or done.stdout, argv[0])
    if any(mark in words for mark in _AWAY):
        raise AwayError(words)
    raise SchedulerError(f"{argv[0]}: {words or f'ended with {done.returncode}'}")


def in_one_line(text: str, command: str) -> str:
    """Slurm's words without the names it puts before each line."""
    lines = []
    for line in text.splitlines():
        plain = _NAMES.sub("", line.removeprefix(f"{command}: ")).strip()
        if plain and plain not in lines:
            lines.append(plain)
    return "; ".join(lines)


def sbatch(script: str) -> str:
    """The id of the job that a script has become. Raises as `ask`."""
    return ask(["sbatch", "--parsable", script]).strip().partition(";")[0]


def squeue() -> list[Row]:
    """Every job of this user's that Slurm remembers, among them those that ended within its MinJobAge."""
    said = ask(
        ["squeue", "--noheader", f"--user={os.getuid()}", "--states=all", "--format=%A|%T|%r|%N|%Z"],
    )
    rows = []
    for line in said.splitlines():
        fields = line.split("|", 4)
        if len(fields) == 5:
            rows.append(Row(*fields))
    return rows


def scancel(job: str, *options: str) -> None:
    """End a job or signal it. A job that is gone is no error. Raises AwayError."""
    try:
        ask(["scancel", "--quiet", *options, job])
    except SchedulerError:
        return


def sinfo_nodes(names: str) -> list[NodeState]:
    """The state of nodes, by their names as Slurm writes them. Raises as `ask`."""
    said = ask(["sinfo", "--noheader", "--Node", f"--nodes={names}", "--format=%N|%T|%E"])
    found = {}
    for line in said.splitlines():
        fields = line.split("|", 2)
        if len(fields) == 3:
            found[fields[0]] = NodeState(*fields)  # listed once for every partition
    return [*found.values()]


def rebooted_since(names: str, when: float) -> bool:
    """Whether one of the nodes was started after a time (seconds, as `time.time`). Raises as `ask`."""
    said = ask(["scontrol", "--oneliner", "show", "nodes", names])
    booted = re.findall(r" BootTime=(\d\S+)", said)
    return any(datetime.fromisoformat(each).timestamp() > when for each in booted)


def settings() -> dict[str, str]:
    """Slurm's configuration, as `scontrol show config` says it. Raises as `ask`."""
    pairs = (line.partition("=") for line in ask(["scontrol", "show", "config"]).splitlines())
    return {name.strip(): value.strip() for name, equals, value in pairs if equals}


def setting(name: str) -> str | None:
    """One value of it. Raises as `ask`."""
    return settings().get(name)


def seconds(value: str) -> float:
    """A time of Slurm's configuration, such as `300 sec`; 0 for one that is not such."""
    number = value.partition(" ")[0]
    return float(number) if number.isdigit() else 0.0
