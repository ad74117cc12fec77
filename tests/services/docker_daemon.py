"""
Docker's own daemon with its client, of Debian's packages, in namespaces of its own: all it started ends with it.

What it does not show: networks of containers, later releases and their image stores, Docker Desktop.
"""

import os
import shutil
import tempfile
from pathlib import Path

from services.debian import unpacked
from services.server import Server


class DockerDaemon:
    """
    A running daemon with nothing in it; `close` ends it, and so does the end of this process.

    environ: what a process needs to use it.
    """

    def __init__(self) -> None:
        assert os.getuid() == 0, "the tests of docker start its daemon: run them as root"
        programs = unpacked("docker.io", "containerd", "runc")
        path = os.pathsep.join([*(str(programs / "usr" / name) for name in ("bin", "sbin")), os.environ["PATH"]])
        # Not pytest's own folder: the path of a socket is short.
        self.folder = Path(tempfile.mkdtemp(prefix="tyard-docker-", dir="/tmp"))
        host = f"unix://{self.folder}/socket"
        # No network of its own: its builds have the machine's.
        settings = ["--bridge=none", "--iptables=false", "--ip6tables=false", "--storage-driver=overlay2"]
        places = {"data-root": "data", "exec-root": "exec", "pidfile": "pid"}
        settings += [f"--{option}={self.folder / name}" for option, name in places.items()]
        apart = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]
        self.environ = {"PATH": path, "DOCKER_HOST": host, "DOCKER_CONFIG": str(self.folder / "client")}
        start = ["env", f"PATH={path}", *apart, "dockerd", "--host", host, *settings]
        self._server = Server(start, r"API listen on (\S+)")

    def close(self) -> None:
        self._server.close()
        shutil.rmtree(self.folder, ignore_errors=True)
