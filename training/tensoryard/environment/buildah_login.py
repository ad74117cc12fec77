"""
The file from which buildah learns who it is at Azure's registries: private, in memory where there is such a folder.

Not its options: whoever is on the machine can read those. Other logins it finds where `docker login` leaves them.
"""

import base64
import json
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tensoryard.registry.oci_client import Client
from tensoryard.registry.oci_manifest import Place

# Without a user buildah passes the token over; this one is no user, as Azure wants it.
_NOBODY = base64.b64encode(b"00000000-0000-0000-0000-000000000000:").decode()
_MEMORY = Path("/dev/shm")  # noqa: S108


@contextmanager
def signed_in(registries: Iterable[str], push: bool = False) -> Iterator[list[str]]:
    """
    Options with which buildah reads and writes in registries, good while the block runs.

    push: whether it is to write. Raises StoreError where Azure does not let us in.
    """
    logins = {host: Client(Place(host, "", ""), push).azure_login() for host in dict.fromkeys(registries)}
    ours = {host: {"auth": _NOBODY, "identitytoken": login.identity} for host, login in logins.items() if login}
    if not ours:
        yield []
        return
    known = _of_docker()
    memory = _MEMORY if os.access(_MEMORY, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="tyard-login-", dir=memory) as folder:
        file = Path(folder) / "auth.json"
        with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as opened:
            json.dump(known | {"auths": (known.get("auths") or {}) | ours}, opened)
        yield ["--authfile", str(file)]


def _of_docker() -> dict[str, Any]:
    path = Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker") / "config.json"
    try:
        found = json.loads(path.read_bytes())
        return found if isinstance(found, dict) else {}
    except (OSError, ValueError):  # `find_login` has said so
        return {}
