"""
What head and nodes are told at boot.

Custom data is the cloud-config rendered from templates/node: the same for every workspace of a release, because Azure
lets nobody change it on a machine that exists. User data is the workspace's own part, as JSON: Azure lets it be
replaced, and machines read it from the metadata service. Neither holds a secret: both can be read by whoever gets on
to the machine.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from infra.names import ADMIN, MUNGE_SECRET

if TYPE_CHECKING:
    import jinja2

_ROOT = Path(__file__).resolve().parent.parent
TEMPLATES = _ROOT / "templates" / "node"
MOST_BYTES = 65536
"""Most that Azure takes as custom data or as user data, before base64."""

PROGRAMS = "/usr/local/sbin/tyard"
"""Start of the paths of Slurm's programs on the head: tyard-resume, tyard-suspend, tyard-fail, tyard-job-start."""

NODE_IMAGES = "/mnt/tensoryard/images"
"""Where a node keeps images of runs: on its temp disk where it has one, which Azure's images mount at /mnt."""

NFS_OPTIONS = "hard,noatime,actimeo=1"
"""
Of the folder of runs: what one machine writes, others see within a second; by default NFS keeps names and sizes for
up to a minute. No version: client and server agree on the newest, which is 4.1 on Azure Files.
"""

Kind = Literal["head", "worker"]


@dataclass(frozen=True, kw_only=True)
class File:
    """One file of a machine. template: in templates/node; program: of Slurm's, which the template may name."""

    path: str
    template: str
    runs: bool = False
    program: str = ""


@dataclass(frozen=True, kw_only=True)
class Context:
    """
    What the templates may name.

    daemon: Slurm's on this machine; key_option: an option of tyard-munge-key; builds_images: by buildah; uv: its
    release with the digests of its wheels, as pip takes them.
    """

    packages: tuple[str, ...]
    daemon: str
    key_option: str
    files: tuple[File, ...]
    builds_images: bool = False
    secret: str = MUNGE_SECRET
    admin: str = ADMIN
    node_images: str = NODE_IMAGES
    nfs_options: str = NFS_OPTIONS
    uv: str = (_ROOT / "requirements" / "uv.txt").read_text(encoding="utf-8")


def _script(name: str) -> File:
    return File(path=f"/usr/local/sbin/{name}", template=f"{name}.py.j2", runs=True)


def _unit(name: str) -> File:
    return File(path=f"/etc/systemd/system/{name}", template=f"{name}.j2")


def _drop_in(service: str, template: str, name: str = "tensoryard") -> File:
    return File(path=f"/etc/systemd/system/{service}.service.d/{name}.conf", template=template)


def _program(name: str) -> File:
    return File(path=f"{PROGRAMS}-{name}", template="tyard-program.sh.j2", runs=True, program=name)


_MUNGE = (
    _script("tyard-munge-key"),
    _unit("tyard-munge-key.service"),
    _drop_in("munge", "munge.conf.j2"),
)
_NAMESPACES = File(path="/etc/sysctl.d/60-tensoryard.conf", template="namespaces.conf.j2")
# Images are built by a user who is not root, which takes uidmap and, below kernel 5.13, fuse-overlayfs.
_BUILDS_IMAGES = ("buildah", "uidmap", "fuse-overlayfs")
# Environments are built on the head, and Horovod's wheel is compiled there.
_COMPILES_HOROVOD = ("cmake", "g++", "make", "libopenmpi-dev", "openmpi-bin")
CONTEXTS = {
    "head": Context(
        # venv and pip fetch uv, which fetches the Python that nodes find in the shared folder.
        packages=(
            "munge",
            "chrony",
            "slurmctld",
            "slurm-client",
            "nfs-kernel-server",
            "python3-venv",
            *_BUILDS_IMAGES,
            *_COMPILES_HOROVOD,
        ),
        builds_images=True,
        daemon="slurmctld",
        key_option="--make",
        files=(
            *_MUNGE,
            _NAMESPACES,
            _drop_in("slurmctld", "slurm-after-munge.conf.j2"),
            _script("tyard-head"),
            _unit("tyard-configure.service"),
            _unit("tyard-configure.timer"),
            _unit("tyard-install.service"),
            File(path="/usr/local/bin/tyard", template="tyard.sh.j2", runs=True),
            _program("resume"),
            _program("suspend"),
            _program("fail"),
            File(path=f"{PROGRAMS}-job-start", template="tyard-job-start.sh.j2", runs=True),
            _unit("tyard-reconcile.service"),
            _unit("tyard-reconcile.timer"),
            _unit("tyard-controller.service"),
        ),
    ),
    "worker": Context(
        packages=("munge", "chrony", "slurmd", "slurm-client", "nfs-common"),
        daemon="slurmd",
        key_option="--wait",
        files=(
            *_MUNGE,
            _NAMESPACES,
            _drop_in("slurmd", "slurm-after-munge.conf.j2"),
            _drop_in("slurmd", "slurmd-of-a-name.conf.j2", "tensoryard-node"),
            _script("tyard-node"),
            _unit("tyard-node.service"),
            _script("tyard-events"),
            _unit("tyard-events.service"),
        ),
    ),
}


@cache
def templates() -> jinja2.Environment:
    """The templates of templates/node, strict about what they name."""
    import jinja2

    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        undefined=jinja2.StrictUndefined,
        autoescape=False,  # noqa: S701 - it renders YAML and units, not HTML
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def cloud_config(kind: Kind, builds_images: bool = False) -> str:
    """The cloud-config that a machine boots with; builds_images: also where it is a node."""
    context = CONTEXTS[kind]
    if builds_images and not context.builds_images:
        context = replace(context, packages=(*context.packages, *_BUILDS_IMAGES), builds_images=True)
    return templates().get_template(f"{kind}.yaml.j2").render(asdict(context))


def custom_data(kind: Kind, builds_images: bool = False) -> str:
    """The cloud-config as Azure takes it, in base64."""
    return _packed(cloud_config(kind, builds_images))


def user_data(facts: Mapping[str, Any]) -> str:
    """
    The workspace's own part as Azure takes it: JSON, keys sorted, in base64.

    Raises ValueError above 64 KiB.
    """
    return _packed(json.dumps(facts, sort_keys=True, separators=(",", ":")))


def _packed(text: str) -> str:
    data = text.encode()
    if len(data) > MOST_BYTES:
        raise ValueError(f"{len(data)} bytes of custom data or user data; Azure takes {MOST_BYTES}")
    return base64.b64encode(data).decode()
