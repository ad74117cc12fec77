"""An image in a folder sent to a registry."""

import json
from collections.abc import Iterator

from tensoryard.environment import interruption
from tensoryard.environment.image_unpack import OciFolder
from tensoryard.registry.oci import upload
from tensoryard.registry.oci_client import Client
from tensoryard.registry.oci_manifest import Place

_CHUNK_BYTES = 8 << 20


def push(source: OciFolder, digest: str, place: Place) -> None:
    """Send an image to a registry, less what it has; its tag comes last."""
    client = Client(place, push=True)
    manifest = source.manifest(digest)
    described = json.loads(manifest)
    for part in (*described["layers"], described["config"]):
        if client.has_blob(part["digest"]):
            continue

        def read(blob: str = part["digest"]) -> Iterator[bytes]:
            with source.open_blob(blob) as file:
                while chunk := file.read(_CHUNK_BYTES):
                    interruption.look()
                    yield chunk

        upload(client, part["digest"], read)
    client.put_manifest(manifest)
