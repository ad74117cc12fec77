"""
The Dockerfile of a locked environment, and the key of what it builds. Pure: no file written, no network.

An image is the locked environment in another wrapping: the same spec has the same lock, in a folder or in an image.
"""

import re
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from tensoryard import templates
from tensoryard.errors import JobError

if TYPE_CHECKING:
    from jinja2 import Environment

PREFIX = "/opt/environment"  # of Python and its packages in every image
_DOCKER_HUB = "docker.io"
_REGISTRY = re.compile(r"localhost|[^/]*[.:][^/]*")
_REPOSITORY = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*")
_TAG = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_HOST = re.compile(r"(\[[0-9a-fA-F:]+\]|[a-zA-Z0-9.-]+)(:\d{1,5})?")
# Source: https://www.debian.org/doc/debian-policy/ch-controlfields.html, 5.6.7 and 5.6.12.
_SYSTEM_PACKAGE = re.compile(r"[a-z0-9][a-z0-9+.-]+(=[A-Za-z0-9.+:~-]+)?")


class Reference(NamedTuple):
    """An image in a registry. tag: "" where only the digest names it; digest: "" where only the tag does."""

    registry: str
    repository: str
    tag: str
    digest: str

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        return f"{self.registry}/{self.repository}{tag}{'@' if self.digest else ''}{self.digest}"

    def at(self, digest: str) -> str:
        """The name of the image that has this digest: what every builder and registry reads."""
        return f"{self.registry}/{self.repository}@{digest}"


class LockFile(NamedTuple):
    """A part of the lock that is a layer of its own. what: in words, for the Dockerfile; name: of the file."""

    what: str
    name: str
    text: str


class ImageInputs(msgspec.Struct, frozen=True, kw_only=True):
    """
    All that an image of ours is made from.

    name, python: of the recipe; base_name: as it was asked for, base: by its digest; mpi: whether ranks need it;
    requirements: the lock; framework: the part of it that other environments of this TensorFlow have too, or "";
    wheel: folder and file of Horovod's wheel, "<key>/horovod-....whl", or "";
    horovod: the line of a lock for its sources, where they are compiled in the image's build, or "".
    """

    name: str
    python: str
    base_name: str
    base: str
    system_packages: tuple[str, ...] = ()
    mpi: bool = False
    requirements: str = ""
    framework: str = ""
    wheel: str = ""
    horovod: str = ""

    @property
    def key(self) -> str:
        """16 hex digits over the Dockerfile and all that it is built with: the same key is the same image."""
        import hashlib

        parts = [_text(self, key=""), *(file.text for file in self.locks())]
        return hashlib.sha256(msgspec.json.encode(parts)).hexdigest()[:16]

    def locks(self) -> tuple[LockFile, ...]:
        """The lock in the layers that it is installed in: TensorFlow rarely changes, the job's own packages often."""
        shared = set(entries(self.framework))
        rest = "".join(entry for entry in entries(self.requirements) if entry not in shared)
        found = (
            LockFile("TensorFlow and what it needs", "framework.lock", self.framework),
            LockFile("Python packages of the job" if shared else "Python packages", "requirements.lock", rest),
        )
        return tuple(file for file in found if file.text)


def dockerfile(inputs: ImageInputs) -> str:
    """The Dockerfile of an image: the same inputs give the same bytes."""
    return _text(inputs, key=inputs.key)


def _text(inputs: ImageInputs, key: str) -> str:
    import hashlib

    return (
        _environment()
        .get_template("Dockerfile.j2")
        .render(
            name=inputs.name,
            python=inputs.python,
            base_name=inputs.base_name,
            base=inputs.base,
            system_packages=inputs.system_packages,
            mpi=inputs.mpi,
            locks=inputs.locks(),
            wheel=inputs.wheel,
            wheel_file=inputs.wheel.rpartition("/")[2],
            horovod=inputs.horovod,
            packages_of_python=f"{PREFIX}/lib/python{'.'.join(inputs.python.split('.')[:2])}/site-packages",
            key=key,
            lock_sha256=hashlib.sha256(inputs.requirements.encode()).hexdigest(),
        )
    )


def entries(lock: str) -> list[str]:
    """The requirements of a lock, each with its digests and line breaks."""
    return re.findall(r"^\S(?:.*\\\n)*.*\n?", lock, re.MULTILINE)


def shared_part(lock: str, framework: str) -> str:
    """The lock of the framework alone where another lock has all of it unchanged, else ""."""
    return framework if framework and set(entries(framework)) <= set(entries(lock)) else ""


def default_base(python: str) -> str:
    """The image that has a Python ("3.11") on the Debian that Tensoryard is tested on."""
    return f"{_DOCKER_HUB}/library/python:{python}-slim-bookworm"


def parse_reference(text: str, field: str) -> Reference:
    """
    The image that a text names, as Docker reads it: `python:3.11` is Docker Hub's.

    Raises JobError naming the field, with what an image's name is.
    """
    name, at, digest = text.partition("@")
    first, slash, rest = name.partition("/")
    registry, path = (first, rest) if slash and _REGISTRY.fullmatch(first) else (_DOCKER_HUB, name)
    repository, colon, tag = path.partition(":")
    if registry == _DOCKER_HUB and "/" not in repository:
        repository = f"library/{repository}"
    if "://" in text:
        rule = "it starts with the registry's host, without a scheme"
    elif not _HOST.fullmatch(registry):
        rule = f"`{registry}` is no host of a registry"
    elif not _REPOSITORY.fullmatch(repository):
        rule = "a repository is lower-case letters and digits, with `.`, `_`, `-` and `/` between them"
    elif colon and not _TAG.fullmatch(tag):
        rule = "a tag is up to 128 letters, digits, `_`, `.` and `-`"
    elif at and not _DIGEST.fullmatch(digest):
        rule = "a digest is `sha256:` and 64 hex digits"
    else:
        return Reference(registry, repository, tag or ("" if digest else "latest"), digest)
    raise JobError(
        f"{field}: got `{text}`: {rule}", hint="such as `python:3.11-slim-bookworm` or `myregistry.azurecr.io/base:2`"
    )


def check_system_package(name: str) -> None:
    """Raises JobError for what is no name of a Debian package, with or without a version."""
    if not _SYSTEM_PACKAGE.fullmatch(name):
        raise JobError(
            f"system_packages: got `{name}`, allowed are names of Debian packages such as `ffmpeg` or `ffmpeg=7:5.1*`"
            if "*" in name
            else f"system_packages: got `{name}`, allowed are names of Debian packages such as `libgomp1`"
        )


@cache
def _environment() -> "Environment":
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    return Environment(  # noqa: S701 - a Dockerfile, not HTML; every value in it was matched against a pattern
        loader=FileSystemLoader(templates.folder("image")),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
