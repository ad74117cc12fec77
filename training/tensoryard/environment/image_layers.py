"""
The files of an image, each layer in a folder of its own: what overlayfs puts on top of each other when a task starts.

A layer's folder has its files and, for what it takes away from the layers below, overlayfs's whiteouts: devices of
number 0/0. Its folders have the owner's rights and the times that they have in the image. It is good above those
layers only that it was unpacked above, since links and opaque folders are resolved against them; no attribute of the
file system is needed. All files belong to whoever unpacks, as without root they must; devices and set-user-id bits
are left out.
Source: https://github.com/opencontainers/image-spec/blob/main/layer.md, https://docs.kernel.org/filesystems/overlayfs.html
"""

import contextlib
import os
import shutil
import stat
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from tensoryard.errors import VerificationError

_PIECE_BYTES = 1 << 20
_LINKS = 40  # that a path may lead through, as for the kernel


class Layers:
    """What layers look like from above. folders: of each, the topmost first; paths begin with "/" or are ""."""

    def __init__(self, folders: Sequence[str]) -> None:
        self._folders = tuple(folders)

    def find(self, path: str) -> str | None:
        """Where the file, link or folder of a path lies, or None. Links on the way are not followed."""
        return next(iter(self._places(path)), None)

    def names(self, path: str) -> list[str]:
        """The names in a folder; none for what is no folder."""
        return list(_merged(self._places(path)))

    def walk(self, path: str = "") -> Iterator[tuple[str, str]]:
        """Everything below a folder, in order: its path, and where it lies."""
        yield from _walk(path, self._places(path))

    def follow(self, path: str) -> str | None:
        """Where a path lies when links are followed as they would be inside, or None."""
        here, todo, links = "", path.split("/")[::-1], 0
        while todo:
            part = todo.pop()
            if part == "..":
                here = here.rpartition("/")[0]
            elif part not in ("", "."):
                found = self.find(f"{here}/{part}")
                if found is None or links > _LINKS:
                    return None
                if os.path.islink(found):
                    target = os.readlink(found)
                    here, links = "" if target.startswith("/") else here, links + 1
                    todo += target.split("/")[::-1]
                else:
                    here = f"{here}/{part}"
        return self.find(here)

    def _places(self, path: str) -> list[str]:
        """A path in each layer that shows it, the topmost first: more than one for a folder."""
        shown, here = list(self._folders), ""
        for part in path.split("/")[1:]:
            here = f"{here}/{part}"
            found: list[str] = []
            for layer in shown:
                try:
                    status = os.lstat(layer + here)
                except (FileNotFoundError, NotADirectoryError):
                    continue
                folder = stat.S_ISDIR(status.st_mode)
                if _is_whiteout(status) or (found and not folder):
                    break
                found.append(layer)
                if not folder:
                    break
            shown = found
        return [layer + here for layer in shown]


