"""A run shown as it goes: plain lines or JSON, and what to do on Ctrl-C and at the end."""

import sys

import click
import msgspec

from tensoryard.controller_process import fork_controller
from tensoryard.run import ENDS, Event, RunRecord, RunState
from tensoryard.stream import LogLine, follow
from tensoryard.workspace import Workspace

RUN_FAILED = 3


def show_submitted(run: RunRecord, as_json: bool) -> None:
    if as_json:
        click.echo(msgspec.json.encode({"id": run.id}))
        return
    click.echo(f"Submitted {run.id}")
    click.echo(f"  tyard runs stream {run.id}    follow it\n  tyard runs cancel {run.id}    stop it", err=True)


def follow_to_end(workspace: Workspace, run: RunRecord, as_json: bool) -> int:
    """The exit code of a run that is followed: 0 completed, 3 failed or canceled."""
    show = JsonLines() if as_json else PlainLines(run)
    state = RunState()
    stream = follow(run, lambda: fork_controller(workspace))
    interrupted = 0
    while True:
        try:
            for item in stream:
                if isinstance(item, Event):
                    state.add(item)
                    show.event(item, state)
                elif isinstance(item, LogLine):
                    show.log(item)
            break
        except KeyboardInterrupt:
            interrupted += 1
            raise
    show.end(run, state)
    return 0 if state.stage == "Completed" else RUN_FAILED


class JsonLines:
    def event(self, event: Event, state: RunState) -> None:
        sys.stdout.buffer.write(msgspec.json.encode(event) + b"\n")
        sys.stdout.flush()

    def log(self, line: LogLine) -> None:
        sys.stdout.buffer.write(msgspec.json.encode({"task": line.task, "line": line.text}) + b"\n")
        sys.stdout.flush()

    def end(self, run: RunRecord, state: RunState) -> None:
        pass


class PlainLines:
    def __init__(self, run: RunRecord) -> None:
        self.run = run

    def event(self, event: Event, state: RunState) -> None:
        if event.stage in ENDS:
            return
        if event.fact == "submitted":
            click.echo(f"Submitted {self.run.id}")
        elif event.stage:
            click.echo(event.stage)
        elif event.fact == "waiting":
            click.echo(f"{state.stage}: {event.reason}")
        elif event.fact == "warning":
            click.echo(f"warning: {event.reason}")

    def log(self, line: LogLine) -> None:
        sys.stdout.write(f"{line.task} | {line.text}\n")
        sys.stdout.flush()

    def end(self, run: RunRecord, state: RunState) -> None:
        click.echo(f"{state.stage} {state.reason or ''}")
