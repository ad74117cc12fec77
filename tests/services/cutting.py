"""A way to a server that breaks off: bytes pass in both directions until so many were sent, and then no more."""

import contextlib
import socket
import struct
import threading


class Cutting:
    """
    A proxy to `127.0.0.1:port`; host: where it listens.

    left: how many bytes clients may send from now on before every connection is cut; None for any number.
    """

    def __init__(self, target: str) -> None:
        self.left: int | None = None
        self.cuts = 0
        self._target = (target.partition(":")[0], int(target.partition(":")[2]))
        self._lock = threading.Lock()
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.host = f"127.0.0.1:{self._listening.getsockname()[1]}"
        threading.Thread(target=self._listen, daemon=True).start()

    def close(self) -> None:
        self._listening.close()

    def _listen(self) -> None:
        with contextlib.suppress(OSError):  # closed
            while True:
                client, _ = self._listening.accept()
                server = socket.create_connection(self._target)
                for source, sink, counted in ((client, server, True), (server, client, False)):
                    threading.Thread(target=self._carry, args=(source, sink, counted), daemon=True).start()

    def _carry(self, source: socket.socket, sink: socket.socket, counted: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                if counted and not self._may_pass(len(data)):
                    for end in (source, sink):  # at once, and without a word
                        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                        end.shutdown(socket.SHUT_RD)
                        end.close()
                    return
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)

    def _may_pass(self, count: int) -> bool:
        with self._lock:
            if self.left is None:
                return True
            self.left -= count
            self.cuts += self.left < 0
            return self.left >= 0
