"""
Images unpacked on this machine, for its tasks to run in; a cache of this form may be a machine's or a node's own.

    <digest>/        image.json, layers/<n> (links, 0 the lowest), bin/python (of the machine), work/ (to mount at),
                     used (its time), runs/ (links to the folders of runs that have it)
    layers/<chain>/  layer.json, files/: one layer above certain others, of all images that begin with these

A folder with a digest or a chain for its name is always whole: it is made aside, checked and renamed.
Source: https://github.com/opencontainers/image-spec/blob/main/config.md, "Layer ChainID"
"""

import contextlib
import errno
import hashlib
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Set
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from tensoryard.environment import Log, locking
from tensoryard.environment.image_layers import Layers
from tensoryard.environment.image_unpack import ImageSource, Layer, described, unpack_layer
from tensoryard.environment.in_use import in_use, runs_in
from tensoryard.errors import EnvironmentBuildError
from tensoryard.registry.oci_client import BrokenRequestError, wait
from tensoryard.text import size

_TRIES = 3  # of a layer that did not come whole
_SHORT = 12  # digits of a digest that a person is shown
_FULL = (errno.ENOSPC, errno.EDQUOT)


class Unused(NamedTuple):
    """An image that was removed, or would be. used_at: seconds since the epoch; own_bytes: what that frees."""

    folder: Path
    used_at: float
    own_bytes: int


