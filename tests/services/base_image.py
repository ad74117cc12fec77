"""
A base image out of Debian's packages, as no hub can be reached from everywhere: Python, apt and nothing to spare.

Made once on a machine and kept in the cache of the tests; pushed to a registry of the tests whenever one needs it.
"""

import gzip
import json
import platform
import shutil
import subprocess
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from services.kept import kept
from tensoryard.registry.oci_client import Client
from tensoryard.registry.oci_manifest import MANIFEST, digest_of, parse_place

_PACKAGES = ("usr-is-merged", "python3")
_SHARED = ("doc", "man", "locale", "info", "bash-completion", "lintian")
_LEFT_OUT = (*(f"/usr/share/{name}" for name in _SHARED), "/usr/lib/*/gconv")
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
_CONFIG = "application/vnd.oci.image.config.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"


def base_layer(*more: str) -> Path:
    """The one layer of a base, a gzipped archive; made if this machine has none. more: packages that it has too."""
    packages = (*_PACKAGES, *more)
    return kept(f"base-image-{'-'.join(packages)}.tar.gz", lambda aside: _make(aside, packages))


def push_image(
    where: str, layers: list[bytes], config: Mapping[str, Any] | None = None, architecture: str = ""
) -> str:
    """
    The digest of an image in a registry, pushed under a name such as `127.0.0.1:5000/base:1`.

    layers: gzipped archives; config: what of the image's configuration is not the default.
    """
    client = Client(parse_place(where, "latest"), push=True)
    described = {
        "architecture": architecture or _ARCHITECTURES[platform.machine()],
        "os": "linux",
        "config": {"Env": ["PATH=/usr/local/bin:/usr/bin:/bin"], **(config or {})},
        "history": [{"created_by": "tests"} for _ in layers],
        "rootfs": {"type": "layers", "diff_ids": [_unpacked_digest(layer) for layer in layers]},
    }
    data = json.dumps(described).encode()
    for blob in (*layers, data):
        if not client.has_blob(digest_of(blob)):
            client.end_upload(client.start_upload(), digest_of(blob), blob)
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": {"mediaType": _CONFIG, "digest": digest_of(data), "size": len(data)},
        "layers": [{"mediaType": _LAYER, "digest": digest_of(layer), "size": len(layer)} for layer in layers],
    }
    client.put_manifest(json.dumps(manifest).encode())
    return digest_of(json.dumps(manifest).encode())


@lru_cache(maxsize=4)
def _unpacked_digest(layer: bytes) -> str:
    """The base is pushed to more than one registry, and takes a second."""
    return digest_of(gzip.decompress(layer))


def _make(aside: Path, packages: tuple[str, ...]) -> Path:
    assert shutil.which("mmdebstrap"), "the tests need mmdebstrap: run tools/system-packages"
    # Without recommended packages, manuals and lists; the suite is what the tests' images are built from.
    options = ["--variant=apt", f"--include={','.join(packages)}", "--aptopt=Apt::Install-Recommends false"]
    options += [f"--dpkgopt=path-exclude={path}/*" for path in _LEFT_OUT]
    # Else `usrmerge` comes, with all of Perl: a third of the image.
    options.append("--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr")
    # Hundreds of files of Perl's that no package's script asks for.
    options.append('--customize-hook=rm -r "$1"/usr/lib/*/perl-base/unicore/lib')
    made = subprocess.run(
        ["mmdebstrap", *options, "bookworm", str(aside / "base.tar")], capture_output=True, text=True, check=False
    )
    assert made.returncode == 0, f"mmdebstrap: {made.stderr[-2000:]}"
    packed = aside / "base.tar.gz"
    with (aside / "base.tar").open("rb") as plain, gzip.open(packed, "wb", compresslevel=3) as file:
        shutil.copyfileobj(plain, file, 1 << 20)
    return packed
