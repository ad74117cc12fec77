"""Numbers that nobody is given twice: an append to a file gets an offset of its own, and that is the number."""

import os
import time
from collections.abc import Callable

from tensoryard.store import Store

TICKET_BYTES = 16
# An Azure append blob takes 50,000 appends; the rest is room for those that are under way when a file fills up.
TICKETS_PER_FILE = 40_000


def take_number(
    store: Store,
    key_of_file: Callable[[int], str],
    *,
    known_file: int | None = None,
    before_first: Callable[[], None] = lambda: None,
) -> int:
    """
    A number, from 1, that nobody was given before or will be; one that is not used leaves a gap.

    key_of_file: the key of each file of tickets, which are numbered from 0. known_file: the one that had room when
    the caller last took a number; it spares a request. before_first: called before there is any file.
    """
    file = known_file or 0
    while True:
        key = key_of_file(file)
        entry = store.stat(key) if file != known_file else None
        if entry is None and file == 0 != known_file:
            before_first()
        if entry is None or entry.size_bytes < TICKETS_PER_FILE * TICKET_BYTES:
            # What it says is for people, and tells it from others'; only where it lies counts.
            ticket = f"{int(time.time()):010d} {os.urandom(2).hex()}\n".encode()
            # Rounded down, so that numbers stay apart even behind a ticket that a full disk cut short.
            place = store.append(key, ticket) // TICKET_BYTES
            if place < TICKETS_PER_FILE:
                return file * TICKETS_PER_FILE + place + 1
        file += 1
