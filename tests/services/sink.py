"""
What answers like blob storage, as fast as this machine moves bytes, and keeps of large values their sizes only.

For benchmarks: it shows what a client can do where the emulator cannot, which works on one core and computes a
checksum of each block in JavaScript. Values of 1 MiB or more are taken for the pattern that `content` gives, or for
zeros where they begin so, so that what comes back can be checked. Signatures and conditions are not looked at; a
listing has everything on one page.
"""

import mmap
import re
import socket
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from services.server import Server

_MIB = 1 << 20
_PERIOD = 256
_PATTERN = bytes(range(_PERIOD)) * (2 * _MIB // _PERIOD)
_ZEROS = bytes(2 * _MIB)
_WHEN = "Mon, 23 Nov 2026 17:00:00 GMT"
_ABOUT = (
    f'ETag: "0x8DE"\r\nLast-Modified: {_WHEN}\r\nx-ms-blob-type: BlockBlob\r\nx-ms-blob-append-offset: 0\r\n'
    "Content-Type: application/xml\r\n"
)


class Sink:
    """
    A running sink; `close` ends it.

    wait_s: how long each answer is held back, as a network would; connection_mib_s: what one connection carries, as
    a long way lets it; 0 for all that it can.
    """

    def __init__(self, wait_s: float = 0.0, connection_mib_s: float = 0.0) -> None:
        argv = [sys.executable, "-m", "services.sink", str(wait_s), str(connection_mib_s)]
        self._server = Server(argv, r"listens on (\S+)", Path(__file__).parents[1])
        self.endpoint = f"{self._server.found}/sink"

    def close(self) -> None:
        self._server.close()


def content(size_bytes: int) -> bytes:
    """What to send, as much of it as fits in 2 MiB: larger values are this again and again."""
    return _PATTERN[:size_bytes]


class _Blobs:
    """Sizes by path, small values themselves, which are zeros, and sizes of blocks that no list names yet."""

    def __init__(self) -> None:
        self.sizes: dict[str, int] = {}
        self.small: dict[str, bytes] = {}
        self.zeros: set[str] = set()
        self._same: dict[bytes, bytes] = {}
        self.blocks: dict[tuple[str, str], int] = {}

    def put(self, path: str, asked: dict[str, list[str]], size_bytes: int, body: bytes) -> None:
        """body: all of a small value, the beginning of a large one."""
        what = asked.get("comp", [""])[0]
        if size_bytes >= _MIB and body.startswith(b"\0\0"):
            self.zeros.add(path)
        if what == "block":
            self.blocks[path, asked["blockid"][0]] = size_bytes
        elif what == "blocklist":
            names = re.findall(r"<Latest>(.*?)</Latest>", body.decode())
            self.sizes[path] = sum(self.blocks[path, name] for name in names)
        elif what == "appendblock":
            self.small[path] += body
            self.sizes[path] += size_bytes
        elif not what and "restype" not in asked:
            self.sizes[path] = size_bytes
            if size_bytes < _MIB:
                self.small[path] = self._same.setdefault(body, body)

    def listed(self, container: str, prefix: str) -> bytes:
        start = f"{container}/{prefix}"
        about = (
            f"<Last-Modified>{_WHEN}</Last-Modified><Etag>0x8DE</Etag><BlobType>BlockBlob</BlobType>"
            "<Content-Type>application/octet-stream</Content-Type>"
        )
        blobs = "".join(
            f"<Blob><Name>{path[len(container) + 1 :]}</Name><Properties>{about}"
            f"<Content-Length>{size_bytes}</Content-Length></Properties></Blob>"
            for path, size_bytes in sorted(self.sizes.items())
            if path.startswith(start)
        )
        return (
            '<?xml version="1.0" encoding="utf-8"?><EnumerationResults ServiceEndpoint="sink" ContainerName="sink">'
            f"<Blobs>{blobs}</Blobs><NextMarker /></EnumerationResults>"
        ).encode()


class _Pace:
    """Holds a connection back to so many bytes a second, from when it was made; 0 for as many as it can."""

    def __init__(self, bytes_s: float) -> None:
        self._bytes_s = bytes_s
        self._next_at = 0.0

    def passed(self, count: int) -> None:
        if self._bytes_s:
            now = time.monotonic()
            self._next_at = max(self._next_at, now) + count / self._bytes_s
            time.sleep(self._next_at - now)


def _serve(client: socket.socket, blobs: _Blobs, wait_s: float, pace: _Pace) -> None:
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    # At the beginning of a page: some processors are slow to fill what the allocator gives.
    buffer = memoryview(mmap.mmap(-1, _MIB, mmap.MAP_PRIVATE))
    rest = b""
    while True:
        while b"\r\n\r\n" not in rest:
            more = client.recv(65536)
            if not more:
                return
            rest += more
        head, _, rest = rest.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        method, target, _ = first.split(" ")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        size_bytes = int(headers.get("content-length") or 0)
        body, rest = rest[:size_bytes], rest[size_bytes:]
        left = size_bytes - len(body)
        kept = size_bytes < _MIB
        while left:
            count = client.recv_into(buffer[: min(left, _MIB)])
            if not count:
                return
            if kept or not body:
                body += bytes(buffer[: count if kept else 2])
            left -= count
            pace.passed(count)
        time.sleep(wait_s)
        _answer(client, blobs, pace, method, target, headers, size_bytes, body)


def _answer(
    client: socket.socket,
    blobs: _Blobs,
    pace: _Pace,
    method: str,
    target: str,
    headers: dict[str, str],
    size_bytes: int,
    body: bytes,
) -> None:
    url = urlsplit(target)
    path, asked = unquote(url.path), parse_qs(url.query)
    what = asked.get("comp", [""])[0]
    if method == "PUT":
        blobs.put(path, asked, size_bytes, body)
        _say(client, "201 Created", 0)
    elif what == "list":
        listed = blobs.listed(path.rstrip("/"), asked.get("prefix", [""])[0])
        _say(client, "200 OK", len(listed))
        client.sendall(listed)
    elif what == "blocklist":
        none = b'<?xml version="1.0" encoding="utf-8"?><BlockList><UncommittedBlocks/></BlockList>'
        _say(client, "200 OK", len(none))
        client.sendall(none)
    elif "restype" in asked:
        _say(client, "200 OK", 0)
    elif path not in blobs.sizes:
        _say(client, "404 Absent", 0, "x-ms-error-code: BlobNotFound\r\n")
    elif method == "HEAD":
        _say(client, "200 OK", blobs.sizes[path])
    else:
        wanted = headers.get("x-ms-range") or headers.get("range") or ""
        large = _ZEROS if path in blobs.zeros else _PATTERN
        _give(client, pace, blobs.sizes[path], blobs.small.get(path), large, wanted)


def _give(
    client: socket.socket, pace: _Pace, size_bytes: int, small: bytes | None, large: bytes, wanted: str
) -> None:
    found = re.match(r"bytes=(\d+)-(\d*)", wanted)
    start = int(found[1]) if found else 0
    end = min(int(found[2]) + 1, size_bytes) if found and found[2] else size_bytes
    said = f"Content-Range: bytes {start}-{end - 1}/{size_bytes}\r\n" if found else ""
    _say(client, "206 Part" if found else "200 OK", end - start, said)
    if small is not None:
        client.sendall(small[start:end])
        return
    pattern = memoryview(large)[start % _PERIOD :][:_MIB]
    for at in range(start, end, _MIB):
        client.sendall(pattern[: end - at])
        pace.passed(min(_MIB, end - at))


def _say(client: socket.socket, status: str, length: int, more: str = "") -> None:
    client.sendall(f"HTTP/1.1 {status}\r\n{_ABOUT}{more}Content-Length: {length}\r\n\r\n".encode())


def main() -> None:
    blobs, wait_s, connection_mib_s = _Blobs(), float(sys.argv[1]), float(sys.argv[2])
    server = socket.create_server(("127.0.0.1", 0), backlog=128)
    print(f"listens on http://127.0.0.1:{server.getsockname()[1]}", flush=True)

    def safe(client: socket.socket) -> None:
        with suppress(OSError):  # the client left
            _serve(client, blobs, wait_s, _Pace(connection_mib_s * _MIB))

    while True:
        client, _ = server.accept()
        threading.Thread(target=safe, args=(client,), daemon=True).start()


if __name__ == "__main__":
    main()