class ImageFolders:
    """The unpacked images in a folder; flock: the lock of a name."""

    def __init__(self, folder: Path, flock: Callable[[str], Path]) -> None:
        self.folder = folder
        self._layers = folder / "layers"
        self._flock = flock

    def find(self, digest: str) -> Path | None:
        """The folder of an image that is unpacked here, marked as used now, or None."""
        folder = self.folder / digest.removeprefix("sha256:")
        if not (folder / "image.json").exists():
            return None
        with contextlib.suppress(OSError):  # a cache that others own can be used all the same
            os.utime(folder / "used")
        return folder

    def unpack(self, source: ImageSource, digest: str, log: Log) -> Path:
        """
        The folder of an image, made if it is not there. Where the disk is full, room is made once.

        Raises EnvironmentBuildError when it cannot be, VerificationError for bytes that do not have their digest.
        """
        for full in (False, True):
            try:
                return self._unpack(source, digest, log)
            except OSError as error:
                if error.errno not in _FULL:
                    raise EnvironmentBuildError(
                        f"image {short(digest)}: cannot be unpacked into {self.folder}: {error.strerror}",
                    ) from None
                if not full:
                    freed = sum(one.own_bytes for one in self.prune(None))
                    log(f"the disk of {self.folder} is full: removed images that nobody uses ({size(freed)})")
        layers = self._missing(described(source, digest).layers)
        free, packed = shutil.disk_usage(self.folder).free, sum(layer.size_bytes for layer in layers)
        raise EnvironmentBuildError(
            f"image {short(digest)}: the disk of {self.folder} is full: {size(free)} are free, what is missing of "
            f"the image is {size(packed)} packed, two to four times that unpacked",
            hint="make room there, or set TYARD_CACHE to a folder on a larger disk",
        )

    def prune(self, unused_days: float | None, free_bytes: int = 0, dry_run: bool = False) -> tuple[Unused, ...]:
        """
        The images not used for unused_days (None: all), and then of the others those used longest ago until
        free_bytes are free; removed unless dry_run.

        One that a run has, that a running process is in, or that is being unpacked, stays.
        """
        with locking.held(self._flock("prune"), "another's pruning", lambda line: None):
            return self._prune(unused_days, free_bytes, dry_run)

    def _prune(self, unused_days: float | None, free_bytes: int, dry_run: bool) -> tuple[Unused, ...]:
        before = time.time() - (unused_days or 0) * 86400
        known = {folder: _chains(folder) for folder in self._images()}
        used = {folder: (folder / "used").stat().st_mtime for folder in known}
        free = shutil.disk_usage(self.folder).free if known else 0
        pruned = []
        for folder in sorted(known, key=used.__getitem__):
            is_old = unused_days is None or used[folder] <= before
            if not (is_old or free < free_bytes) or self.is_busy(folder):
                continue
            kept = {chain for other in known if other != folder for chain in known[other]}
            own = self.own_bytes(folder, known[folder] - kept)
            if dry_run or self._remove(folder):
                del known[folder]
                pruned.append(Unused(folder, used[folder], own))
                free += own
        if not dry_run:
            self._remove_layers()
        return tuple(pruned)

    def own_bytes(self, folder: Path, chains: Set[str]) -> int:
        """What it frees to remove an image, of whose layers no other has these."""
        return sum(_size_of_layer(self._layers / chain) for chain in chains)

    def is_busy(self, folder: Path) -> bool:
        """Whether a run has an image, a running process is in it, or somebody unpacks it."""
        return runs_in(folder) or in_use(folder) or locking.is_held(self._flock(folder.name))

    def fill(self, source: ImageSource, digest: str, folder: Path, log: Log) -> Mapping[str, Any]:
        """Put what an image needs to be run in into its folder, which is not there yet; returns its configuration."""
        # Shared: no layer is removed while images that may have it are not whole yet.
        with locking.shared(self._flock("layers"), "unused layers to be removed", log):
            found = described(source, digest)
            missing = self._missing(found.layers)
            packed = size(sum(layer.size_bytes for layer in missing))
            log(f"unpacking {len(missing)} of {len(found.layers)} layers, {packed}")
            (folder / "layers").mkdir()
            below: list[str] = []
            for chain, layer in _chained(found.layers):
                self._lay_out(source, layer, chain, below, log)
                (folder / "layers" / str(len(below))).symlink_to(f"../../layers/{chain}/files")
                below.append(chain)
            # Before the lock is let go: whoever removes layers looks for these links too.
            return found.config

    def _unpack(self, source: ImageSource, digest: str, log: Log) -> Path:
        folder = self.folder / digest.removeprefix("sha256:")
        with locking.held(self._flock(folder.name), f"image {short(digest)} to be unpacked", log):
            if (folder / "image.json").exists():
                return folder
            with self._aside(f"unpacking-{folder.name}", self.folder) as aside:
                config = self.fill(source, digest, aside, log)
                for name in ("work", "bin", "runs"):
                    (aside / name).mkdir()
                (aside / "runs").chmod(0o1777)  # of whoever runs in it
                # For what runs outside: rank.py, on nodes that see this folder and have the same Python.
                own = Path(getattr(sys, "_base_executable", sys.executable)).resolve()
                (aside / "bin" / "python").symlink_to(own)
                (aside / "used").touch()
                total = sum(_size_of_layer(self._layers / chain) for chain in _chains(aside))
                facts = {"digest": digest, "environment": _variables(config), "size_bytes": total}
                (aside / "image.json").write_bytes(msgspec.json.encode(facts))
                aside.rename(folder)
            return folder

    def _missing(self, layers: tuple[Layer, ...]) -> list[Layer]:
        return [layer for chain, layer in _chained(layers) if not (self._layers / chain / "layer.json").exists()]

    def _lay_out(self, source: ImageSource, layer: Layer, chain: str, below: list[str], log: Log) -> None:
        """One layer in its place, whoever is first of those that want it."""
        place = self._layers / chain
        with locking.held(self._flock(f"layer-{chain}"), f"a layer of {size(layer.size_bytes)} to be unpacked", log):
            if (place / "layer.json").exists():
                return
            under = Layers([str(self._layers / one / "files") for one in reversed(below)])
            for attempt in range(1, _TRIES + 1):
                with self._aside(f"unpacking-{chain}", self._layers) as aside:
                    try:
                        size_bytes = unpack_layer(source, layer, aside / "files", under)
                    except BrokenRequestError as error:
                        if attempt == _TRIES:
                            raise
                        log(f"{error.message}; trying again")
                        wait(attempt)
                        continue
                    (aside / "files").chmod(0o755)
                    facts = {"digest": layer.digest, "size_bytes": size_bytes}
                    (aside / "layer.json").write_bytes(msgspec.json.encode(facts))
                    aside.rename(place)
                    return

    @contextlib.contextmanager
    def _aside(self, name: str, where: Path) -> Iterator[Path]:
        """A folder to make something in, which is gone at the end if it was not renamed; the lock of name is held."""
        where.mkdir(parents=True, exist_ok=True)
        for dead in where.glob(f".{name}-*"):
            shutil.rmtree(dead, ignore_errors=True)  # the lock is ours, so whoever left it is gone
        aside = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=where))
        aside.chmod(0o755)
        try:
            yield aside
        finally:
            shutil.rmtree(aside, ignore_errors=True)

    def _is_made(self, aside: Path) -> bool:
        return locking.is_held(self._flock(aside.name.split("-")[1]))

    def _images(self) -> list[Path]:
        return [path.parent for path in self.folder.glob("[!.]*/image.json")]

    def _remove(self, folder: Path) -> bool:
        """Whether an image is gone: one that a run was given at the last moment comes back."""
        away = Path(tempfile.mkdtemp(prefix=".removed-", dir=self.folder))
        try:
            folder.rename(away / folder.name)
            if runs_in(away / folder.name, called=folder):
                with contextlib.suppress(OSError):  # it was unpacked again meanwhile
                    (away / folder.name).rename(folder)
                return False
            return True
        finally:
            shutil.rmtree(away, ignore_errors=True)

    def _remove_layers(self) -> None:
        """Remove the layers that no image has, and what was left by whoever was killed, unless somebody unpacks."""
        with locking.alone(self._flock("layers")) as is_alone:
            if not is_alone:
                return
            left = [path for path in self.folder.glob(".unpacking-*") if not self._is_made(path)]
            for dead in (*left, *self.folder.glob(".removed-*"), *self._layers.glob(".*")):
                shutil.rmtree(dead, ignore_errors=True)
            # Of those that are about to have their name too.
            kept = {chain for path in self.folder.iterdir() for chain in _chains(path)}
            for layer in self._layers.glob("[!.]*"):
                if layer.name not in kept:
                    away = layer.with_name(f".removed-{layer.name}")
                    layer.rename(away)
                    shutil.rmtree(away, ignore_errors=True)


