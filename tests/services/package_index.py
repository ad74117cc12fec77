"""
An index with packages of next to nothing, over HTTP: for environments whose packages nobody uses.

What it does not show: packages that have to be compiled, or that are large.
"""

import hashlib
import io
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class PackageIndex:
    """A running index of packages, each by its name and version with one module; url: for `UV_DEFAULT_INDEX`."""

    def __init__(self, packages: dict[str, str]) -> None:
        pages: dict[str, bytes] = {}
        for name, version in packages.items():
            module = name.replace("-", "_")
            file = f"{module}-{version}-py3-none-any.whl"
            wheel = _wheel(name, module, version)
            link = f'<a href="/files/{file}#sha256={hashlib.sha256(wheel).hexdigest()}">{file}</a>'
            pages |= {f"/simple/{name}/": link.encode(), f"/files/{file}": wheel}

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = pages.get(self.path, b"")
                self.send_response(200 if self.path in pages else 404)
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
        self.url = f"http://127.0.0.1:{self._server.server_port}/simple"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def _wheel(name: str, module: str, version: str) -> bytes:
    info = f"{module}-{version}.dist-info"
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr(f"{module}.py", f'__version__ = "{version}"\n')
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        files = (f"{module}.py", f"{info}/METADATA", f"{info}/WHEEL", f"{info}/RECORD")
        archive.writestr(f"{info}/RECORD", "".join(f"{file},,\n" for file in files))
    return made.getvalue()
