"""`tyard node`: the programs by which Slurm on a cluster's head starts and stops the machines of its nodes."""

import json
import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from tensoryard.nodes.programs import Programs
    from tensoryard.settings import AzureWorkspace

STATE = "TYARD_NODES"
_WITHIN_S = 600
Log = Callable[[str], None]


@click.group()
def node() -> None:
    """
    Start and stop the machines of Slurm's nodes; for Slurm, on the head.

    \b
    Examples:
      tyard node resume 'gpucluster-[1-4]'    Slurm's ResumeProgram
      tyard node reconcile                    put right what does not agree
    """


def _options(command: Callable[..., Any]) -> Callable[..., Any]:
    log = click.option(
        "--log",
        metavar="FILE",
        type=Path,
        envvar="TYARD_NODES_LOG",
        help="Add what is done to this file too. Default: $TYARD_NODES_LOG.",
    )
    state = click.option(
        "--state",
        metavar="FOLDER",
        type=Path,
        envvar=STATE,
        help="Where locks and failures are kept, one for all programs. Default: $TYARD_NODES, else in the workspace.",
    )
    within = click.option(
        "--within",
        "within_s",
        type=click.FloatRange(min=1),
        default=_WITHIN_S,
        metavar="SECONDS",
        help=f"Time limit in seconds; returns what was done by then. Default: {_WITHIN_S}.",
    )
    return log(state(within(command)))


@node.command()
@click.argument("hostlist")
@_options
@click.pass_context
def resume(ctx: click.Context, hostlist: str, log: Path | None, state: Path | None, within_s: float) -> None:
    """
    Start the machines of nodes: Slurm's ResumeProgram.

    HOSTLIST: as Slurm writes it, such as gpucluster-[1-4]. Nodes whose machine cannot be had are set down with the
    reason, which frees their jobs; `reconcile` has them tried again after 5 minutes. Exit code 1 when one was.

    \b
    Examples:
      tyard node resume 'gpucluster-[1-4]'
      tyard node resume gpucluster-7 --log /var/log/slurm/nodes.log
    """
    with _told(log, f"resume {hostlist}{_for_jobs()}") as say:
        problems = {}
        for programs, names in _clusters(hostlist, state, within_s, say):
            problems.update(programs.resume(names))
    ctx.exit(1 if problems else 0)


@node.command()
@click.argument("hostlist")
@_options
@click.pass_context
def suspend(ctx: click.Context, hostlist: str, log: Path | None, state: Path | None, within_s: float) -> None:
    """
    Delete the machines of nodes: Slurm's SuspendProgram.

    HOSTLIST: as Slurm writes it. Exit code 1 when a machine could not be deleted; `reconcile` tries again.

    \b
    Examples:
      tyard node suspend 'gpucluster-[1-4]'
      tyard node suspend gpucluster-7 --within 60
    """
    with _told(log, f"suspend {hostlist}") as say:
        done = [programs.suspend(names) for programs, names in _clusters(hostlist, state, within_s, say)]
    ctx.exit(0 if all(done) else 1)


@node.command()
@click.argument("hostlist")
@_options
def fail(hostlist: str, log: Path | None, state: Path | None, within_s: float) -> None:
    """
    Give up nodes that never came up: Slurm's ResumeFailProgram.

    HOSTLIST: as Slurm writes it. Their machines are deleted, and the nodes say why. They are tried again after
    5 minutes; after three times in a row they stay down until `tyard doctor --cluster --repair`.

    \b
    Examples:
      tyard node fail gpucluster-2
      tyard node fail 'gpucluster-[1-4]' --log /var/log/slurm/nodes.log
    """
    with _told(log, f"fail {hostlist}") as say:
        for programs, names in _clusters(hostlist, state, within_s, say):
            programs.fail(names)


@node.command()
@_options
def reconcile(log: Path | None, state: Path | None, within_s: float) -> None:
    """
    Put right what machines and nodes do not agree on.

    Machines that are no node's are deleted; nodes without a machine are given up and tried again. Says nothing when
    all agree. What a person has to decide, `tyard doctor --cluster` tells.

    \b
    Examples:
      tyard node reconcile
      tyard node reconcile --within 50 --log /var/log/slurm/nodes.log
    """
    with _told(log, None) as say:
        for programs in all_programs(state, within_s, say).values():
            programs.reconcile()


