"""Numbers that nobody is given twice: an append to a file gets an offset of its own, and that is the number."""

import os
import time
from collections.abc import Callable

from tensoryard.errors import NotFoundError
from tensoryard.store import Store

TICKET_BYTES = 16
# An Azure append blob takes 50,000 appends; the rest is room for those that are under way when a file fills up.
TICKETS_PER_FILE = 40_000


def take_number(
    store: Store,
    key_of_file: Callable[[int], str],
    *,
    known_file: int = 0,
    before_first: Callable[[], None] = lambda: None,
) -> int:
    """
    A number, from 1, that nobody was given before or will be; one that is not used leaves a gap.

    key_of_file: the key of each file of tickets, which are numbered from 0. known_file: the one that had room when
    the caller last took a number; it spares the requests that find the others full. before_first: called before
    there is any file.
    """
    file = known_file
    while True:
        key = key_of_file(file)
        # What it says is for people, and tells it from others'; only where it lies counts.
        ticket = f"{int(time.time()):010d} {os.urandom(2).hex()}\n".encode()
        try:
            # By its place alone, without a look before: a number whose answer was lost is one that is not used.
            start = store.claim(key, ticket, TICKETS_PER_FILE * TICKET_BYTES)
        except NotFoundError:
            if file == 0:
                before_first()
            start = store.append(key, ticket)
        # Rounded down, so that numbers stay apart even behind a ticket that a full disk cut short.
        if start is not None and start // TICKET_BYTES < TICKETS_PER_FILE:
            return file * TICKETS_PER_FILE + start // TICKET_BYTES + 1
        file += 1
