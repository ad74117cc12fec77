"""Follows a run: its events and the log of every task, as they are written, in bounded memory."""

import itertools
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

from tensoryard.errors import NotFoundError
from tensoryard.run import Event, RunRecord, RunState
from tensoryard.store import is_folder

# A line longer than this is passed on in pieces: a log may be one line of a gigabyte.
LINE_BYTES = 64 << 10
READ_BYTES = 256 << 10
READ_REMOTE_BYTES = 1 << 20  # each read is a way over a network
# A task that writes faster than this reads would otherwise keep everything else from being seen.
READS_A_LOOK = 32
# A folder is looked at less often the longer it has been silent: looking takes time from the script.
FOLDER_SECONDS = 0.05
FOLDER_SILENT_SECONDS = 0.15
# With what is behind on its way there, a line is seen 3 s after it was written at the latest.
REMOTE_SECONDS = 1.0
CONTROLLER_SECONDS = 2.0
_OF_NO_TASK = ("preparing", "launch")
_BEFORE_TASKS = ("Preparing", "Scaling")


class LogLine(NamedTuple):
    """
    One line of a task's log, without its line break. task: such as worker-0, or preparing, or launch.

    unfinished: the present state of a progress bar, which goes on to write over itself.
    """

    task: str
    text: str
    unfinished: bool = False


class _Log:
    def __init__(self, run: RunRecord, task: str) -> None:
        self.task = task
        self.run = run
        self.key = run.key(f"logs/{task}.log")
        self.local = is_folder(run.store)
        self.offset = 0
        self.size_bytes: int | None = None
        self.rest = b""
        self.bar = b""

    def lines(self, reads: int | None = READS_A_LOOK) -> Iterator[LogLine]:
        """Lines that have been completed since the last look; reads: at most so many, None for all there are."""
        for _ in itertools.count() if reads is None else range(reads):
            if self.size_bytes is not None and self.offset >= self.size_bytes:
                return
            try:
                data = self.run.store.read(self.key, self.offset, READ_BYTES if self.local else READ_REMOTE_BYTES)
            except NotFoundError:
                return
            if not data:
                return
            self.offset += len(data)
            *whole, self.rest = (self.rest + data).split(b"\n")
            for line in whole:
                yield from self._pieces(line)
            while len(self.rest) > LINE_BYTES:
                cut = _cut(self.rest, 0)
                yield LogLine(self.task, self.rest[:cut].decode(errors="replace"))
                self.rest = self.rest[cut:]

    def progress(self) -> Iterator[LogLine]:
        """A progress bar, when it has moved: it ends in a carriage return, and in a line break only at its end."""
        _, mark, bar = self.rest.rstrip(b"\r").rpartition(b"\r")
        if mark and bar and bar != self.bar:
            self.bar = bar
            yield LogLine(self.task, bar.decode(errors="replace"), unfinished=True)

    def last(self) -> Iterator[LogLine]:
        yield from self.lines(reads=None)
        if self.rest:
            yield from self._pieces(self.rest)
            self.rest = b""

    def _pieces(self, line: bytes) -> Iterator[LogLine]:
        start = 0
        while True:
            cut = _cut(line, start)
            yield LogLine(self.task, line[start:cut].rstrip(b"\r").decode(errors="replace"))
            start = cut
            if start >= len(line):
                return


def _cut(line: bytes, start: int) -> int:
    """Where the piece of a line that begins at start ends: not in the middle of a character of UTF-8."""
    cut = start + LINE_BYTES
    if cut >= len(line):
        return len(line)
    for back in range(4):
        if line[cut - back] & 0xC0 != 0x80:
            return cut - back
    return cut


def follow(
    run: RunRecord,
    ensure_controller: Callable[[], None] | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[Event | LogLine | None]:
    """
    Everything that the run has recorded and goes on to record, until it has ended.

    ensure_controller: called now and then while the run has not ended, in case the controller was killed;
    sleep: waits so many seconds, or less.
    Yields None when there is nothing new, so that a caller can do something else.
    """
    local = is_folder(run.store)
    logs = [_Log(run, name) for name in (*_OF_NO_TASK, *(task.name for task in run.job.tasks()))]
    state = RunState()
    offset = 0
    checked = heard = time.monotonic()
    begun = False
    while True:
        events, offset = run.events(offset)
        if not local:
            _look_at_sizes(run, logs)
        for event in events:
            if event.stage is None or not _is_end(event):
                # What was written in the stage that is left comes before its end.
                for log in {"Scaling": logs[:1], "Post-processing": logs}.get(event.stage or "", []):
                    yield from log.last()
                state.add(event)
                begun = begun or event.stage == "Running"
                yield event
        ending = next((event for event in events if _is_end(event)), None)
        # A script may write before the controller has said that it runs: what tasks say comes after that.
        shown = logs if begun or ending or state.stage not in _BEFORE_TASKS else logs[: len(_OF_NO_TASK)]
        before = sum(log.offset for log in logs)
        for log in shown:
            yield from log.last() if ending else log.lines()
            yield from log.progress()
        if ending:
            yield ending
            return
        if ensure_controller and time.monotonic() - checked > CONTROLLER_SECONDS:
            checked = time.monotonic()
            ensure_controller()
        now = time.monotonic()
        if events or sum(log.offset for log in logs) > before:
            heard = now
        yield None
        if local:
            sleep(min(max(FOLDER_SECONDS, (now - heard) / 20), FOLDER_SILENT_SECONDS))
        elif all(log.offset >= (log.size_bytes or 0) for log in shown):
            sleep(REMOTE_SECONDS)


def _look_at_sizes(run: RunRecord, logs: list[_Log]) -> None:
    """Learn in one request which logs have grown, where each look at one would be a request of its own."""
    sizes = {entry.key: entry.size_bytes for entry in run.store.list(run.key("logs/"))}
    for log in logs:
        log.size_bytes = sizes.get(log.key, 0)


def _is_end(event: Event) -> bool:
    return event.stage in ("Completed", "Failed", "Canceled")
