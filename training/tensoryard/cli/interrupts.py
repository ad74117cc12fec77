"""What Ctrl-C and the other signals mean to a run that is followed."""

import os
import signal
import sys
from collections.abc import Callable
from enum import Enum
from types import FrameType, TracebackType
from typing import ClassVar

import click

from tensoryard.run import RunRecord


class Wish(Enum):
    GO_ON = "go on"
    CANCEL = "cancel"
    KILL = "kill"
    DETACH = "detach"


class Interrupts:
    """
    Takes SIGINT and SIGTERM while a run is followed.

    In a terminal the first Ctrl-C asks; a second one, at the question or after `cancel`, kills. Without a
    terminal the first SIGINT cancels a run of one's own and the second kills it; a run of others is let go.
    SIGTERM lets go: the run belongs to its controller and goes on, as it does when the terminal is closed.

    woken: a file descriptor that is readable when a signal has come, so that nobody sleeps over it.
    """

    woken: ClassVar[int | None] = None

    def __init__(self, run: RunRecord, *, own: bool) -> None:
        self.run = run
        self.own = own
        self.detached_code = 0
        self._signals: list[int] = []
        self._canceling = False

    @property
    def pending(self) -> bool:
        return bool(self._signals)

    def handle(self, ask: Callable[[Callable[[], Wish]], Wish], say: Callable[[str], None]) -> Wish:
        """What is to be done about the signals that came; it is done, but for letting go."""
        came, self._signals = self._signals, []
        if self.woken is not None:
            os.read(self.woken, 512)
        if signal.SIGTERM in came:
            self.detached_code = 1
            return Wish.DETACH
        if self._canceling or len(came) > 1:
            wish = Wish.KILL
        elif sys.stdin.isatty() and sys.stdout.isatty():
            wish = ask(self._ask)
        elif self.own:
            wish = Wish.CANCEL
        else:
            self.detached_code = 1
            return Wish.DETACH
        if wish in (Wish.CANCEL, Wish.KILL):
            self._canceling = True
            self.run.request_cancel(kill=wish is Wish.KILL)
            now = "Killing" if wish is Wish.KILL else "Canceling"
            again = "" if wish is Wish.KILL else "; Ctrl-C again kills it"
            say(f"{now} {self.run.id}{again}")
        return wish

    def _ask(self) -> Wish:
        click.echo(
            f"{self.run.id} is still running: c cancels it, d detaches and lets it run,\n"
            "Ctrl-C again kills it, any other key keeps following",
            err=True,
        )
        previous = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            key = click.getchar()
        except KeyboardInterrupt:
            key = "k"
        except EOFError:
            key = ""
        finally:
            signal.signal(signal.SIGINT, previous)
        wish = {"c": Wish.CANCEL, "d": Wish.DETACH, "k": Wish.KILL}.get(key.lower(), Wish.GO_ON)
        click.echo(wish.value, err=True)
        return wish

    def _came(self, number: int, frame: FrameType | None) -> None:
        self._signals.append(number)

    def __enter__(self) -> "Interrupts":
        reading, writing = os.pipe()
        os.set_blocking(reading, False)
        os.set_blocking(writing, False)
        Interrupts.woken = reading
        self._writing = writing
        self._previous_wakeup = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        self._previous = {number: signal.signal(number, self._came) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._previous_wakeup)
        if Interrupts.woken is not None:
            os.close(Interrupts.woken)
        os.close(self._writing)
        Interrupts.woken = None
