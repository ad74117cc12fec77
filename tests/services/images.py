"""Fixtures for images: a real registry, a base made of Debian's packages in it, and one image built on it."""

import contextlib
import gzip
import hashlib
import io
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from launching import all_processes
from services.base_image import base_layer, push_image
from services.faulty import Faulty
from services.oci_registry import OciRegistry
from tensoryard.environment import Environment, EnvironmentSpec, ImageSpec, Log
from tensoryard.environment.image_builder import ImageBuilder
from tensoryard.environment.spec import Recipe
from tensoryard.environment.venv import VenvBuilder

SIX = Recipe(name="six", python="3.11", requirements=("six==1.16.0",))  # the Python of Debian 12
# What apt finds in the base: no other source, so that a build asks nobody but the package index of Python.
DEBS = ("openmpi-bin", "tyard-greeting")
_CONTROL = (
    "Package: {}\nVersion: 1.0\nArchitecture: all\nMaintainer: Tests <tests@example.org>\nDescription: a test\n"
)


class OneImage:
    """A builder whose every environment is one image."""

    def __init__(self, environment: Environment) -> None:
        self.environment = environment

    def find(self, spec: EnvironmentSpec) -> Environment | None:
        # Ranks that exchange nothing need no MPI in their image: only what starts them is asked.
        return msgspec.structs.replace(self.environment, mpi="Open MPI" if spec.horovod else None)

    def ensure(self, spec: EnvironmentSpec, log: Log, rebuild: bool = False) -> Environment:
        raise AssertionError("`find` always finds")

    def lock(self, environment: Environment) -> str:
        return ""


def left_behind(builder: ImageBuilder) -> list[str]:
    """Folders, processes and mounts of builds that are over."""
    found = [path.name for path in (builder.cache / "images").glob(".*")]
    found += [path.name for path in (builder.cache / "buildah").glob("secrets-*")]
    found += [line for line in Path("/proc/mounts").read_text().splitlines() if str(builder.cache) in line]
    return found + [command for _, command, _ in all_processes() if str(builder.cache) in command]


def mounts_of(environment: Environment) -> list[str]:
    """Mounts of an image, in the namespace of any process."""
    found: list[str] = []
    for path in Path("/proc").glob("[0-9]*/mounts"):
        with contextlib.suppress(OSError):  # of a process that is gone
            found += [line for line in path.read_text().splitlines() if environment.unpacked in line]
    return found


def variant(layers: list[bytes], text: bytes) -> list[bytes]:
    """The layers of a base that says something else."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        member = tarfile.TarInfo("etc/this-is")
        member.size = len(text)
        archive.addfile(member, io.BytesIO(text))
    return [*layers, gzip.compress(made.getvalue(), mtime=0)]


@pytest.fixture(scope="session")
def image_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The host and port of a registry that all tests of images share."""
    registry = OciRegistry(tmp_path_factory.mktemp("registry"))
    yield registry.host
    registry.close()


@pytest.fixture(scope="session")
def base_layers(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    return [base_layer().read_bytes(), _debs(tmp_path_factory.mktemp("debs"))]


@pytest.fixture(scope="session")
def base_image(image_registry: str, base_layers: list[bytes]) -> str:
    """The name of a base with Python in the registry."""
    push_image(f"{image_registry}/base:12", base_layers)
    return f"{image_registry}/base:12"


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory, image_registry: str) -> ImageBuilder:
    """A builder that all tests share: buildah keeps the layers of the base."""
    return ImageBuilder(VenvBuilder(tmp_path_factory.mktemp("cache")), image_registry)


@pytest.fixture(scope="session")
def six_image(images: ImageBuilder, base_image: str) -> Environment:
    """An image with `six` and a greeting of a system package."""
    return images.ensure_recipe(SIX, ImageSpec(base=base_image, system_packages=("tyard-greeting",)), print)


def _debs(folder: Path) -> bytes:
    """A layer with a source of packages for apt, and nothing else for it to ask."""
    index = ""
    for name in DEBS:
        root = folder / name
        (root / "DEBIAN").mkdir(parents=True)
        (root / "usr" / "share" / name).mkdir(parents=True)
        (root / "DEBIAN" / "control").write_text(_CONTROL.format(name))
        (root / "usr" / "share" / name / "greeting").write_text(f"from {name}\n")
        deb = folder / f"{name}.deb"
        subprocess.run(["dpkg-deb", "--root-owner-group", "--build", root, deb], check=True, capture_output=True)
        data = deb.read_bytes()
        facts = {"Filename": f"./{deb.name}", "Size": len(data), "SHA256": hashlib.sha256(data).hexdigest()}
        index += _CONTROL.format(name) + "".join(f"{key}: {value}\n" for key, value in facts.items()) + "\n"
    files = {f"srv/apt/{name}.deb": (folder / f"{name}.deb").read_bytes() for name in DEBS}
    files["srv/apt/Packages"] = index.encode()
    files["etc/apt/sources.list"] = b"deb [trusted=yes] file:/srv/apt ./\n"
    files["etc/this-is"] = b"the base\n"
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), 0o644
            archive.addfile(member, io.BytesIO(content))
    return gzip.compress(made.getvalue(), mtime=0)


@pytest.fixture
def faulty(image_registry: str) -> Iterator[Faulty]:
    """A network before the registry of images that fails as a test wants."""
    proxy = Faulty(f"http://{image_registry}")
    yield proxy
    proxy.close()


def host(proxy: Faulty) -> str:
    """What stands in the names of images that go through it."""
    return proxy.endpoint.removeprefix("http://").strip("/")
