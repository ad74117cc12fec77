"""
A version as an OCI artifact, in the CNCF ModelPack format: one raw layer a file, whose digest is the file's.

Source: https://github.com/modelpack/model-spec (docs/spec.md, docs/config.md, schema/config-schema.json),
https://github.com/opencontainers/image-spec/blob/main/manifest.md
"""

import json
import re
from typing import Any, NamedTuple

from tensoryard.errors import UsageError
from tensoryard.registry.records import FileRecord, ModelVersion

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
# An image may have one manifest, or an index of one for each kind of machine; older ones are Docker's.
MANIFESTS = (MANIFEST, "application/vnd.docker.distribution.manifest.v2+json")
INDEXES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
ARTIFACT = "application/vnd.cncf.model.manifest.v1+json"
CONFIG = "application/vnd.cncf.model.config.v1+json"
WEIGHT = "application/vnd.cncf.model.weight.v1.raw"
PATH = "org.cncf.model.filepath"

# What registries agree to take; Azure's and Docker's refuse more.
_MANIFEST_BYTES = 4 << 20
_HOST = re.compile(r"(localhost|\[[0-9a-fA-F:]+\]|[a-zA-Z0-9-]+(\.[a-zA-Z0-9-]+)+|[a-zA-Z0-9-]+(?=:))(:\d{1,5})?")
_REPOSITORY = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*")
_TAG = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}")
_LOCAL = re.compile(r"(localhost|127(\.\d{1,3}){3}|\[::1\])(:\d+)?")


class Place(NamedTuple):
    """Where an artifact goes: `registry` with its port, `repository`, `tag`."""

    registry: str
    repository: str
    tag: str

    def __str__(self) -> str:
        return f"{self.registry}/{self.repository}:{self.tag}"

    @property
    def url(self) -> str:
        """Where the registry answers: over HTTPS, but for one on this very machine."""
        scheme = "http" if self.is_local else "https"
        # Docker's own registry answers elsewhere than its name says.
        host = "registry-1.docker.io" if self.registry in ("docker.io", "index.docker.io") else self.registry
        return f"{scheme}://{host}/v2/"

    @property
    def is_local(self) -> bool:
        return _LOCAL.fullmatch(self.registry) is not None


def parse_place(text: str, default_tag: str) -> Place:
    """The place named by `myregistry.azurecr.io/models/digits:3`. Raises UsageError with what a place is."""
    registry, _, rest = text.partition("/")
    repository, colon, tag = rest.partition(":")
    tag = tag if colon else default_tag
    if "://" in text:
        what = "it starts with the registry's host, without a scheme"
    elif not _HOST.fullmatch(registry):
        what = "it starts with the registry's host, such as `myregistry.azurecr.io/`"
    elif not _REPOSITORY.fullmatch(repository):
        what = "a repository is lower-case letters and digits, with `.`, `_`, `-` and `/` between them"
    elif not _TAG.fullmatch(tag):
        what = "a tag is up to 128 letters, digits, `_`, `.` and `-`"
    else:
        return Place(registry, repository, tag)
    raise UsageError(f"registry: got `{text}`: {what}", "such as `myregistry.azurecr.io/models/digits:3`")


def config_bytes(version: ModelVersion) -> bytes:
    """What ModelPack keeps beside the files: which model this is, and the digests of its layers."""
    digests = [digest(file) for file in version.files]
    config: dict[str, str] = {}
    if any(file.path.rpartition("/")[2] == "saved_model.pb" for file in version.files):
        config["format"] = "tensorflow"
    described = {
        "descriptor": {"createdAt": version.created_at, "name": version.name, "version": str(version.version)},
        "config": config,
        "modelfs": {"type": "layers", "diffIds": digests},
    }
    return _json(described)


def manifest_bytes(version: ModelVersion, config: bytes) -> bytes:
    """The manifest; the same version gives the same bytes. Raises UsageError for more files than fit into one."""
    layers = [
        {"mediaType": WEIGHT, "digest": digest(file), "size": file.size_bytes, "annotations": {PATH: file.path}}
        for file in version.files
    ]
    data = _json(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "artifactType": ARTIFACT,
            "config": {"mediaType": CONFIG, "digest": digest_of(config), "size": len(config)},
            "layers": layers,
            "annotations": {
                "org.opencontainers.image.created": version.created_at,
                "org.opencontainers.image.title": version.name,
                "org.opencontainers.image.version": str(version.version),
            },
        }
    )
    if len(data) > _MANIFEST_BYTES:
        raise UsageError(
            f"`{version.name}:{version.version}`: {len(version.files)} files need a manifest of {len(data)} bytes, "
            f"registries take {_MANIFEST_BYTES}",
            "register fewer and larger files, such as an archive of the many",
        )
    return data


def digest(file: FileRecord) -> str:
    return f"sha256:{file.sha256}"


def digest_of(data: bytes) -> str:
    import hashlib

    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
