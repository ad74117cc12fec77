"""The live view of a run in a terminal: its logs roll by above a few lines that say how it stands."""

import time
from collections import deque
from collections.abc import Callable
from types import TracebackType

import click
from rich.console import Console
from rich.constrain import Constrain
from rich.live import Live
from rich.text import Text

from tensoryard.cli.ending import SHOWN_LINES, tell_end, total_seconds
from tensoryard.cli.interrupts import Wish
from tensoryard.cli.last_metrics import LastMetrics
from tensoryard.cli.tables import pairs
from tensoryard.run import Event, RunRecord, RunState
from tensoryard.stream import LogLine
from tensoryard.text import duration, printable

_COLOURS = ("cyan", "magenta", "green", "yellow", "blue", "bright_cyan", "bright_magenta", "bright_green")
_DRAW_SECONDS = 0.1
_METRICS_SECONDS = 1.0
# Lines come in batches: drawing anew for each would be slower than most scripts print.
_BATCH_LINES = 500
_BATCH_CHARACTERS = 256 << 10
_BARS = 4


class LiveView:
    """
    Draws only when it is called, without a thread: this process forks when a controller is needed.

    A script's text is never read as markup, and what would move the cursor is taken out of it.
    """

    def __init__(self, run: RunRecord) -> None:
        self.run = run
        self.metrics = LastMetrics(run)
        self._colours = {task.name: _COLOURS[at % len(_COLOURS)] for at, task in enumerate(run.job.tasks())}
        self._console = Console(highlight=False, markup=False, emoji=False)
        self._live = Live(
            console=self._console,
            auto_refresh=False,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
            vertical_overflow="crop",
        )
        self._batch = Text()
        self._batched = 0
        self._shown: deque[tuple[str, str]] = deque(maxlen=SHOWN_LINES)
        self._bars: dict[str, str] = {}
        self._drawn_at = 0.0
        self._metrics_at = 0.0
        self._state = RunState()

    def event(self, event: Event, state: RunState) -> None:
        self._state = state
        if event.fact == "submitted":
            self._add(f"Submitted {self.run.id}\n", "bold")
        elif event.fact == "warning":
            self._add(f"warning: {printable(event.reason or '')}\n", "yellow")
        self._draw()

    def log(self, line: LogLine) -> None:
        if line.unfinished:
            self._bars[line.task] = printable(line.text)
            return
        self._bars.pop(line.task, None)
        self._add(f"{line.task} | ", self._colours.get(line.task, "dim"))
        clean = printable(line.text)
        self._shown.append((line.task, clean))
        self._add(f"{clean}\n")
        self._batched += 1
        if self._batched >= _BATCH_LINES or len(self._batch) >= _BATCH_CHARACTERS:
            self._draw()

    def tick(self, state: RunState) -> None:
        self._state = state
        if self._batch or time.monotonic() - self._drawn_at >= _DRAW_SECONDS:
            self._draw()

    def end(self, run: RunRecord, state: RunState, event: Event) -> None:
        stages = " · ".join(f"{span.stage} {duration(span.seconds)}" for span in state.stages[:-1])
        if stages:
            click.echo(stages)
        tell_end(run, state, event, self._shown)

    def ask(self, question: Callable[[], Wish]) -> Wish:
        self._clear()
        self._live.stop()
        try:
            return question()
        finally:
            self._live.start()

    def say(self, text: str) -> None:
        self._add(f"{text}\n", "bold")
        self._draw()

    def __enter__(self) -> "LiveView":
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._clear()
        self._live.stop()

    def _clear(self) -> None:
        self._print_batch()
        # Else the next start would draw over the lines that were printed meanwhile.
        self._live.update(Text(), refresh=True)

    def _add(self, text: str, style: str | None = None) -> None:
        self._batch.append(text, style)

    def _draw(self) -> None:
        now = time.monotonic()
        if now - self._metrics_at >= _METRICS_SECONDS and self._state.stage != "Preparing":
            self._metrics_at = now
            self.metrics.refresh()
        self._drawn_at = now
        self._live.update(self._status(), refresh=not self._batch)
        self._print_batch()

    def _print_batch(self) -> None:
        if self._batch:
            batch, self._batch, self._batched = self._batch, Text(), 0
            self._console.print(batch, end="", soft_wrap=True)

    def _status(self) -> Constrain:
        state = self._state
        text = Text(no_wrap=True, overflow="ellipsis")
        for task in list(self._bars)[:_BARS]:
            text.append(f"{task} | ", self._colours.get(task, "dim"))
            text.append(f"{self._bars[task]}\n")
        text.append(self._progress(state))
        if state.reason and state.stages:
            text.append(f"\n  {printable(state.reason)}", "yellow")
        if self.metrics.values:
            text.append(f"\n  {printable(pairs(self.metrics.values))}", "green")
        # A terminal shows `^C` behind the last line: where that made a line more, clearing would leave one standing.
        return Constrain(text, self._width())

    def _width(self) -> int:
        return max(10, self._console.width - len("^C^C"))

    def _progress(self, state: RunState) -> Text:
        """The run, its stages and its time; where that is too long, without the earlier stages, time and run."""
        if state.stages:
            *earlier, now = (f"{span.stage} {duration(span.seconds)}" for span in state.stages)
        else:
            earlier, now = [], printable(state.reason or "waiting for the controller")
        run, total = f"{self.run.id}  ", f"  ({duration(total_seconds(state))})"
        room = self._width() - len(now) - len(run) - len(total)
        while earlier and len(" · ".join(earlier)) + len(" · ") > room:
            del earlier[0]
        if room < 0:
            room, total = room + len(total), ""
        if room < 0:
            run = ""
        past = "".join(f"{stage} · " for stage in earlier)
        return Text.assemble((run, "bold"), (past, "dim"), (now, "bold cyan"), (total, "dim"))
