"""
A process that kills itself by SIGKILL at a step of its work, half-way through a write too.

A step is whatever changes a disk, a storage account or a registry of images: a system call, or a request.
"""

import http.client
import io
import itertools
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from typing import Any


def die_at(step: int, *, torn: bool) -> None:
    """
    Let this process die at its n-th step from now, before it or, with torn, half-way through what it writes.

    Requests that only read are no steps: what they give is written next.
    """
    count = itertools.count(1)
    lock = threading.Lock()

    def wrapped(call: Callable[..., Any], half: Callable[..., Any] | None = None) -> Callable[..., Any]:
        def run(*arguments: Any, **options: Any) -> Any:
            with lock:
                now = next(count)
            if now == step:
                if torn and half:
                    half(*arguments)
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*arguments, **options)

        return run

    for name in ("link", "replace", "unlink", "mkdir", "rmdir", "ftruncate", "utime"):
        setattr(os, name, wrapped(getattr(os, name)))
    write, opened, opened_file = os.write, os.open, io.open
    os.write = wrapped(write, lambda fd, data: write(fd, bytes(data)[: len(data) // 2]))
    creating = wrapped(opened)
    os.open = lambda path, flags, *rest, **options: (  # type: ignore[assignment]
        creating if flags & os.O_CREAT else opened
    )(path, flags, *rest, **options)

    class Dying(io.FileIO):
        write = wrapped(io.FileIO.write, lambda file, data: io.FileIO.write(file, data[: len(data) // 2]))

    def open_unbuffered(path: Any, mode: str = "r", buffering: int = -1, *rest: Any, **options: Any) -> Any:
        if buffering or mode == "rb":
            return opened_file(path, mode, buffering, *rest, **options)
        return wrapped(Dying)(path, mode.replace("b", ""))

    io.open = open_unbuffered  # type: ignore[assignment]
    from requests.adapters import HTTPAdapter

    asked = HTTPAdapter.send
    changing = wrapped(asked)

    def send(adapter: HTTPAdapter, request: Any, **options: Any) -> Any:
        is_step = request.method not in ("GET", "HEAD")
        return (changing if is_step else asked)(adapter, request, **options)

    HTTPAdapter.send = send  # type: ignore[method-assign]
    to_registry = http.client.HTTPConnection.request
    sending = wrapped(
        to_registry,
        lambda connection, method, url, body, *rest: to_registry(
            connection, method, url, body and body[: len(body) // 2], *rest
        ),
    )

    def request(connection: Any, method: str, *rest: Any, **options: Any) -> None:
        is_step = method not in ("GET", "HEAD")
        (sending if is_step else to_registry)(connection, method, *rest, **options)

    http.client.HTTPConnection.request = request  # type: ignore[method-assign]


def killed(step: int, work: Callable[[], object], *, torn: bool) -> bool:
    """Whether a process of its own was killed at a step of its work; False where the work has fewer."""
    child = os.fork()
    if child == 0:
        try:
            die_at(step, torn=torn)
            work()
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            sys.stderr.flush()
            os._exit(1)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, -signal.SIGKILL)
    return code != 0
