"""
What an image is made of, and its layers laid out in folders, each checked against its digest while it is read.

Source: https://github.com/opencontainers/image-spec/blob/main/manifest.md, config.md
"""

import gzip
import hashlib
import http.client
import platform
import tarfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, NamedTuple, Protocol, cast

import msgspec

from tensoryard.environment import interruption
from tensoryard.environment.image_layers import LayerFolder, Layers
from tensoryard.errors import EnvironmentBuildError, VerificationError
from tensoryard.registry.oci_client import BrokenRequestError

_MACHINES = {"x86_64": "amd64", "aarch64": "arm64", "arm64": "arm64"}
_PIECE_BYTES = 1 << 20


class ImageSource(Protocol):
    """Where an image's parts are read from, by their digests."""

    def manifest(self, digest: str) -> bytes: ...

    def open_blob(self, digest: str) -> IO[bytes]: ...


class OciFolder:
    """An image in a folder of the OCI image layout."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def newest(self) -> str:
        """The digest of the one image in it."""
        index = msgspec.json.decode((self.folder / "index.json").read_bytes())
        return str(index["manifests"][-1]["digest"])

    def manifest(self, digest: str) -> bytes:
        return self._path(digest).read_bytes()

    def open_blob(self, digest: str) -> IO[bytes]:
        return self._path(digest).open("rb")

    def _path(self, digest: str) -> Path:
        return self.folder / "blobs" / "sha256" / digest.removeprefix("sha256:")


class Layer(NamedTuple):
    """A layer as an image's manifest names it."""

    digest: str
    size_bytes: int
    kind: str


class Described(NamedTuple):
    """What an image is made of; layers: the lowest first; config: its configuration."""

    config: Mapping[str, Any]
    layers: tuple[Layer, ...]


def described(source: ImageSource, digest: str) -> Described:
    """
    What an image is made of.

    Raises EnvironmentBuildError for an image that this machine cannot run, VerificationError for bytes that do not
    have their digest.
    """
    manifest = _manifest(source, digest)
    with source.open_blob(manifest["config"]["digest"]) as file:
        try:
            data = file.read()
        except (OSError, http.client.HTTPException) as error:
            raise BrokenRequestError(f"image {digest}: its configuration broke off: {error}", "try again") from None
    _check(manifest["config"]["digest"], hashlib.sha256(data).hexdigest())
    config = msgspec.json.decode(data, type=dict[str, Any])
    wanted = machine()
    if config.get("architecture") != wanted:
        raise EnvironmentBuildError(f"image {digest}: is for {config.get('architecture')}, this machine is {wanted}")
    layers = (Layer(layer["digest"], layer["size"], layer["mediaType"]) for layer in manifest["layers"])
    return Described(config, tuple(layers))


def unpack_layer(source: ImageSource, layer: Layer, folder: Path, below: Layers) -> int:
    """
    The size of a layer's files, which now lie in a new folder, to be put above others.

    Raises VerificationError for bytes that do not have their digest, StoreError where not all came; then the folder
    is worth nothing.
    """
    folder.mkdir()
    with source.open_blob(layer.digest) as file:
        reader = _Reader(file)
        try:
            size_bytes = _apply(layer.kind, reader, LayerFolder(folder, below))
            while reader.read():  # what pads the archive belongs to its digest
                pass
            _check(layer.digest, reader.sha256.hexdigest())
        except VerificationError:
            if reader.size_bytes < layer.size_bytes and not reader.read():
                raise BrokenRequestError(
                    f"image: of `{layer.digest}` came {reader.size_bytes:,} of {layer.size_bytes:,} bytes",
                    hint="the registry, or the way to it, broke off: try again",
                ) from None
            raise
    return size_bytes


def _manifest(source: ImageSource, digest: str) -> dict[str, Any]:
    found = msgspec.json.decode(source.manifest(digest), type=dict[str, Any])
    if "manifests" not in found:
        return found
    wanted = machine()
    for entry in found["manifests"]:
        on = entry.get("platform", {})
        if (on.get("os"), on.get("architecture")) == ("linux", wanted):
            return msgspec.json.decode(source.manifest(entry["digest"]), type=dict[str, Any])
    raise EnvironmentBuildError(f"image {digest}: has nothing for this machine, which is {wanted}")


def machine() -> str:
    """The architecture of this machine, as images name it."""
    return _MACHINES.get(platform.machine(), platform.machine())


def _check(digest: str, found: str) -> None:
    if digest != f"sha256:{found}":
        raise VerificationError(
            f"image: the bytes of `{digest}` have the digest sha256:{found}",
            hint="they were changed in the registry or on the way; submit again, and build anew if it stays so",
        )


class _Reader:
    """A stream that remembers the digest of what was read, and lets whoever waits for it end it."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._piece = b""
        self._at = 0
        self.sha256 = hashlib.sha256()
        self.size_bytes = 0

    def read(self, count: int = _PIECE_BYTES) -> bytes:
        if self._at == len(self._piece):
            interruption.look()
            try:
                self._piece, self._at = self._file.read(_PIECE_BYTES), 0
            except (OSError, http.client.HTTPException):
                self._piece, self._at = b"", 0  # what is missing is seen at the end
            self.sha256.update(self._piece)
            self.size_bytes += len(self._piece)
        found = self._piece[self._at : self._at + count]
        self._at += len(found)
        return found


def _apply(kind: str, reader: _Reader, folder: LayerFolder) -> int:
    stream = cast("IO[bytes]", reader)
    if kind.endswith(("+gzip", ".gzip")):
        stream = cast("IO[bytes]", gzip.GzipFile(fileobj=stream))
    elif not kind.endswith(".tar"):
        raise EnvironmentBuildError(f"image: a layer is of the kind `{kind}`, known are tar and tar+gzip")
    try:
        with tarfile.open(fileobj=stream, mode="r|", bufsize=_PIECE_BYTES) as archive:
            for member in archive:
                folder.add(member, archive)
    except (tarfile.TarError, EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise VerificationError(f"image: a layer cannot be read: {error}") from None
    folder.close()
    return folder.size_bytes