class _told:  # noqa: N801 - reads as a function
    """Says lines on stderr and in a file, an error that ends the block among them: nobody reads Slurm's children."""

    def __init__(self, path: Path | None, first: str | None) -> None:
        self._path = path
        self._first = first

    def __enter__(self) -> Log:
        if self._first:
            self._say(self._first)
        return self._say

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is not None and not isinstance(error, click.exceptions.Exit):
            self._say(f"error: {error}")

    def _say(self, line: str) -> None:
        text = f"{time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())} [{os.getpid()}] {' '.join(line.split())}\n"
        click.echo(text, err=True, nl=False)
        if self._path is not None:
            from tensoryard.nodes.kept import append

            # A full disk or a missing folder keeps no machine from being started or deleted.
            with suppress(OSError):
                append(self._path, text)


def _for_jobs() -> str:
    """The jobs that Slurm starts the nodes for, where it says so."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        jobs = json.loads(Path(os.environ["SLURM_RESUME_FILE"]).read_text())["jobs"]
        if jobs:
            return " for job " + ", ".join(str(job["job_id"]) for job in jobs)
    return ""


def _clusters(hostlist: str, state: Path | None, within_s: float, say: Log) -> "list[tuple[Programs, list[str]]]":
    """The programs of each cluster that nodes of the list are of, with these nodes."""
    from tensoryard.errors import UsageError
    from tensoryard.nodes import cluster_of, slurm

    known = all_programs(state, within_s, say)
    names: dict[str, list[str]] = {}
    for name in slurm.expand(hostlist):
        names.setdefault(cluster_of(name), []).append(name)
    unknown = [name for cluster, some in names.items() if cluster not in known for name in some]
    if unknown:
        # The others are Slurm's to have all the same.
        say(f"error: {', '.join(unknown)}: no cluster of the workspace has such nodes")
    if not names or (unknown and len(unknown) == sum(map(len, names.values()))):
        raise UsageError(
            f"HOSTLIST: got `{hostlist}`, expected nodes of {', '.join(f'`{name}-N`' for name in known)}"
        )
    return [(known[cluster], some) for cluster, some in names.items() if cluster in known]


def all_programs(state: Path | None, within_s: float, say: Log) -> "dict[str, Programs]":
    """The programs of every cluster of the workspace, by its name."""
    from tensoryard.errors import UsageError
    from tensoryard.workspace import SETTINGS, Workspace

    workspace = Workspace.from_config()
    azure = workspace.settings().azure
    if azure is None:
        raise UsageError(
            f"{workspace.root / SETTINGS}: names no workspace on Azure, so there are no machines to start",
            "on the head of a workspace on Azure: tyard workspace connect --stack NAME",
        )
    return _programs_of(azure, state or workspace.root / "nodes", within_s, say)


def _programs_of(azure: "AzureWorkspace", state: Path, within_s: float, say: Log) -> "dict[str, Programs]":
    """
    The programs of every cluster, by its name.

    Raises UsageError where Azure's libraries are missing.
    """
    from tensoryard.errors import UsageError

    try:
        from tensoryard.nodes.azure import AzureMachines
        from tensoryard.nodes.scale_set import ScaleSet, compute_client
    except ModuleNotFoundError as error:
        raise UsageError(
            f"tyard node: `{azure.name}` is a workspace on Azure; `{error.name}` is missing",
            hint="pip install 'tensoryard[azure]'",
        ) from None
    from tensoryard.nodes.programs import Programs

    client = compute_client(azure, os.environ.get("TYARD_RESOURCE_MANAGER"))
    made = {}
    for name, cluster in azure.clusters.items():
        scale_set = ScaleSet(client, azure.subscription_id, azure.resource_group, cluster.scale_set)
        machines = AzureMachines(scale_set, state / f"{name}.lock", within_s=within_s, log=say)
        made[name] = Programs(name, machines, state, say)
    return made
