"""
Images that each node of a cluster pulls for itself: on the disk that they share there is only what that takes.

    <digest>/    image.json, bin/python, used and runs/ as in `ImageFolders`; pull.json: where the image is;
                 tools/: what `node_pull` is started with
"""

import hashlib
import shutil
import tempfile
from collections.abc import Mapping, Set
from pathlib import Path
from typing import Any

import msgspec

import tensoryard
from tensoryard.environment import Log
from tensoryard.environment.image_folders import ImageFolders, short
from tensoryard.environment.image_unpack import ImageSource, described
from tensoryard.errors import StoreError
from tensoryard.registry.oci_client import Client
from tensoryard.registry.oci_manifest import INDEXES, MANIFESTS, Place
from tensoryard.text import size

# Of the package, what no node needs to pull an image.
_LEFT_OUT = shutil.ignore_patterns("__pycache__", "templates", "azureml", "cli")


class Pull(msgspec.Struct, frozen=True, kw_only=True):
    """Where a node finds an image. size_bytes: of its layers, as they are sent."""

    registry: str
    repository: str
    digest: str
    size_bytes: int


class NotedImages(ImageFolders):
    """
    As `ImageFolders`, without the files of the images.

    One that its registry has lost is not there, since a node that has not got it could not run it.
    """

    def find(self, digest: str) -> Path | None:
        folder = super().find(digest)
        return folder if folder and _is_to_be_had(folder) else None

    def own_bytes(self, folder: Path, chains: Set[str]) -> int:
        """At least: what it is when it is sent, of what was built here."""
        has_built = (self.folder.parent / "buildah").is_dir()
        return _pull(folder).size_bytes if has_built else 0

    def unpack(self, source: ImageSource, digest: str, log: Log) -> Path:
        if super().find(digest):
            source.manifest(digest)
        return super().unpack(source, digest, log)

    def fill(self, source: ImageSource, digest: str, folder: Path, log: Log) -> Mapping[str, Any]:
        """source: the client of the registry."""
        assert isinstance(source, Client)
        found = described(source, digest)
        pull = Pull(
            registry=source.place.registry,
            repository=source.place.repository,
            digest=digest,
            size_bytes=sum(layer.size_bytes for layer in found.layers),
        )
        (folder / "pull.json").write_bytes(msgspec.json.encode(pull))
        (folder / "tools").symlink_to(tools(self.folder.parent / "node-tools"))
        (folder / "layers").mkdir()
        log(f"image {short(digest)}: {size(pull.size_bytes)} for each node to pull")
        return found.config


def _pull(folder: Path) -> Pull:
    return msgspec.json.decode((folder / "pull.json").read_bytes(), type=Pull)


def _is_to_be_had(folder: Path) -> bool:
    pull = _pull(folder)
    try:
        return (
            Client(Place(pull.registry, pull.repository, pull.digest)).tagged((*MANIFESTS, *INDEXES), 1) is not None
        )
    except StoreError:
        return True  # nodes that have it need no registry; to the others it says itself what is wrong


def tools(folder: Path) -> Path:
    """This package, and the one other that nodes need of it, in a folder that they see; made if it is not there."""
    package, other = Path(tensoryard.__file__).parent, Path(msgspec.__file__).parent
    seen = hashlib.sha256(msgspec.__version__.encode())
    for path in sorted(package.rglob("*.py")):
        seen.update(f"{path.relative_to(package)}\0".encode() + path.read_bytes())
    made = folder / seen.hexdigest()[:16]
    if not made.exists():
        folder.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(prefix=".", dir=folder))
        shutil.copytree(package, aside / "tensoryard", ignore=_LEFT_OUT)
        shutil.copytree(other, aside / "msgspec", ignore=_LEFT_OUT)
        aside.chmod(0o755)
        try:
            aside.rename(made)
        except OSError:  # somebody was first
            shutil.rmtree(aside)
    return made
