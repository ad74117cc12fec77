"""
An image's files laid out in a folder: each layer checked against its digest while it is read, then applied.

All files belong to whoever unpacks, as without root they must; devices and set-user-id bits are left out.
Source: https://github.com/opencontainers/image-spec/blob/main/layer.md (whiteouts), manifest.md, config.md
"""

import contextlib
import gzip
import hashlib
import os
import platform
import shutil
import stat
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, Protocol, cast

import msgspec

from tensoryard.environment import Log, interruption
from tensoryard.errors import EnvironmentBuildError, VerificationError
from tensoryard.text import size

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


def unpack(source: ImageSource, digest: str, folder: Path, log: Log) -> Mapping[str, Any]:
    """
    The configuration of an image whose files now lie in a new folder.

    Raises EnvironmentBuildError for an image that this machine cannot run, VerificationError for bytes that do not
    have their digest.
    """
    manifest = _manifest(source, digest)
    with source.open_blob(manifest["config"]["digest"]) as file:
        data = file.read()
    _check(manifest["config"]["digest"], hashlib.sha256(data).hexdigest())
    config = msgspec.json.decode(data, type=dict[str, Any])
    wanted = _machine()
    if config.get("architecture") != wanted:
        raise EnvironmentBuildError(f"image {digest}: is for {config.get('architecture')}, this machine is {wanted}")
    folder.mkdir()
    layers = manifest["layers"]
    log(f"unpacking {len(layers)} layers, {size(sum(layer['size'] for layer in layers))}")
    for layer in layers:
        with source.open_blob(layer["digest"]) as file:
            reader = _Reader(file)
            _apply(layer["mediaType"], reader, folder)
            while reader.read():  # what pads the archive belongs to its digest
                pass
            _check(layer["digest"], reader.sha256.hexdigest())
    return config


def _manifest(source: ImageSource, digest: str) -> dict[str, Any]:
    found = msgspec.json.decode(source.manifest(digest), type=dict[str, Any])
    if "manifests" not in found:
        return found
    wanted = _machine()
    for entry in found["manifests"]:
        on = entry.get("platform", {})
        if (on.get("os"), on.get("architecture")) == ("linux", wanted):
            return msgspec.json.decode(source.manifest(entry["digest"]), type=dict[str, Any])
    raise EnvironmentBuildError(f"image {digest}: has nothing for this machine, which is {wanted}")


def _machine() -> str:
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

    def read(self, count: int = _PIECE_BYTES) -> bytes:
        if self._at == len(self._piece):
            interruption.look()
            self._piece, self._at = self._file.read(_PIECE_BYTES), 0
            self.sha256.update(self._piece)
        found = self._piece[self._at : self._at + count]
        self._at += len(found)
        return found


def _apply(kind: str, reader: _Reader, folder: Path) -> None:
    stream = cast("IO[bytes]", reader)
    if kind.endswith(("+gzip", ".gzip")):
        stream = cast("IO[bytes]", gzip.GzipFile(fileobj=stream))
    elif not kind.endswith(".tar"):
        raise EnvironmentBuildError(f"image: a layer is of the kind `{kind}`, known are tar and tar+gzip")
    tree = _Tree(str(folder))
    try:
        with tarfile.open(fileobj=stream, mode="r|", bufsize=_PIECE_BYTES) as archive:
            for member in archive:
                tree.add(member, archive)
    except (tarfile.TarError, EOFError, gzip.BadGzipFile) as error:
        raise VerificationError(f"image: a layer cannot be read: {error}") from None
    tree.close()


class _Tree:
    """One layer as it is applied to what the layers below have left."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._added: set[str] = set()
        self._times: dict[str, float] = {}
        self._parents: dict[str, str] = {}

    def add(self, member: tarfile.TarInfo, archive: tarfile.TarFile) -> None:
        parent, _, name = member.name.strip("/").removeprefix("./").rpartition("/")
        if name in ("", "."):
            return
        if name == ".." or ".." in parent.split("/"):
            raise VerificationError(f"image: a layer holds the path `{member.name}`, which leads out of it")
        above = self._inside(parent)
        if name == ".wh..wh..opq":
            for entry in os.listdir(above):
                if f"{above}/{entry}" not in self._added:
                    self._remove(f"{above}/{entry}")
            return
        if name.startswith(".wh."):
            self._remove(f"{above}/{name.removeprefix('.wh.')}")
            return
        path = f"{above}/{name}"
        self._added.add(path)
        if member.isdir():
            if not _is_folder(path):
                self._remove(path)
                os.mkdir(path)
            os.chmod(path, (member.mode & 0o777) | 0o700)
            self._times[path] = member.mtime
            return
        self._remove(path)
        if member.isfile():
            content = archive.extractfile(member)
            assert content is not None
            with open(path, "xb") as file:
                shutil.copyfileobj(content, file, _PIECE_BYTES)
            os.chmod(path, member.mode & 0o777)
            # Byte code is good for the source of one time only.
            os.utime(path, (member.mtime, member.mtime))
        elif member.islnk():
            folder, _, target = member.linkname.strip("/").removeprefix("./").rpartition("/")
            os.link(f"{self._inside(folder)}/{target}", path, follow_symlinks=False)
        elif member.issym():
            os.symlink(member.linkname, path)
            self._parents.clear()

    def close(self) -> None:
        """Once nothing more comes into them, the times of folders."""
        for path, at in self._times.items():
            with contextlib.suppress(FileNotFoundError):
                os.utime(path, (at, at), follow_symlinks=False)

    def _remove(self, path: str) -> None:
        try:
            os.unlink(path)
        except FileNotFoundError:
            return
        except (IsADirectoryError, PermissionError):
            shutil.rmtree(path)
        self._parents.clear()

    def _inside(self, parent: str) -> str:
        """The folder that a path of the image is, made if need be; links are followed as they would be inside."""
        if parent in self._parents:
            return self._parents[parent]
        here, todo, links = "", parent.split("/")[::-1], 0
        while todo:
            part = todo.pop()
            if part in ("", "."):
                continue
            if part == "..":
                here = here.rpartition("/")[0]
                continue
            path = f"{self._root}{here}/{part}"
            try:
                mode = os.lstat(path).st_mode
            except FileNotFoundError:
                os.mkdir(path)
                mode = stat.S_IFDIR
            if stat.S_ISLNK(mode):
                links += 1
                target = os.readlink(path)
                if links > 40:
                    raise VerificationError(f"image: the links of `{parent}` lead in a circle")
                here = "" if target.startswith("/") else here
                todo += target.split("/")[::-1]
            elif stat.S_ISDIR(mode):
                here = f"{here}/{part}"
            else:
                raise VerificationError(f"image: a layer has something below the file `{here}/{part}`")
        found = f"{self._root}{here}"
        self._parents[parent] = found
        return found


def _is_folder(path: str) -> bool:
    try:
        return stat.S_ISDIR(os.lstat(path).st_mode)
    except FileNotFoundError:
        return False