def files_of(folder: Path) -> Layers:
    """The files of an unpacked image."""
    count = len(list((folder / "layers").iterdir()))
    return Layers([str((folder / "layers" / str(number)).resolve()) for number in reversed(range(count))])


def size_of(folder: Path) -> int:
    """Bytes of the files of an unpacked image."""
    return int(msgspec.json.decode((folder / "image.json").read_bytes())["size_bytes"])


def short(digest: str) -> str:
    """As much of a digest as a person is shown."""
    return digest.removeprefix("sha256:")[:_SHORT]


def _chained(layers: tuple[Layer, ...]) -> Iterator[tuple[str, Layer]]:
    """Each layer with the name of all from the lowest up to it."""
    chain = ""
    for layer in layers:
        chain = hashlib.sha256(f"{chain} {layer.digest}".encode()).hexdigest()
        yield chain, layer


def _chains(folder: Path) -> set[str]:
    """The layers of an image, by the names of their folders."""
    return {link.readlink().parent.name for link in (folder / "layers").glob("*")}


def _size_of_layer(folder: Path) -> int:
    try:
        return int(msgspec.json.decode((folder / "layer.json").read_bytes())["size_bytes"])
    except FileNotFoundError:
        return 0


def _variables(config: Mapping[str, Any]) -> dict[str, str]:
    pairs = (entry.partition("=") for entry in config.get("config", {}).get("Env") or ())
    return {name: value for name, _, value in pairs}
