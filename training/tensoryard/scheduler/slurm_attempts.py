"""What the launch scripts of a run's jobs marked in its folder, and what its tasks recorded; see attempt.py."""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple


class Attempt(NamedTuple):
    """
    The newest attempt of a job.

    restart: how many came before it; ended: its launch script has; began_at: by its first node's clock (seconds).
    """

    restart: int
    ended: bool
    hosts: tuple[str, ...]
    began_at: float


def attempt_of(folder: Path, job: str) -> Attempt | None:
    """The newest attempt of a job that has begun, or None when none has."""
    attempts = folder / "launch" / "attempts"
    try:
        names = {path.name for path in attempts.iterdir()}
    except FileNotFoundError:
        return None
    numbers = [int(name.split(".")[1]) for name in names if name.startswith(f"{job}.") and name.endswith(".began")]
    if not numbers:
        return None
    newest = f"{job}.{max(numbers)}"
    began: dict[str, Any] = {}
    with suppress(OSError, ValueError):
        began = json.loads((attempts / f"{newest}.began").read_text())
    hosts, at = tuple(began.get("hosts", ())), float(began.get("at", 0.0))
    return Attempt(max(numbers), f"{newest}.ended" in names, hosts, at)


def owner(folder: Path) -> str | None:
    """The job whose script was the first to begin, or None while none has."""
    with suppress(OSError):
        return (folder / "launch" / "job").read_text().strip() or None
    return None


def released(folder: Path) -> set[str]:
    """Jobs of the run that were given up for another."""
    return {path.name.partition(".")[0] for path in (folder / "launch" / "attempts").glob("*.slurm.json")}


def make_way(folder: Path, job: str) -> None:
    """Let another job have the run: marks, record and claim of the old one are set aside, in this order."""
    attempts = folder / "launch" / "attempts"
    attempts.mkdir(exist_ok=True)
    # A slurmctld that has forgotten a job may give its number to the next one.
    for mark in [*attempts.glob(f"{job}.*.began"), *attempts.glob(f"{job}.*.ended")]:
        mark.replace(mark.with_name(f"lost-{mark.name}"))
    for name in ("slurm.json", "job"):
        with suppress(FileNotFoundError):
            (folder / "launch" / name).replace(attempts / f"{job}.{name}")
