"""
Azurite, Microsoft's own emulator of blob storage, as npm has it: the real REST protocol on a port of this machine.

What it lacks or gets wrong, so that no test may lean on it: no hierarchical namespace, no versions, no soft delete,
no immutability; the tag index is immediate; roles are not checked; `x-ms-if-tags` is ignored when tags are set;
a search by tags ends after 5,000 blobs of a container without a match; a search of one container may name a
container, which Azure refuses; the account's information is given to tokens, and by Azure to its key alone.
"""

import shutil
import subprocess
from pathlib import Path

from services.npm import installed
from services.server import Server

ACCOUNT = "devstoreaccount1"
# Public: every Azurite has it. Source: https://learn.microsoft.com/azure/storage/common/storage-use-azurite
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="

_PACKAGE = Path(__file__).parent / "azurite_npm"
_MAIN = Path("node_modules", "azurite", "dist", "src", "blob", "main.js")


class Azurite:
    """
    A running emulator, empty, its blobs in memory; `close` ends it, and so does the end of this process.

    certificate: files of a certificate and of its key, for HTTPS; then it takes tokens too, which it hardly checks.
    """

    def __init__(self, certificate: tuple[Path, Path] | None = None) -> None:
        home = installed(_PACKAGE)
        ours = [
            word for name in ("never_sweeps.cjs", "starts_sooner.cjs") for word in ("--require", str(home / name))
        ]
        argv = [str(_node(home)), *ours, str(home / _MAIN)]
        argv += ["--blobHost", "127.0.0.1", "--blobPort", "0", "--inMemoryPersistence", "--disableTelemetry"]
        if certificate:
            argv += ["--oauth", "basic", "--cert", str(certificate[0]), "--key", str(certificate[1])]
        # Without --silent it would print a line for every request.
        self._server = Server([*argv, "--silent"], r"successfully listens on (https?://\S+)", home)
        self.pid = self._server.pid
        self.url = self._server.found

    @property
    def endpoint(self) -> str:
        return f"{self.url}/{ACCOUNT}"

    def close(self) -> None:
        self._server.close()


def _node(home: Path) -> Path:
    """The Node.js that came with it; where npm has none for this machine, its own, which has to be new enough."""
    found = next(iter(sorted((home / "node_modules").glob("node-*/bin/node"))), None)
    if found is not None:
        return found
    node = shutil.which("node")
    assert node, "the tests need Node.js 22 or newer for Azurite: https://nodejs.org/en/download"
    version = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout.strip()
    assert int(version.lstrip("v").partition(".")[0]) >= 22, (
        f"Azurite needs Node.js 22 or newer, `{node}` is {version}: https://nodejs.org/en/download"
    )
    return Path(node)
