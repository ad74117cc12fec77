"""`tyard controller`: serves the runs of compute targets until it is told to end."""

import click

from tensoryard.errors import UsageError


@click.command()
@click.argument("targets", nargs=-1)
@click.option(
    "--lease",
    "lease_s",
    type=click.FloatRange(min=1),
    default=30.0,
    metavar="SECONDS",
    help="Seconds without a sign of life after which another controller takes over. Default: 30.",
)
def controller(targets: tuple[str, ...], lease_s: float) -> None:
    """
    Serve the runs of compute targets, in the foreground; for a cluster's head node.

    TARGETS: names of clusters; left out, all of the workspace's. It takes up what is queued, submits it to Slurm and
    carries logs and outputs into the workspace's store. One controller serves a target at a time, another waits its
    turn. It may be killed at any moment: runs go on, and the next controller goes on with them.

    \b
    Examples:
      tyard controller
      tyard controller gpucluster --lease 60
    """
    from tensoryard.controller_service import serve
    from tensoryard.targets import LOCAL, SLURM
    from tensoryard.targets import targets as known
    from tensoryard.workspace import Workspace

    workspace = Workspace.from_config()
    clusters = [name for name in known(workspace) if name != LOCAL]
    unknown = [name for name in targets if name not in (*clusters, SLURM)]
    if unknown or not (targets or clusters):
        there = ", ".join(f"`{name}`" for name in (*clusters, SLURM))
        given = f"got `{unknown[0]}`" if unknown else "this workspace has no cluster"
        raise UsageError(
            f"controller: {given}; it can serve {there}",
            hint=f"`tyard controller {SLURM}` serves jobs with `compute_target: {{slurm: ...}}`, where there are "
            "Slurm's commands",
        )
    serve(workspace, targets or tuple(clusters), lease_s, lambda text: click.echo(text, err=True))