class LayerFolder:
    """One layer as it is laid out in a new folder above others; size_bytes: of its files."""

    def __init__(self, top: Path, below: Layers) -> None:
        self._top = str(top)
        self._below = below
        self._times: dict[str, float] = {}
        self._parents: dict[str, str] = {}
        self.size_bytes = 0

    def add(self, member: tarfile.TarInfo, archive: tarfile.TarFile) -> None:
        """Lay out one entry of the layer's archive. Raises VerificationError for a path that leads out of it."""
        parent, _, name = member.name.strip("/").removeprefix("./").rpartition("/")
        if name in ("", "."):
            return
        if name == ".." or ".." in parent.split("/"):
            raise VerificationError(f"image: a layer holds the path `{member.name}`, which leads out of it")
        above = self._inside(parent)
        if name == ".wh..wh..opq":
            self._hide(above)
            return
        if name.startswith(".wh."):
            self._take_away(f"{above}/{name.removeprefix('.wh.')}")
            return
        path = f"{above}/{name}"
        if member.isdir():
            self._folder(path, (member.mode & 0o777) | 0o700, member.mtime)
            return
        self._remove(path)
        at = self._top + path
        if member.isfile():
            content = archive.extractfile(member)
            assert content is not None
            with open(at, "xb") as file:
                shutil.copyfileobj(content, file, _PIECE_BYTES)
            os.chmod(at, member.mode & 0o777)
            # Byte code is good for the source of one time only.
            os.utime(at, (member.mtime, member.mtime))
            self.size_bytes += member.size
        elif member.islnk():
            self._link(member, at)
        elif member.issym():
            os.symlink(member.linkname, at)
            self._parents.clear()

    def close(self) -> None:
        """Once nothing more comes into them, the times of folders."""
        for path, at in self._times.items():
            with contextlib.suppress(FileNotFoundError):
                os.utime(self._top + path, (at, at), follow_symlinks=False)

    def _link(self, member: tarfile.TarInfo, at: str) -> None:
        folder, _, name = member.linkname.strip("/").removeprefix("./").rpartition("/")
        target = f"{self._inside(folder)}/{name}"
        if self._own(target) is not None:
            os.link(self._top + target, at, follow_symlinks=False)
            return
        source = self._below.find(target)
        if source is None or stat.S_ISDIR(os.lstat(source).st_mode):
            raise VerificationError(f"image: a layer links `{member.name}` to `{member.linkname}`, which is no file")
        shutil.copy2(source, at, follow_symlinks=False)
        self.size_bytes += os.lstat(at).st_size

    def _folder(self, path: str, mode: int, mtime: float) -> None:
        own = self._own(path)
        if own is None or not stat.S_ISDIR(own.st_mode):
            if own is not None:
                os.unlink(self._top + path)
            os.mkdir(self._top + path)
            if own is not None:  # taken away before, and now another folder of that name
                self._hide(path)
            self._parents.clear()
        os.chmod(self._top + path, mode)
        self._times[path] = mtime

    def _take_away(self, path: str) -> None:
        """Hide what the layers below have at a path; what this layer itself has there stays."""
        own = self._own(path)
        if own is None:
            if self._below.find(path) is not None:
                os.mknod(self._top + path, stat.S_IFCHR | 0o600, os.makedev(0, 0))
                self._parents.clear()
        elif stat.S_ISDIR(own.st_mode):
            self._hide(path)

    def _hide(self, path: str) -> None:
        for name in self._below.names(path):
            self._take_away(f"{path}/{name}")

    def _remove(self, path: str) -> None:
        try:
            os.unlink(self._top + path)
        except FileNotFoundError:
            return
        except (IsADirectoryError, PermissionError):
            shutil.rmtree(self._top + path)
        self._parents.clear()

    def _own(self, path: str) -> os.stat_result | None:
        try:
            return os.lstat(self._top + path)
        except FileNotFoundError:
            return None

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
            path = f"{here}/{part}"
            found = self._own(path)
            if found is None and (lower := self._below.find(path)):
                found = os.lstat(lower)
                if stat.S_ISLNK(found.st_mode):
                    links, here = self._followed(lower, parent, links, here, todo)
                    continue
                if stat.S_ISDIR(found.st_mode):
                    # As it is below: what is on top decides how a folder looks.
                    self._folder(path, stat.S_IMODE(found.st_mode), found.st_mtime)
            elif found is None or _is_whiteout(found):
                self._folder(path, 0o755, 0)
                found = self._own(path)
                assert found is not None
            if stat.S_ISLNK(found.st_mode):
                links, here = self._followed(self._top + path, parent, links, here, todo)
            elif stat.S_ISDIR(found.st_mode):
                here = path
            else:
                raise VerificationError(f"image: a layer has something below the file `{path}`")
        self._parents[parent] = here
        return here

    def _followed(self, link: str, parent: str, links: int, here: str, todo: list[str]) -> tuple[int, str]:
        if links >= _LINKS:
            raise VerificationError(f"image: the links of `{parent}` lead in a circle")
        target = os.readlink(link)
        todo += target.split("/")[::-1]
        return links + 1, "" if target.startswith("/") else here


def _walk(path: str, places: list[str]) -> Iterator[tuple[str, str]]:
    for name, below in sorted(_merged(places).items()):
        yield f"{path}/{name}", below[0]
        yield from _walk(f"{path}/{name}", below)


def _merged(places: list[str]) -> dict[str, list[str]]:
    """The names in a folder that lies in several places, the topmost first, and in which places each of them is."""
    found: dict[str, list[str]] = {}
    closed = set()  # nothing further below is seen
    for place in places:
        if not stat.S_ISDIR(os.lstat(place).st_mode):
            continue
        for entry in os.scandir(place):
            if entry.name in closed:
                continue
            if entry.is_dir(follow_symlinks=False):
                found.setdefault(entry.name, []).append(entry.path)
                continue
            closed.add(entry.name)
            is_plain = entry.is_symlink() or entry.is_file()
            if entry.name not in found and (is_plain or not _is_whiteout(entry.stat(follow_symlinks=False))):
                found[entry.name] = [entry.path]
    return found


def _is_whiteout(status: os.stat_result) -> bool:
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0
