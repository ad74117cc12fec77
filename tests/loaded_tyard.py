"""
A `tyard` that is loaded already: one process imports what commands need, and forks for each of them.

Half a second of processor time less for a command on blob storage, nearly all of which was importing Azure's SDK.
What a command gets is its own: process, folder, environment, standard streams and the interpreter's whole end.
"""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping
from functools import cache
from pathlib import Path

# They fork controllers, which are found, and ended, by the environment that a process was started with.
_FORKS = ({"run"}, {"runs", "resubmit"}, {"runs", "cancel"}, {"controller"})
_IMPORTS = (
    "azure.identity",
    "tensoryard.cli.data",
    "tensoryard.cli.models",
    "tensoryard.cli.runs",
    "tensoryard.registry",
    "tensoryard.store.blob",
    "tensoryard.workspace",
)


def _read_at_start(environ: Mapping[str, str]) -> dict[str, str]:
    """What the interpreter looks at where it starts, and never again."""
    return {name: value for name, value in environ.items() if name.startswith(("PYTHON", "LC_", "LANG"))}


_AT_START = _read_at_start(os.environ)


def can_run(words: tuple[str, ...], environ: dict[str, str]) -> bool:
    """Whether a command would be the same here."""
    return not any(forks <= set(words[:2]) for forks in _FORKS) and _read_at_start(environ) == _AT_START


def run(words: tuple[str, ...], folder: Path, environ: dict[str, str]) -> tuple[int, bytes, bytes]:
    """Exit code (negative: the signal), stdout and stderr of a command."""
    answer, theirs = socket.socketpair()
    out, out_end = os.pipe()
    talk, talk_end = os.pipe()
    with contextlib.ExitStack() as ends:
        ends.callback(os.close, out_end)
        ends.callback(os.close, talk_end)
        ends.callback(theirs.close)
        asked = json.dumps([words, str(folder), environ], ensure_ascii=True).encode()
        with _LOCK:
            requests = _server()
            socket.send_fds(requests, [b"%8d" % len(asked)], [out_end, talk_end, theirs.fileno()])
            requests.sendall(asked)
    said: list[bytes] = []
    with os.fdopen(out, "rb") as out_file, os.fdopen(talk, "rb") as talk_file, answer:
        beside = threading.Thread(target=lambda: said.append(talk_file.read()))
        beside.start()
        printed = out_file.read()
        beside.join()
        return int(answer.recv(16)), printed, said[0]


_LOCK = threading.Lock()
_processes: list["subprocess.Popen[bytes]"] = []  # kept, as their pipes are


@cache
def _server() -> socket.socket:
    """It ends when this end of its socket is closed: with this process."""
    ours, theirs = socket.socketpair()
    with theirs:
        process = subprocess.Popen(
            [sys.executable, __file__, str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            # Of the kind that commands get, which Python looks at where it starts.
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
    _processes.append(process)
    return ours


def _serve(requests: socket.socket) -> None:
    """Returns in the process of each command, with its arguments, folder and streams in place."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those that wait for the commands
    while True:
        size, fds, _, _ = socket.recv_fds(requests, 8, 3)
        if not size:
            os._exit(0)
        asked = b""
        while len(asked) < int(size):
            asked += requests.recv(int(size) - len(asked))
        if os.fork() == 0:
            requests.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            out, talk, answer = fds
            child = os.fork()
            if child == 0:
                os.dup2(out, 1)
                os.dup2(talk, 2)
                for fd in fds:
                    os.close(fd)
                words, folder, environ = json.loads(asked)
                os.chdir(folder)
                os.environ.clear()
                os.environ.update(environ)
                sys.argv = ["tyard", *words]
                sys.path[0] = folder
                return
            os.close(out)
            os.close(talk)
            os.write(answer, b"%d" % os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
            os._exit(0)
        for fd in fds:
            os.close(fd)


if __name__ == "__main__":
    import importlib

    for name in _IMPORTS:
        importlib.import_module(name)
    os.fsync = lambda fd: None  # as in the tests themselves
    _serve(socket.socket(fileno=int(sys.argv[1])))
    from tensoryard.__main__ import main

    main()
