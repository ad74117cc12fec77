"""
Images built by Docker's daemon, and taken out of it as folders: what runs in them asks no daemon.

Source: https://docs.docker.com/reference/cli/docker/buildx/build/, https://docs.docker.com/reference/cli/docker/image/save/;
seen with 20.10, whose archives have plain layers, as `docker-archive` of containers-transports(5) describes.
"""

import gzip
import hashlib
import json
import os
import shutil
import tarfile
import tempfile
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import IO, Any

from tensoryard.environment import Log, command, interruption
from tensoryard.environment.build_secrets import SECRETS, secrets
from tensoryard.environment.buildah import checked, name_of
from tensoryard.environment.image_push import push
from tensoryard.environment.image_unpack import OciFolder
from tensoryard.registry.oci_manifest import MANIFEST, Place

_PROXIES = ("http_proxy", "https_proxy", "no_proxy")
_CONFIG = "application/vnd.oci.image.config.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
_PIECE_BYTES = 1 << 20
_GZIP = b"\x1f\x8b"


class Docker:
    """`docker` with the daemon that it finds; storage: a folder for what lies aside for a while."""

    program = "docker"

    def __init__(self, storage: Path) -> None:
        self.storage = storage
        storage.mkdir(parents=True, exist_ok=True)

    def build(self, key: str, context: Path, log: Log, file: str = "Dockerfile", *, anew: bool = False) -> None:
        """Build an image from a folder, as `Buildah.build` does."""
        with tempfile.TemporaryDirectory(prefix=SECRETS, dir=self.storage) as folder:
            hidden = [f"--secret=id={name},src={path}" for name, path in secrets(Path(folder)).items()]
            # By their names alone: the values are no argument that others on this machine can read.
            known = [name for proxy in _PROXIES for name in (proxy, proxy.upper()) if os.environ.get(name)]
            passed = [word for name in known for word in ("--build-arg", name)]
            log("building with docker")
            # The machine's network: an index or a proxy on it is one for the steps too.
            options = ["--progress", "plain", "--network", "host", *hidden, *passed, "--tag", name_of(key)]
            options += ["--no-cache"] if anew else []
            self._run(["build", *options, "--file", file, "."], context, log, key)

    def push(self, key: str, place: Place, log: Log) -> str:
        """The digest of an image in the registry that it was pushed to; layers that are there are not sent."""
        with tempfile.TemporaryDirectory(prefix="push-", dir=self.storage) as folder:
            source = OciFolder(self.export(key, Path(folder) / "oci", log))
            log(f"pushing image {key} to {place}")
            push(source, source.newest(), place)
            return source.newest()

    def export(self, key: str, folder: Path, log: Log) -> Path:
        """A new folder with an image in the OCI layout. The same layer is the same bytes each time."""
        (folder / "blobs" / "sha256").mkdir(parents=True)
        archive = folder / "archive.tar"
        self._run(["save", "--output", str(archive), name_of(key)], self.storage, log, key)
        with tarfile.open(archive) as opened:
            (image,) = json.loads(_member(opened, "manifest.json").read())
            config = _kept(folder, _member(opened, image["Config"]), _CONFIG)
            layers = [_kept(folder, _member(opened, name), _LAYER) for name in image["Layers"]]
        archive.unlink()
        manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers}
        (folder / "manifest").write_text(json.dumps(manifest))
        with (folder / "manifest").open("rb") as file:
            index = {"schemaVersion": 2, "manifests": [_kept(folder, file, MANIFEST)]}
        (folder / "index.json").write_text(json.dumps(index))
        (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
        return folder

    def has(self, key: str) -> bool:
        """Whether the daemon has an image."""
        return command.run(["docker", "image", "inspect", name_of(key)], cwd=self.storage).code == 0

    def forget(self, keys: Sequence[str]) -> None:
        """Remove images. What the daemon keeps of their builds it prunes itself."""
        for key in keys:
            command.run(["docker", "rmi", name_of(key)], cwd=self.storage)

    def keep_only(self, keys: Collection[str]) -> None:
        """Remove none: the daemon has images of others too, which look like ours."""

    def clear(self) -> None:
        """End and remove what builders have left that were killed; none is at work now."""
        command.end_orphans()
        for pattern in (f"{SECRETS}*", "push-*"):
            for folder in self.storage.glob(pattern):
                shutil.rmtree(folder)

    def _run(self, words: list[str], cwd: Path, log: Log, key: str) -> None:
        # Before 23.0 it is an option, and what reads secrets and mounts caches.
        environ = {"DOCKER_BUILDKIT": "1"}
        finished = command.run(["docker", *words], cwd=cwd, log=log, environ=environ, merged=True)
        checked(finished, f"image {key}", "docker", self.storage)


def _member(archive: tarfile.TarFile, name: str) -> IO[bytes]:
    """A file of an archive, also where it is a link to another."""
    found = archive.extractfile(name)
    assert found is not None
    return found


def _kept(folder: Path, file: IO[bytes], kind: str) -> dict[str, Any]:
    """A blob of a new OCI layout, as a manifest names it; a layer is compressed where it is not."""
    aside = folder / "aside"
    start = file.read(len(_GZIP))
    with aside.open("wb") as plain:
        packed: Any = plain
        if kind == _LAYER and start != _GZIP:
            packed = gzip.GzipFile("", "wb", compresslevel=3, fileobj=plain, mtime=0)
        packed.write(start)
        while piece := file.read(_PIECE_BYTES):
            interruption.look()
            packed.write(piece)
        if packed is not plain:
            packed.close()
    with aside.open("rb") as written:
        digest = hashlib.file_digest(written, "sha256").hexdigest()
    size_bytes = aside.stat().st_size
    aside.rename(folder / "blobs" / "sha256" / digest)
    return {"mediaType": kind, "digest": f"sha256:{digest}", "size": size_bytes}
