"""`tyard doctor --cluster`: where Slurm, its nodes' machines and what it was told do not agree, each with its fix."""

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from tensoryard.cli.tables import print_json
from tensoryard.errors import SchedulerError

if TYPE_CHECKING:
    from tensoryard.nodes.examine import Finding
    from tensoryard.nodes.programs import Programs

_WITHIN_S = 300.0
_DOES = {
    "remove": "deletes the machine",
    "start": "starts a machine for it",
    "give up": "sets it down, so that its jobs wait again, and lets Slurm start it anew",
    "try again": "lets Slurm start it anew",
    "fail": "deletes its machine and tells why; it is tried again in some minutes",
}


class ClusterFinding(msgspec.Struct, frozen=True, kw_only=True):
    """
    One thing that is wrong. node, machine: what it is about, None where it is about the head; fix: what to do;
    repairs: whether `--repair` does it; repaired: whether it has.
    """

    problem: str
    node: str | None = None
    machine: str | None = None
    fix: str | None = None
    repairs: bool = False
    repaired: bool = False


def check_cluster(*, repair: bool, as_json: bool) -> bool:
    """Prints what is wrong with the cluster; whether nothing is, or all of it was repaired."""
    from tensoryard.cluster_runs import check_on_head
    from tensoryard.workspace import Workspace

    check_on_head(Workspace.from_config(), f"tyard doctor --cluster{' --repair' * repair}")
    found = [*_of_head(), *_of_nodes(repair)]
    if as_json:
        print_json(found)
    else:
        for finding in found:
            state = "repaired" if finding.repaired else "fix     "
            click.echo(f"{finding.problem}\n  {state}  {finding.fix or 'look at the head, in /var/log/slurm'}\n")
        left = sum(not finding.repaired for finding in found)
        can = any(finding.repairs and not finding.repaired for finding in found)
        click.echo(f"{left or 'Nothing'} wrong{'; `--repair` does what it can' if can else ''}", err=True)
    return all(finding.repaired for finding in found)


def _of_head() -> list[ClusterFinding]:
    """What everything else stands on: munge, the clock."""
    found = []
    munged = _fails("munge", "--no-input", *_munge_socket())
    if munged is not None:
        found.append(
            ClusterFinding(problem=f"munge gives no credential: {munged}", fix="sudo systemctl restart munge")
        )
    synchronized = _says("timedatectl", "show", "--property=NTPSynchronized", "--value")
    if synchronized == "no":
        found.append(
            ClusterFinding(
                problem="the clock is not synchronized: munge refuses credentials that are minutes off",
                fix="sudo systemctl restart chrony",
            )
        )
    return found


def _of_nodes(repair: bool) -> list[ClusterFinding]:
    from tensoryard.nodes import cluster_of, slurm
    from tensoryard.nodes.examine import examine_others, examine_sizes
    from tensoryard.scheduler.slurm_commands import AwayError
    from tensoryard.workspace import Workspace

    try:
        nodes = slurm.nodes()
    except AwayError as away:
        return [ClusterFinding(problem=f"slurmctld does not answer: {away}", fix="sudo systemctl restart slurmctld")]
    except SchedulerError as error:
        return [ClusterFinding(problem=error.message, fix=error.hint)]
    azure = Workspace.from_config().settings().azure
    clusters = azure.clusters if azure is not None else {}
    found = [*examine_others(nodes), *examine_sizes(nodes, clusters)]
    shown = [_shown(finding) for finding in found]
    for programs in _programs().values() if {cluster_of(node.name) for node in nodes} & set(clusters) else ():
        shown += _looked_at(programs, repair)
    return shown


def _programs() -> "dict[str, Programs]":
    from tensoryard.cli.node import STATE, all_programs

    # The same locks as those of Slurm's programs.
    state = Path(os.environ[STATE]) if STATE in os.environ else None
    return all_programs(state, _WITHIN_S, lambda line: click.echo(line, err=True))


def _looked_at(programs: "Programs", repair: bool) -> list[ClusterFinding]:
    found = programs.look()
    mended: Sequence[Finding] = [finding for finding in found if finding.fix] if repair else ()
    programs.repair(mended)
    return [_shown(finding, repaired=any(finding is one for one in mended)) for finding in found]


def _shown(finding: "Finding", *, repaired: bool = False) -> ClusterFinding:
    return ClusterFinding(
        problem=finding.problem,
        node=finding.node,
        machine=finding.machine.id if finding.machine else None,
        fix=f"`tyard doctor --cluster --repair` {_DOES[finding.fix]}" if finding.fix else finding.advice,
        repairs=finding.fix is not None,
        repaired=repaired,
    )


def _munge_socket() -> list[str]:
    """Where Slurm asks munge, if not at munge's own place."""
    from tensoryard.scheduler.slurm_commands import AwayError, setting

    try:
        found = re.search(r"socket=([^,\s]+)", setting("AuthInfo") or "")
    except (AwayError, SchedulerError):
        found = None
    return ["--socket", found[1]] if found else []


def _fails(*argv: str) -> str | None:
    """The words with which a short program failed, None when it did not."""
    if shutil.which(argv[0]) is None:
        return f"`{argv[0]}` is not on this machine's PATH"
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=20, check=False)
    except subprocess.TimeoutExpired:
        return "it does not answer"
    return (done.stderr.strip() or f"it ended with {done.returncode}") if done.returncode else None


def _says(*argv: str) -> str:
    try:
        return subprocess.run(argv, capture_output=True, text=True, timeout=20, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""
