"""The end of a run as it is told: how it ended, why, where its files are, and what to do next."""

import re
import shlex
from collections.abc import Collection
from typing import Any

import click

from tensoryard.cli.last_metrics import LastMetrics
from tensoryard.cli.tables import pairs
from tensoryard.errors import TensoryardError
from tensoryard.run import Event, RunRecord, RunState
from tensoryard.store import is_folder, keys
from tensoryard.text import duration, printable, size

FAILED = 3
SHOWN_LINES = 24  # of the lines above the end: what is there is not said again
_LOG_LINES = 12
_NO_MODULE = re.compile(r"ModuleNotFoundError: No module named '(\w+)[\w.]*'")
# Packages that are named otherwise than what they let a script import.
_PACKAGES = {
    "PIL": "pillow",
    "cv2": "opencv-python-headless",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "yaml": "pyyaml",
}


def exit_code(ending: Event) -> int:
    """0 completed, 1 tyard failed, 3 the run failed or was canceled."""
    if ending.stage == "Completed":
        return 0
    return 1 if ending.data.get("by") == "tyard" else FAILED


def total_seconds(state: RunState) -> float:
    """From submission to the end, or to now."""
    if not state.stages:
        return 0.0
    started_at = state.submitted_at or state.stages[0].started_at
    last = state.stages[-1]
    return max(0.0, last.started_at + last.seconds - started_at)


def hint(ending: Event) -> str | None:
    """What to do next: as it was recorded, or for a package that the script of a task missed."""
    recorded = ending.data.get("hint")
    if recorded or not ending.data.get("task"):
        return recorded
    missed = [found for line in ending.data.get("log") or () if (found := _NO_MODULE.search(str(line)))]
    if not missed:
        return None
    module = missed[-1][1]
    return f"add `{_PACKAGES.get(module, module)}` to pip_packages, or `{module}` to the folder of the script"


def end_record(run: RunRecord, state: RunState, ending: Event) -> dict[str, Any]:
    """The last line of `--json`."""
    return {
        "event": "end",
        "time": ending.time,
        "id": run.id,
        "stage": ending.stage,
        "exit_code": exit_code(ending),
        "reason": ending.reason,
        "hint": hint(ending),
        "seconds": round(total_seconds(state), 3),
        "task": ending.data.get("task"),
        "host": ending.data.get("host"),
        "task_exit_code": ending.data.get("exit_code"),
        "task_signal": ending.data.get("signal"),
        "outputs": _where(run, "outputs"),
    }


def tell_end(run: RunRecord, state: RunState, ending: Event, shown: Collection[tuple[str, str]] = ()) -> None:
    """
    The end in words: facts to stdout, next commands to stderr.

    shown: task and text of the log lines just above.
    """
    colour = {"Completed": "green", "Canceled": "yellow"}.get(state.stage, "red")
    # What a builder says may be several lines.
    reason = "\n  ".join(map(printable, ending.reason.splitlines())) if ending.reason else ""
    stage = click.style(state.stage, fg=colour, bold=True)
    click.echo(f"{stage} {run.id} in {duration(total_seconds(state))}{f': {reason}' if reason else ''}")
    if state.stage == "Failed":
        _tell_log(run, ending, shown)
    outputs = None
    try:
        metrics = LastMetrics(run).refresh()
        outputs = run.outputs()
    except TensoryardError as error:
        metrics = {}
        click.echo(f"warning: {error.message}", err=True)
    if metrics:
        click.echo(f"  metrics  {printable(pairs(metrics))}")
    if outputs is not None:
        amount = f"{len(outputs.files)} file{'' if len(outputs.files) == 1 else 's'}, "
        amount += size(sum(file.size_bytes for file in outputs.files))
        click.echo(f"  outputs  {_where(run, 'outputs') or 'in the store'}  ({amount})")
    if next_step := hint(ending):
        click.echo(f"\n{click.style('hint:', bold=True)} {next_step}", err=True)
    click.echo("", err=True)
    for command in next_commands(run, state, ending):
        click.echo(f"  {command}", err=True)


def next_commands(run: RunRecord, state: RunState, ending: Event) -> list[str]:
    """What people do next with a run that ended so."""
    outputs = run.outputs()
    commands = [f"tyard runs files {run.id}"] if outputs and outputs.files else []
    if commands and not is_folder(run.store):
        commands.append(f"tyard runs download {run.id}")
    if state.stage != "Completed":
        task = ending.data.get("task")
        commands.append(f"tyard runs logs {run.id}" + (f" --task {task}" if task else ""))
        commands.append(f"tyard runs resubmit {run.id}")
    elif outputs and any(file.path.startswith("outputs/model/") for file in outputs.files):
        parsed = keys.parse_run_id(run.id)
        name = shlex.quote(parsed[0] if parsed else run.id)
        commands.append(f"tyard models register {name} --run {run.id} --path outputs/model")
    return commands


def _tell_log(run: RunRecord, ending: Event, shown: Collection[tuple[str, str]]) -> None:
    task = ending.data.get("task")
    # Of a run that never came to its tasks the build says most.
    log = str(task or ("preparing" if ending.data.get("by") == "tyard" else "launch"))
    lines = [printable(str(line)) for line in ending.data.get("log") or run.log_tail(log, _LOG_LINES)]
    # Any other log was shown to its end just now; that of one task of many may be somewhere far above.
    tail = lines[-_LOG_LINES:] if task and len(run.job.tasks()) > 1 else []
    seen = [text for name, text in shown if name == log]
    if not all(any(text.startswith(line) for text in seen) for line in tail):
        for line in tail:
            click.echo(f"  {log} | {line}")
    if lines:
        click.echo(f"  log      {_where(run, f'logs/{log}.log') or f'tyard runs logs {run.id} --task {log}'}")


def _where(run: RunRecord, name: str) -> str | None:
    path = run.store.local_path(run.key(name))
    return str(path) if path else None
