"""Images of a few files in memory, and a cache for them: what unpacking does, without a registry."""

import gzip
import hashlib
import io
import tarfile
from pathlib import Path
from typing import IO

import msgspec

from tensoryard.environment.image_folders import ImageFolders
from tensoryard.environment.image_unpack import machine

Entry = tuple[str, bytes | str | None]  # a file's bytes, a link's target, None for a folder


def layer(*entries: Entry) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        for name, content in entries:
            member = tarfile.TarInfo(name)
            member.mtime, member.mode = 1_000_000_000, 0o4755
            if content is None:
                member.type = tarfile.DIRTYPE
            elif isinstance(content, str):
                kind, _, member.linkname = content.partition(":")
                member.type = tarfile.SYMTYPE if kind == "to" else tarfile.LNKTYPE
            else:
                member.size = len(content)
            archive.addfile(member, io.BytesIO(content) if isinstance(content, bytes) else None)
    return gzip.compress(made.getvalue())


class Image:
    """An image in memory."""

    def __init__(self, *layers: bytes, architecture: str = "") -> None:
        self.blobs: dict[str, bytes] = {}
        config = {"architecture": architecture or machine(), "os": "linux", "config": {}}
        described = {
            "config": {"digest": self.add(msgspec.json.encode(config))},
            "layers": [
                {
                    "digest": self.add(data),
                    "size": len(data),
                    "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip",
                }
                for data in layers
            ],
        }
        self.digest = self.add(msgspec.json.encode(described))

    def add(self, data: bytes) -> str:
        digest = "sha256:" + hashlib.sha256(data).hexdigest()
        self.blobs[digest] = data
        return digest

    def manifest(self, digest: str) -> bytes:
        return self.blobs[digest]

    def open_blob(self, digest: str) -> IO[bytes]:
        return io.BytesIO(self.blobs[digest])


def folders(folder: Path) -> ImageFolders:
    """A cache of images in a folder."""
    return ImageFolders(folder / "images", lambda name: folder / "flocks" / name)
