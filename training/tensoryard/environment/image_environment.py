"""What is known of the environment in an image: of its inputs beforehand, of the image once it is there."""

import hashlib
import time
from pathlib import Path

import msgspec

from tensoryard.environment import Environment, ImageSpec, Package
from tensoryard.environment.image import PREFIX, ImageInputs, parse_reference
from tensoryard.environment.image_folders import short, size_of
from tensoryard.environment.resolve import pinned, pins
from tensoryard.environment.spec import HOROVOD

REPOSITORY = "tensoryard/environments"


def of_inputs(inputs: ImageInputs) -> Environment:
    """The environment that an image of ours will have."""
    horovod = HOROVOD if inputs.wheel or inputs.horovod else None
    packages = pins(inputs.requirements) | ({"horovod": horovod} if horovod else {})
    return Environment(
        hash=inputs.key,
        name=inputs.name,
        python=f"{PREFIX}/bin/python",
        python_version=inputs.python,
        tensorflow=pinned(inputs.requirements, "tensorflow-cpu") or pinned(inputs.requirements, "tensorflow"),
        horovod=horovod,
        mpi="Open MPI" if inputs.mpi else None,
        lock_sha256=hashlib.sha256(inputs.requirements.encode()).hexdigest(),
        packages=tuple(Package(name, version) for name, version in sorted(packages.items())),
        base=inputs.base,
    )


def not_ours(name: str, key: str) -> Environment:
    """The environment in an image whose contents we do not know."""
    # Whether it has an MPI shows when a rank starts.
    return Environment(
        hash=key, name=name, python="python", python_version="", tensorflow="", mpi="the image's own", lock_sha256=""
    )


def of_existing(image: ImageSpec, digest: str, unpacked: Path) -> Environment:
    """The environment in an image that is used as it is."""
    reference = parse_reference(image.existing, "image")
    described = not_ours(image.existing, digest.removeprefix("sha256:")[:16])
    return at(described, f"{reference.registry}/{reference.repository}", digest, unpacked)


def at(described: Environment, repository: str, digest: str, unpacked: Path) -> Environment:
    """A description with what is known of an image once it is there; unpacked: Path() where it is not yet."""
    image = f"{repository}@{digest}"
    if unpacked == Path():
        return msgspec.structs.replace(described, image=image, created_at=time.time())
    bytes_ = size_of(unpacked)
    return msgspec.structs.replace(
        described,
        image=image,
        created_at=described.created_at or time.time(),
        size_bytes=bytes_,
        own_bytes=bytes_,
        unpacked=str(unpacked),
    )


def reused(found: Environment) -> str:
    """What is said of an image that need not be built."""
    repository, _, digest = found.image.partition("@")
    place = repository.removesuffix(f"/{REPOSITORY}")
    return f"image {short(digest)} {'of this machine' if place == 'localhost' else f'in {place}'}: reused"
