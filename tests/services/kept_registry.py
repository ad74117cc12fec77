"""
A registry that keeps what it has for later runs: a base with Open MPI of Debian, and images that take minutes.

Its address is a part of what an image is made from, and so always the same; whoever else wants it waits.
"""

import fcntl
import gzip
import io
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from services.base_image import base_layer, push_image
from services.kept import cache_folder
from services.oci_registry import OciRegistry
from tensoryard.registry.oci_client import Client
from tensoryard.registry.oci_manifest import parse_place

ADDRESS, PORT = "127.83.0.1", 5083


@contextmanager
def kept_registry() -> Iterator[str]:
    """The host and port of the registry, with a base under `base:openmpi`."""
    folder = cache_folder() / "registry"
    folder.mkdir(parents=True, exist_ok=True)
    with (cache_folder() / "registry.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        registry = OciRegistry(folder, address=ADDRESS, port=PORT)
        try:
            base = f"{registry.host}/base:openmpi"
            if Client(parse_place(base, "")).tagged() is None:
                push_image(base, mpi_layers())
            yield registry.host
        finally:
            registry.close()


def mpi_layers() -> list[bytes]:
    """The layers of a base with Python, also by that name, and with Open MPI; apt asks nobody, as all is there."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("etc/apt/sources.list"), io.BytesIO())
        python = tarfile.TarInfo("usr/local/bin/python")
        python.type, python.linkname = tarfile.SYMTYPE, "/usr/bin/python3"
        archive.addfile(python)
    return [base_layer("openmpi-bin").read_bytes(), gzip.compress(made.getvalue(), mtime=0)]


@pytest.fixture(name="kept_registry")
def _kept_registry() -> Iterator[str]:
    with kept_registry() as host:
        yield host
