"""How far a transfer is: a bar on a terminal, a line now and then elsewhere."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import TextIO

from tensoryard.text import duration, size

# A line more often than this would fill a log; a short transfer has none.
_LINE_EVERY_S = 10.0


class Progress:
    """Told of bytes and files as they are done, by any thread; this one shows nothing."""

    def advance(self, size_bytes: int) -> None:
        """So many bytes more are done."""

    def file_done(self) -> None:
        """One file more is done."""


class Lines(Progress):
    """
    A line of text every few seconds.

    title: such as "Uploaded"; every_s: seconds between two lines, and before the first.
    """

    def __init__(self, title: str, files: int, size_bytes: int, out: TextIO, every_s: float = _LINE_EVERY_S) -> None:
        self._title = title
        self._total = files, size_bytes
        self._out = out
        self._every_s = every_s
        self._files = self._bytes = 0
        self._began = self._said = time.monotonic()
        self._lock = Lock()

    def advance(self, size_bytes: int) -> None:
        with self._lock:
            self._bytes += size_bytes
            self._say()

    def file_done(self) -> None:
        with self._lock:
            self._files += 1
            self._say()

    def _say(self) -> None:
        now = time.monotonic()
        if now - self._said < self._every_s:
            return
        self._said = now
        rate = self._bytes / max(now - self._began, 1e-3)
        files, size_bytes = self._total
        left = f", {duration((size_bytes - self._bytes) / rate)} left" if rate else ""
        print(
            f"{self._title} {self._files} of {files} files, {size(self._bytes)} of {size(size_bytes)},"
            f" {size(rate)}/s{left}",
            file=self._out,
            flush=True,
        )


@contextmanager
def shown(doing: str, done: str, files: int, size_bytes: int, show: bool) -> Iterator[Progress]:
    """
    What to tell of the progress: shown on stderr when show is true.

    doing, done: the verb for a bar and for a line, such as "Uploading" and "Uploaded".
    """
    if not show or not files:
        yield Progress()
    elif sys.stderr.isatty():
        with _bar(doing, files, size_bytes) as bar:
            yield bar
    else:
        yield Lines(done, files, size_bytes, sys.stderr)


@contextmanager
def _bar(title: str, files: int, size_bytes: int) -> Iterator[Progress]:
    from rich import progress as rich  # its import is for terminals only
    from rich.console import Console

    columns = (
        rich.TextColumn(title),
        rich.BarColumn(),
        rich.DownloadColumn(),
        rich.TextColumn("{task.fields[done]}/{task.fields[files]} files"),
        rich.TransferSpeedColumn(),
        rich.TimeRemainingColumn(),
    )
    with rich.Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=size_bytes, done=0, files=files)
        lock = Lock()
        count = 0

        class Bar(Progress):
            def advance(self, size_bytes: int) -> None:
                bar.advance(task, size_bytes)

            def file_done(self) -> None:
                nonlocal count
                with lock:
                    count += 1
                    bar.update(task, done=count)

        yield Bar()
