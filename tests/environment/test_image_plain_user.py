"""On a head buildah works for the user of runs, who is not root and has ranges of users of his own."""

import io
import json
import os
import re
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from services.base_image import push_image
from services.images import variant
from tensoryard.environment import buildah, command
from tensoryard.registry.oci_client import Client
from tensoryard.registry.oci_manifest import Place

pytestmark = pytest.mark.xdist_group("images")  # one worker makes what they share
USER = 61234
# As Azure's images make the user of a machine, by `useradd`.
FILES = {
    "passwd": f"root:x:0:0:root:/root:/bin/sh\ntyard:x:{USER}:{USER}::/home/tyard:/bin/sh\n",
    "group": f"root:x:0:\ntyard:x:{USER}:\n",
    "subuid": "tyard:100000:65536\n",
    "subgid": "tyard:100000:65536\n",
}
BECOME = """
for name in passwd group subuid subgid; do mount --bind "$0/$name" "/etc/$name"; done
export HOME="$0/home" XDG_RUNTIME_DIR="$0/run"
exec setpriv --reuid=tyard --regid=tyard --clear-groups --inh-caps=-all "$@"
"""
DOCKERFILE = """
FROM {}
RUN install --owner=5 --group=8 /etc/this-is /srv
USER 1000:1000
"""


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where every command of a build is that user's. Not pytest's own, which nobody else may enter."""
    folder = Path(tempfile.mkdtemp(prefix="tyard-plain-", dir="/tmp"))
    folder.chmod(0o755)
    for name, text in FILES.items():
        (folder / name).write_text(text)
    for name in ("storage", "run", "home"):
        (folder / name).mkdir()
        shutil.chown(folder / name, USER, USER)
    as_root = command.run

    def run(argv: Sequence[str], **how: Any) -> command.Finished:
        return as_root(["unshare", "--mount", "sh", "-ec", BECOME, str(folder), *argv], **how)

    monkeypatch.setattr(command, "run", run)
    # What a machine knows of package indexes is in files of root here.
    monkeypatch.setattr(buildah, "secrets", lambda _: {})
    yield folder
    shutil.rmtree(folder)
    shutil.rmtree(f"/tmp/podman-run-{USER}", ignore_errors=True)  # buildah's own, whatever it is told


def shell() -> bytes:
    """A layer with a shell and `install` of this machine: all that a step needs."""
    programs = {"bin/sh": "/bin/sh", "bin/install": shutil.which("install") or ""}
    said = subprocess.run(["ldd", *programs.values()], capture_output=True, text=True, check=True).stdout
    programs |= {path[1:]: path for path in re.findall(r"(/\S+\.so\S*) \(", said)}
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz", compresslevel=1) as archive:
        for name, path in programs.items():
            archive.add(os.path.realpath(path), name)
    return made.getvalue()


def test_a_user_with_ranges_of_users_builds_and_pushes_an_image(image_registry: str, folder: Path) -> None:
    push_image(f"{image_registry}/plain-user/shell:1", variant([shell()], b"the base\n"))
    (folder / "context").mkdir()
    (folder / "context" / "Dockerfile").write_text(DOCKERFILE.format(f"{image_registry}/plain-user/shell:1"))
    tool = buildah.Buildah(folder / "storage")
    tool.build("by-tyard", folder / "context", print)
    place = Place(image_registry, "plain-user/made", "1")
    digest = tool.push("by-tyard", place, print)
    assert Client(place).tagged() == digest
    *_, layer = json.loads(Client(place).manifest(digest))["layers"]
    with Client(place).open_blob(layer["digest"]) as blob, tarfile.open(fileobj=blob, mode="r|gz") as archive:
        owners = {member.name: (member.uid, member.gid) for member in archive}
    # In the image they have the numbers that they have for whoever runs it.
    assert owners["srv"] == (5, 8)
    tool.clear()
    assert tool.has("by-tyard")
