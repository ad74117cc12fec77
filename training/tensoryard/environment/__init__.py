"""
The Python a job runs in: what is asked, what was built, and who builds it.

A spec is what a job asks for. Its lock names every package with its digest, is made once and never changes
by itself. The lock and the platform give the environment's hash, and an environment with a hash is built
once and shared by every workspace of the machine. ``venv.VenvBuilder`` builds into a folder; an image
builder fulfils the same protocol.
"""

from collections.abc import Callable
from typing import Protocol

import msgspec

Log = Callable[[str], None]  # takes one line, without its line break


class ImageSpec(msgspec.Struct, frozen=True, kw_only=True):
    """
    What a job asks of the image that it runs in.

    base: the image that the environment is put on, or "" for the one that fits its Python; system_packages: names of
    Debian's packages; existing: an image to run in as it is, or "" to build one; dockerfile: the job's own, by its
    path in the source, or ""; context: digest of the snapshot that it is built with, which lies in folder.
    """

    base: str = ""
    system_packages: tuple[str, ...] = ()
    existing: str = ""
    dockerfile: str = ""
    context: str = ""
    folder: str = ""


class EnvironmentSpec(msgspec.Struct, frozen=True, kw_only=True):
    """
    The environment a job asks for, checked by ``spec.environment_spec``.

    tensorflow: a release, "2.15" (its newest fix) or "2.15.1"; python: "3.11", or None for the newest that fits;
    pip_packages: lines of a requirements file; conda_packages: as conda writes them, from conda_channels in order;
    image: None for a virtual environment.
    """

    tensorflow: str
    python: str | None = None
    use_gpu: bool = False
    horovod: bool = False
    pip_packages: tuple[str, ...] = ()
    conda_packages: tuple[str, ...] = ()
    conda_channels: tuple[str, ...] = ("conda-forge",)
    image: ImageSpec | None = None


class Package(msgspec.Struct, frozen=True):
    """One installed distribution."""

    name: str
    version: str


class Environment(msgspec.Struct, frozen=True, kw_only=True):
    """
    A finished environment.

    hash: 16 hex digits over everything that shapes its contents; name: "tensorflow-2.15+horovod", for people;
    python: absolute path of its interpreter, beside which its commands lie; python_version, tensorflow: exact
    releases ("" for an environment without TensorFlow); horovod: its release or None; mpi: the MPI that Horovod
    was compiled against, or None when it has Gloo only; lock_sha256: of the text that `EnvironmentBuilder.lock`
    returns; created_at: seconds since the epoch, UTC; size_bytes: all files; own_bytes: those not shared with
    uv's cache by hard links; image: "registry/repository@sha256:..." of an environment that is an image, else "";
    its python is a path inside of it, and unpacked the folder that tasks of this machine run in; base: the image that
    it was put on, by its digest, or "".
    """

    hash: str
    name: str
    python: str
    python_version: str
    tensorflow: str
    horovod: str | None = None
    mpi: str | None = None
    lock_sha256: str
    spec: EnvironmentSpec | None = None
    packages: tuple[Package, ...] = ()
    created_at: float = 0.0
    size_bytes: int = 0
    own_bytes: int = 0
    image: str = ""
    unpacked: str = ""
    base: str = ""


class EnvironmentBuilder(Protocol):
    """Whoever turns a spec into something a task can start in. Safe between threads, processes and after a kill."""

    def find(self, spec: EnvironmentSpec) -> Environment | None:
        """The finished environment of a spec, or None. Reads two small files; never builds, never asks an index."""
        ...

    def ensure(self, spec: EnvironmentSpec, log: Log, rebuild: bool = False) -> Environment:
        """
        The environment of a spec, built if it is not there.

        log: gets each line the build says, while it builds; rebuild: lock again, so that newer packages come in.
        Within `interruption.checked_by` the caller can end it at any time, and nothing of it goes on then.
        Of many callers at once one builds and the others wait for it, and say so.
        Raises EnvironmentBuildError when it cannot be resolved or built, with the entry at fault.
        """
        ...

    def lock(self, environment: Environment) -> str:
        """The lock of an environment: one requirement with its SHA-256 digests an entry, as pip and uv read it."""
        ...
