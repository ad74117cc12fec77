"""
Docker's own registry, as Debian packages it: the real distribution protocol on a port of this machine.

What it does not show: the limits and redirects of other registries.
"""

import fcntl
import os
import shutil
import subprocess
import time
from pathlib import Path

from services.server import Server


class OciRegistry:
    """
    A running registry with its blobs in a folder; `close` ends it, and so does the end of this process.

    htpasswd: a file of users, whom it then asks for names and passwords; auth: what else it asks for, in its
    configuration's words; address: where it listens; tls: files of its certificate and key, None for plain HTTP.
    """

    def __init__(
        self,
        folder: Path,
        htpasswd: Path | None = None,
        auth: str = "",
        address: str = "127.0.0.1",
        tls: tuple[Path, Path] | None = None,
    ) -> None:
        secured = f", tls: {{certificate: '{tls[0]}', key: '{tls[1]}'}}" if tls else ""
        config = [
            "version: 0.1",
            "log: {level: info, accesslog: {disabled: true}}",
            f"storage: {{filesystem: {{rootdirectory: '{folder / 'blobs'}'}}, delete: {{enabled: true}}}}",
            f"http: {{addr: '{address}:0'{secured}}}",
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
    """
    The path of the registry: installed, or unpacked from its package now, never installed with its service.

    Raises AssertionError with what to install where there is no apt-get.
    """
    if found := shutil.which("docker-registry"):
        return found
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tensoryard-tests"
    unpacked = cache / "docker-registry"
    binary = unpacked / "usr" / "bin" / "docker-registry"
    if binary.exists():
        return str(binary)
    assert shutil.which("apt-get"), "the tests need docker-registry, the registry of Docker's distribution project"
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "docker-registry.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not binary.exists():
            _unpack(cache, unpacked)
    return str(binary)


def _unpack(cache: Path, unpacked: Path) -> None:
    aside = cache / f"docker-registry-{os.getpid()}-{time.monotonic_ns()}"
    aside.mkdir()
    try:
        fetch = ["apt-get", "download", "-qq", "docker-registry"]
        if subprocess.run(fetch, cwd=aside, capture_output=True, check=False).returncode:
            # A new machine has no lists of packages yet.
            subprocess.run(["apt-get", "update", "-qq"], capture_output=True, check=False)
            done = subprocess.run(fetch, cwd=aside, capture_output=True, text=True, check=False)
            assert done.returncode == 0, f"the tests need docker-registry: apt-get install it\n{done.stderr}"
        package = next(aside.glob("*.deb"))
        subprocess.run(["dpkg", "-x", str(package), str(aside / "unpacked")], check=True)
        shutil.rmtree(unpacked, ignore_errors=True)
        (aside / "unpacked").rename(unpacked)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
