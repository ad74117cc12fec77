"""`tyard runs`: list, follow, cancel and run again."""

import time
from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any

import click

from tensoryard.cli.complete import RUN, json_option, named
from tensoryard.cli.run_files import download, files, logs
from tensoryard.cli.tables import minute, pairs, print_json, print_table
from tensoryard.text import size

if TYPE_CHECKING:
    from tensoryard.workspace import Workspace

_STAGES = ("NotStarted", "Preparing", "Scaling", "Running", "Post-processing", "Completed", "Failed", "Canceled")
_LOOK_SECONDS = 0.1
_LOOK_REMOTE_SECONDS = 1.0
_CONTROLLER_SECONDS = 2.0


@click.group()
def runs() -> None:
    """
    Runs: what was submitted, how it went, and the files it left.

    RUN is an id such as mnist-0007, the number alone, or `latest`.

    \b
    Examples:
      tyard runs list
      tyard runs show latest
    """


runs.add_command(logs)
runs.add_command(files)
runs.add_command(download)


@runs.command("list")
@click.option("--experiment", help="Only runs of this experiment.")
@click.option("--stage", type=click.Choice(_STAGES, case_sensitive=False), help="Only runs in this stage.")
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True, help="How many to print.")
@json_option
def list_command(experiment: str | None, stage: str | None, limit: int, as_json: bool) -> None:
    """
    List runs, newest first.

    \b
    Examples:
      tyard runs list --experiment mnist --stage failed
      tyard runs list --limit 5 --json
    """
    from tensoryard.text import duration, printable
    from tensoryard.workspace import Workspace

    found = list(islice(_summaries(Workspace.from_config(), experiment, stage), limit + 1))
    if as_json:
        print_json(found[:limit])
    elif found:
        rows = [
            (
                row["id"],
                row["stage"],
                minute(row["submitted_at"] or "-"),
                duration(row["seconds"]),
                printable(pairs(row["metrics"]))[:60],
            )
            for row in found[:limit]
        ]
        print_table(("RUN", "STAGE", "SUBMITTED", "DURATION", "METRICS"), rows)
    else:
        click.echo("No such runs" if experiment or stage else "No runs yet", err=True)
    if len(found) > limit:
        click.echo(f"There are older runs: `--limit {2 * limit}` shows more", err=True)


@runs.command()
@click.argument("run", type=RUN, default="latest")
@json_option
def show(run: str, as_json: bool) -> None:
    """
    Show a run's stages, tasks and metrics.

    \b
    Examples:
      tyard runs show
      tyard runs show mnist-0007 --json
    """
    from tensoryard.cli.run_facts import details

    found = details(named(run)[1])
    if as_json:
        print_json(found)
    else:
        _print_details(found)


@runs.command()
@click.argument("run", type=RUN, default="latest")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line: events and log lines.")
@click.pass_context
def stream(ctx: click.Context, run: str, as_json: bool) -> None:
    """
    Follow a run to its end, from its first log line.

    Exit codes are those of `tyard run`.

    \b
    Examples:
      tyard runs stream
      tyard runs stream mnist-0007 --json
    """
    from tensoryard.cli.follow import follow_to_end
    from tensoryard.controller_process import fork_controller

    workspace, record = named(run)
    if not record.state().ended:
        fork_controller(workspace)
    ctx.exit(follow_to_end(workspace, record, as_json, own=False))


@runs.command()
@click.argument("run", type=RUN)
@click.option("--kill", is_flag=True, help="Kill at once, without the script's 10 s grace period.")
@click.option("--no-wait", is_flag=True, help="Ask and return, before the run has ended.")
def cancel(run: str, kill: bool, no_wait: bool) -> None:
    """
    Stop a run and wait until it has ended.

    Its outputs so far are kept.

    \b
    Examples:
      tyard runs cancel mnist-0007
      tyard runs cancel latest --kill
    """
    from tensoryard.controller_process import fork_controller
    from tensoryard.store import is_folder

    workspace, record = named(run)
    before = record.state()
    if before.ended:
        click.echo(f"{record.id} has ended already: {before.stage}")
        return
    record.request_cancel(kill=kill)
    fork_controller(workspace)
    if no_wait:
        click.echo(f"Asked {record.id} to stop")
        return
    click.echo(f"Canceling {record.id}", err=True)
    state = before
    looked = time.monotonic()
    pause = _LOOK_SECONDS if is_folder(workspace.store) else _LOOK_REMOTE_SECONDS
    while not (state := record.state()).ended:
        if time.monotonic() - looked > _CONTROLLER_SECONDS:
            looked = time.monotonic()
            fork_controller(workspace)
        time.sleep(pause)
    if state.stage == "Canceled":
        click.echo(f"Canceled {record.id}")
    else:
        click.echo(f"{record.id} ended before it could be canceled: {state.stage}")


