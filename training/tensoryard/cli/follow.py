"""A run followed to its end: what is shown as it goes, what Ctrl-C does, and how it is told at the end."""

import os
import sys
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Protocol

import click
import msgspec

from tensoryard.cli.ending import SHOWN_LINES, end_record, exit_code, tell_end
from tensoryard.cli.interrupts import Interrupts, Wish
from tensoryard.controller_process import fork_controller
from tensoryard.errors import StoreError
from tensoryard.run import ENDS, Event, RunRecord, RunState
from tensoryard.stream import LogLine, follow
from tensoryard.text import duration, printable
from tensoryard.workspace import Workspace


class View(Protocol):
    """What shows a run as it goes."""

    def event(self, event: Event, state: RunState) -> None:
        """Shows an event; state: with the event in it."""
        ...

    def log(self, line: LogLine) -> None: ...

    def tick(self, state: RunState) -> None:
        """Nothing new was there; the time goes on."""
        ...

    def end(self, run: RunRecord, state: RunState, event: Event) -> None: ...

    def ask(self, question: Callable[[], Wish]) -> Wish:
        """Makes room for a question on the terminal and asks it."""
        ...

    def say(self, text: str) -> None:
        """Shows a line of tyard's own."""
        ...

    def __enter__(self) -> "View": ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def show_submitted(run: RunRecord, as_json: bool) -> None:
    """What `--detach` prints: the id on stdout, what can be done with it on stderr."""
    if as_json:
        click.echo(msgspec.json.encode({"id": run.id}))
        return
    click.echo(f"Submitted {run.id}")
    click.echo(f"  tyard runs stream {run.id}    follow it\n  tyard runs cancel {run.id}    stop it", err=True)


def follow_to_end(workspace: Workspace, run: RunRecord, as_json: bool, *, own: bool = True) -> int:
    """
    The exit code of a run that is followed: 0 completed or detached, 1 tyard failed, 3 failed or canceled.

    own: whether this command submitted it, so that an interruption without a terminal cancels it.
    """
    state = RunState()
    ending: Event | None = None
    with Interrupts(run, own=own) as interrupts, _view(run, as_json) as view, _lost_sight(run):
        for item in follow(run, lambda: fork_controller(workspace), lambda seconds: _pause(view, state, seconds)):
            if isinstance(item, Event):
                state.add(item)
                if item.stage in ENDS:
                    ending = item
                else:
                    view.event(item, state)
            elif item is not None:
                view.log(item)
            else:
                view.tick(state)
            if interrupts.pending and interrupts.handle(view.ask, view.say) is Wish.DETACH:
                break
    if ending is None:
        click.echo(f"Detached from {run.id}, which goes on: tyard runs stream {run.id}", err=True)
        return interrupts.detached_code
    view.end(run, state, ending)
    return exit_code(ending)


@contextmanager
def _lost_sight(run: RunRecord) -> Iterator[None]:
    """A block in which a store that is away is no word on the run itself."""
    try:
        yield
    except StoreError as error:
        goes_on = f"{run.id} goes on without being followed: tyard runs stream {run.id}"
        raise StoreError(error.message, f"{error.hint}; {goes_on}" if error.hint else goes_on) from error


def _pause(view: View, state: RunState, seconds: float) -> None:
    """Waits, waking at once for a signal, and keeps the clock of the view going meanwhile."""
    import select
    import time

    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        if Interrupts.woken is None:
            time.sleep(left)
        elif select.select([Interrupts.woken], [], [], min(left, 0.2))[0]:
            return
        view.tick(state)


def _view(run: RunRecord, as_json: bool) -> View:
    if as_json:
        return JsonLines()
    if sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb":
        from tensoryard.cli.live import LiveView

        return LiveView(run)
    return PlainLines(run)


class _Lines:
    """What views that only print lines have in common."""

    def tick(self, state: RunState) -> None:
        pass

    def ask(self, question: Callable[[], Wish]) -> Wish:
        return question()

    def say(self, text: str) -> None:
        click.echo(text, err=True)

    def __enter__(self) -> "View":
        return self  # type: ignore[return-value]

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass


class JsonLines(_Lines):
    """One JSON object a line, as docs/json.md promises."""

    def event(self, event: Event, state: RunState) -> None:
        record: dict[str, Any] = {"event": event.fact or "stage", "time": event.time}
        if event.stage:
            record["stage"] = event.stage
        if event.reason:
            record["reason"] = event.reason
        if event.data:
            record["data"] = event.data
        self._write(record)

    def log(self, line: LogLine) -> None:
        if not line.unfinished:
            self._write({"event": "log", "task": line.task, "line": line.text})

    def end(self, run: RunRecord, state: RunState, event: Event) -> None:
        self._write(end_record(run, state, event))

    def _write(self, record: dict[str, Any]) -> None:
        sys.stdout.buffer.write(msgspec.json.encode(record) + b"\n")
        sys.stdout.buffer.flush()


class PlainLines(_Lines):
    """Lines for a pipe or a file: a stage once it is over, a log line as it comes."""

    def __init__(self, run: RunRecord) -> None:
        self.run = run
        self._shown: deque[tuple[str, str]] = deque(maxlen=SHOWN_LINES)

    def event(self, event: Event, state: RunState) -> None:
        if event.stage and len(state.stages) > 1:
            left = state.stages[-2]
            click.echo(f"{left.stage} {duration(left.seconds)}")
        if event.fact == "submitted":
            click.echo(f"Submitted {self.run.id}")
        elif event.reason and (event.stage or event.fact == "waiting"):
            click.echo(f"{state.stage}: {event.reason}")
        elif event.fact == "warning":
            click.echo(f"warning: {event.reason}")

    def log(self, line: LogLine) -> None:
        if not line.unfinished:
            text = printable(line.text)
            self._shown.append((line.task, text))
            sys.stdout.write(f"{line.task} | {text}\n")
            sys.stdout.flush()

    def end(self, run: RunRecord, state: RunState, event: Event) -> None:
        if len(state.stages) > 1:
            click.echo(f"{state.stages[-2].stage} {duration(state.stages[-2].seconds)}")
        tell_end(run, state, event, self._shown)
