"""On a head buildah works for the user of runs, who is not root and has ranges of users of his own."""

import gzip
import io
import json
import shutil
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

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
# apt gives up root's rights for a user of its own, and files of other users are made.
DOCKERFILE = """
FROM {}
RUN apt-get update && apt-get install --yes tyard-greeting
RUN install --owner=games --group=mail /etc/this-is /srv/
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


def test_a_user_with_ranges_of_users_builds_and_pushes_an_image(
    base_image: str, image_registry: str, folder: Path
) -> None:
    (folder / "context").mkdir()
    (folder / "context" / "Dockerfile").write_text(DOCKERFILE.format(base_image))
    said: list[str] = []
    tool = buildah.Buildah(folder / "storage")
    tool.build("by-tyard", folder / "context", said.append)
    place = Place(image_registry, "plain-user", "1")
    digest = tool.push("by-tyard", place, said.append)
    assert Client(place).tagged() == digest
    described = json.loads(Client(place).manifest(digest))
    layers = [gzip.decompress(Client(place).open_blob(layer["digest"]).read()) for layer in described["layers"][2:]]
    owners = {}
    for layer in layers:
        with tarfile.open(fileobj=io.BytesIO(layer)) as archive:
            owners |= {member.name: (member.uid, member.gid) for member in archive}
    # In the image they have the numbers that they have for whoever runs it.
    assert (owners["srv/this-is"], owners["usr/share/tyard-greeting/greeting"]) == ((5, 8), (0, 0))
    tool.clear()
    assert tool.has("by-tyard")