@runs.command()
@click.argument("run", type=RUN)
@click.option("--set", "changes", multiple=True, metavar="FIELD=VALUE", help="Change a field of the job.")
@click.option("--rebuild", is_flag=True, help="Build its environment anew, image and lock too.")
@click.option("--detach", is_flag=True, help="Return once the run is queued.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line: events and log lines.")
@click.pass_context
def resubmit(
    ctx: click.Context, run: str, changes: tuple[str, ...], rebuild: bool, detach: bool, as_json: bool
) -> None:
    """
    Run an earlier run's job again.

    It runs from the source as it was then; an edited folder changes nothing. One that ran in an image runs in the
    same, by its digest, unless fields that describe the image are changed, or --rebuild is given.

    \b
    Examples:
      tyard runs resubmit mnist-0007
      tyard runs resubmit latest --set script_params.--epochs=5 --detach
    """
    from tensoryard.cli.follow import follow_to_end, show_submitted
    from tensoryard.controller_process import fork_controller
    from tensoryard.errors import JobError
    from tensoryard.job_file import changed_job
    from tensoryard.submit import submit

    workspace, earlier = named(run)
    job = changed_job(earlier.job, changes, earlier.id)
    taken = earlier.snapshot()
    if all(file.path != job.entry_script for file in taken.files):
        raise JobError(f"entry_script: `{job.entry_script}` is not in the snapshot of `{earlier.id}`")
    image = None if rebuild or job.environment_spec() != earlier.job.environment_spec() else earlier.image()
    again = submit(workspace, job, lambda text: click.echo(text, err=True), taken=taken, image=image, rebuild=rebuild)
    fork_controller(workspace)
    if detach:
        show_submitted(again, as_json)
        return
    ctx.exit(follow_to_end(workspace, again, as_json))


def _summaries(workspace: "Workspace", experiment: str | None, stage: str | None) -> Iterator[dict[str, Any]]:
    from tensoryard.cli.run_facts import summary
    from tensoryard.errors import TensoryardError
    from tensoryard.run import RunRecord, run_ids
    from tensoryard.store.parallel import in_batches

    def row(run_id: str) -> dict[str, Any] | None:
        run = RunRecord(workspace.store, run_id)
        try:
            return summary(run) if run.was_submitted() else None
        except TensoryardError as error:
            click.echo(f"warning: {run_id} cannot be read: {error.message}", err=True)
            return None

    wanted = [run_id for run_id in run_ids(workspace.store) if experiment in (None, run_id.rpartition("-")[0])]
    for found in in_batches(workspace.store, row, wanted):
        if found is not None and (stage is None or found["stage"] == stage):
            yield found


def _print_details(found: dict[str, Any]) -> None:
    from tensoryard.cli.run_facts import outcome
    from tensoryard.text import duration, printable

    environment = found["environment"] or {}
    metrics = {name: value[-1] if isinstance(value, list) else value for name, value in found["metrics"].items()}
    who = f" by {found['user']} on {found['host']}" if found["user"] and found["host"] else ""
    facts = {
        "run": found["id"],
        "stage": f"{found['stage']} after {duration(found['seconds'])}",
        "reason": found["reason"],
        "hint": found["hint"],
        "submitted": f"{minute(found['submitted_at'])} UTC{who}" if found["submitted_at"] else "",
        "script": found["job"]["entry_script"],
        "environment": " ".join(str(environment[key]) for key in ("name", "hash") if key in environment),
        "image": environment.get("image"),
        "base": environment.get("base"),
        "lock": environment.get("lock_sha256") and f"sha256:{environment['lock_sha256']}",
        "metrics": pairs(metrics, ""),
        "tags": pairs(found["tags"], ""),
        "slurm job": found["slurm_job"],
        "path": found["path"],
    }
    print_table((), [(name, printable(" ".join(str(value).splitlines()))) for name, value in facts.items() if value])
    for warning in found["warnings"]:
        click.echo(f"warning: {printable(warning)}")
    if found["stages"]:
        click.echo()
        rows = [
            (
                span["stage"],
                span["started_at"],
                "-" if span["stage"] in _STAGES[-3:] else duration(span["seconds"]),
                printable(" ".join((span["reason"] or "").splitlines()[:1])),
            )
            for span in found["stages"]
        ]
        print_table(("STAGE", "SINCE", "DURATION", "REASON"), rows)
    click.echo()
    ended = found["stage"] in _STAGES[-3:]
    task_rows = [
        (
            task["task"],
            task["host"] or "-",
            outcome(task, ended),
            size(task["peak_memory_bytes"]) if task["peak_memory_bytes"] else "-",
        )
        for task in found["tasks"]
    ]
    print_table(("TASK", "HOST", "ENDED", "PEAK MEMORY"), task_rows)
