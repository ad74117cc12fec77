"""
Docker's own registry, as Debian packages it: the real distribution protocol on a port of this machine.

What it does not show: the limits and redirects of other registries.
"""

import shutil
from pathlib import Path

from services.debian import unpacked
from services.server import Server


class OciRegistry:
    """
    A running registry with its blobs in a folder; `close` ends it, and so does the end of this process.

    htpasswd: a file of users, whom it then asks for names and passwords; auth: what else it asks for, in its
    configuration's words; address: where it listens, port: 0 for any that is free; tls: files of its certificate and
    key, None for plain HTTP.
    """

    def __init__(
        self,
        folder: Path,
        htpasswd: Path | None = None,
        auth: str = "",
        address: str = "127.0.0.1",
        tls: tuple[Path, Path] | None = None,
        port: int = 0,
    ) -> None:
        secured = f", tls: {{certificate: '{tls[0]}', key: '{tls[1]}'}}" if tls else ""
        config = [
            "version: 0.1",
            "log: {level: info, accesslog: {disabled: true}}",
            f"storage: {{filesystem: {{rootdirectory: '{folder / 'blobs'}'}}, delete: {{enabled: true}}}}",
            f"http: {{addr: '{address}:{port}'{secured}}}",
        ]
        if htpasswd:
            auth = f"{{htpasswd: {{realm: tests, path: '{htpasswd}'}}}}"
        if auth:
            config.append(f"auth: {auth}")
        file = folder / "config.yml"
        file.write_text("\n".join(config) + "\n")
        self._server = Server([program(), "serve", str(file)], r"listening on ([\d.]+:\d+)")
        self.host = self._server.found

    def close(self) -> None:
        self._server.close()


def program() -> str:
    """The path of the registry: installed, or unpacked from its package now, never installed with its service."""
    return shutil.which("docker-registry") or str(unpacked("docker-registry") / "usr" / "bin" / "docker-registry")
