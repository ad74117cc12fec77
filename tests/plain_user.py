"""Runs a function as one whom permissions hold for, whoever runs the tests."""

import ctypes
import multiprocessing
import os
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

_CAPABILITY_VERSION_3 = 0x20080522


def as_plain_user(function: Callable[[], Any]) -> Any:
    """
    What a function returns, or the exception that it raises, in a process of its own without root's rights.

    The user stays the same, so that the files of the test are its own. Source: capset(2).
    """
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe()

    def body(answer: Connection) -> None:
        if os.geteuid() == 0:
            header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
            assert ctypes.CDLL(None).capset(header, (ctypes.c_uint32 * 6)()) == 0
        try:
            answer.send(function())
        except Exception as error:
            answer.send(error)

    process = context.Process(target=body, args=(there,))
    process.start()
    there.close()
    found = here.recv()
    process.join()
    return found
