"""`tyard run`: submit a job and follow it."""

from pathlib import Path

import click


@click.command()
@click.argument("job", type=click.Path(path_type=Path), default="job.yaml")
@click.option("--set", "changes", multiple=True, metavar="FIELD=VALUE", help="Change a field of the job.")
@click.option("--rebuild", is_flag=True, help="Build the job's environment anew, image and lock too.")
@click.option("--detach", is_flag=True, help="Return once the run is queued.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line: events and log lines.")
@click.pass_context
def run(ctx: click.Context, job: Path, changes: tuple[str, ...], rebuild: bool, detach: bool, as_json: bool) -> None:
    """
    Run a job and follow it to its end.

    Exit code 0: completed, 1: tyard failed, 2: wrong use, 3: the run failed or was canceled.

    \b
    Examples:
      tyard run job.yaml
      tyard run job.yaml --set script_params.--epochs=5 --detach
    """
    from tensoryard.controller_process import ForkedController
    from tensoryard.job_file import load_job, placed
    from tensoryard.submit import submit
    from tensoryard.targets import queue_name
    from tensoryard.workspace import Workspace

    controller = ForkedController.forked()
    workspace = Workspace.from_config()
    asked = load_job(job, changes)
    with placed(job, changes):
        submitted = submit(workspace, asked, lambda text: click.echo(text, err=True), rebuild=rebuild)
    controller.start(workspace, queue_name(submitted.job.compute_target))
    from tensoryard.cli.follow import follow_to_end, show_submitted

    if detach:
        show_submitted(submitted, as_json)
        return
    ctx.exit(follow_to_end(workspace, submitted, as_json))
