"""
An index with packages of next to nothing, over HTTP: for environments whose packages nobody uses.

What it does not show: packages that have to be compiled, or that are large.
"""

import base64
import hashlib
import io
import ssl
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class PackageIndex:
    """
    A running index of packages, each by its name and version with one module; host: its address and port.

    url: for `UV_DEFAULT_INDEX`; text: of the modules; login: user and password that it asks for, as "user:password";
    tls: files of its certificate and key, None for plain HTTP.
    """

    def __init__(
        self, packages: dict[str, str], text: str = "", login: str = "", tls: tuple[Path, Path] | None = None
    ) -> None:
        pages: dict[str, bytes] = {}
        for name, version in packages.items():
            module = name.replace("-", "_")
            file = f"{module}-{version}-py3-none-any.whl"
            wheel = _wheel(name, module, version, text)
            link = f'<a href="/files/{file}#sha256={hashlib.sha256(wheel).hexdigest()}">{file}</a>'
            pages |= {f"/simple/{name}/": link.encode(), f"/files/{file}": wheel}
        allowed = "Basic " + base64.b64encode(login.encode()).decode()

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                known = not login or self.headers.get("Authorization") == allowed
                body = pages.get(self.path, b"") if known else b""
                self.send_response((200 if self.path in pages else 404) if known else 401)
                self.send_header("Content-Type", "text/html" if self.path.endswith("/") else "application/zip")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if self.command == "GET":
                    self.wfile.write(body)

            def do_HEAD(self) -> None:
                self.do_GET()

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*tls)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.host = f"127.0.0.1:{self._server.server_port}"
        self.url = f"{'https' if tls else 'http'}://{f'{login}@' if login else ''}{self.host}/simple"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def _wheel(name: str, module: str, version: str, text: str) -> bytes:
    info = f"{module}-{version}.dist-info"
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr(f"{module}.py", text)
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        files = (f"{module}.py", f"{info}/METADATA", f"{info}/WHEEL", f"{info}/RECORD")
        archive.writestr(f"{info}/RECORD", "".join(f"{file},,\n" for file in files))
    return made.getvalue()
