"""A network that fails on purpose: a proxy before the storage service, whose faults every client library meets."""

import http.client
import socket
import struct
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import MappingProxyType
from typing import Any, NamedTuple
from urllib.parse import urlsplit

FAULTS = (
    "request lost",  # nothing arrives
    "request torn",  # half of it is read, and nothing arrives
    "answer lost",  # it is carried out, and nobody says so
    "answer torn",  # it is carried out, and half of the answer arrives
    "answer late",  # it is carried out, and nothing is heard until the client gives up
    "500 after",  # it is carried out, and the service says that it failed
    "503",
    "429",
)


class Asked(NamedTuple):
    """number: from 0, in the order of arrival; path: with its query; headers: their names in small letters."""

    number: int
    method: str
    path: str
    headers: dict[str, str]


class Said(NamedTuple):
    """An answer as a service gave it once, which is given without asking the emulator."""

    status: int
    code: str = ""
    headers: Mapping[str, str] = MappingProxyType({})


class Adding(NamedTuple):
    """The emulator's own answer with headers that only the service adds."""

    headers: Mapping[str, str]


Plan = Callable[[Asked], str | Said | Adding | None]


class Faulty:
    """
    A proxy to an emulator, over HTTP.

    plan: the fault that a request shall meet, or None; seen: all that was asked, in order.
    """

    def __init__(self, target: str) -> None:
        self.plan: Plan = lambda asked: None
        self.seen: list[Asked] = []
        self._target = urlsplit(target)
        self._lock = threading.Lock()
        self._closing = threading.Event()
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def handle_one_request(self) -> None:
                try:
                    super().handle_one_request()
                except OSError:  # the client left
                    self.close_connection = True

            def parse_request(self) -> bool:
                if not super().parse_request():
                    return False
                proxy.answer(self)
                return False  # answered already

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.request_queue_size = 128
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        self.endpoint = f"http://127.0.0.1:{self._server.server_address[1]}{self._target.path}"

    def close(self) -> None:
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()

    def again(self, plan: Plan) -> None:
        """Count from 0 again, with another plan."""
        with self._lock:
            self.plan = plan
            self.seen = []

    def answer(self, client: BaseHTTPRequestHandler) -> None:
        with self._lock:
            headers = {name.lower(): value for name, value in client.headers.items()}
            asked = Asked(len(self.seen), client.command, client.path, headers)
            self.seen.append(asked)
            fault = self.plan(asked)
        length = int(client.headers.get("Content-Length") or 0)
        if fault == "request torn":
            client.rfile.read(length // 2)
            _reset(client)
            return
        body = client.rfile.read(length)
        if isinstance(fault, Said):
            _say(client, fault)
        elif fault == "request lost":
            _reset(client)
        elif fault in ("503", "429"):
            _say(client, Said(int(fault), "ServerBusy", {"Retry-After": "0"}))
        else:
            self._pass_on(client, body, fault)

    def _pass_on(self, client: BaseHTTPRequestHandler, body: bytes, fault: str | Adding | None) -> None:
        behind = http.client.HTTPConnection(str(self._target.hostname), self._target.port)
        try:
            behind.putrequest(client.command, client.path, skip_host=True, skip_accept_encoding=True)
            for name, value in client.headers.items():
                if name.lower() != "connection":
                    behind.putheader(name, value)
            behind.endheaders(body)
            answer = behind.getresponse()
            data = answer.read()
        finally:
            behind.close()
        if fault == "answer lost":
            _reset(client)
            return
        if fault == "answer late":
            client.connection.settimeout(0.05)
            while not self._closing.is_set():
                try:
                    if not client.connection.recv(1):
                        break
                except TimeoutError:
                    continue
                except OSError:
                    break
            _reset(client)
            return
        if fault == "500 after":
            _say(client, Said(500, "InternalError"))
            return
        head = f"HTTP/1.1 {answer.status} {answer.reason}\r\n"
        for name, value in answer.getheaders():
            if name.lower() not in ("connection", "transfer-encoding", "content-length", "keep-alive"):
                head += f"{name}: {value}\r\n"
        if isinstance(fault, Adding):
            head += "".join(f"{name}: {value}\r\n" for name, value in fault.headers.items())
        told = answer.getheader("Content-Length") if client.command == "HEAD" else str(len(data))
        head += f"Content-Length: {told or 0}\r\n\r\n"
        whole = head.encode("latin-1") + data
        if fault == "answer torn":
            client.wfile.write(whole[: len(head) // 2 if not data else len(head) + len(data) // 2])
            client.wfile.flush()
            _reset(client)
            return
        client.wfile.write(whole)


def _say(client: BaseHTTPRequestHandler, said: Said) -> None:
    wordless = client.command == "HEAD" or not said.code
    body = b"" if wordless else f"<Error><Code>{said.code}</Code><Message>{said.code}</Message></Error>".encode()
    lines = [f"HTTP/1.1 {said.status} Said", "Content-Type: application/xml"]
    lines += [f"x-ms-error-code: {said.code}"] if said.code else []
    lines += [f"{name}: {value}" for name, value in said.headers.items()]
    lines += [f"Content-Length: {len(body)}", "", ""]
    client.wfile.write("\r\n".join(lines).encode() + body)


def _reset(client: BaseHTTPRequestHandler) -> None:
    """Ends a connection as a broken network does: at once, and without a word."""
    client.close_connection = True
    client.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.connection.shutdown(socket.SHUT_RD)
    client.connection.close()
