"""Runs as the controller leaves them, and keys to sign with, for tests of models."""

from collections.abc import Mapping
from pathlib import Path

import msgspec

from tensoryard.store import Store, keys
from tensoryard.store.transfer import sha256_key

FILES = {"saved_model.pb": b"graph" * 1000, "variables/index": b"index"}


def finished_run(store: Store, run_id: str = "mnist-0007", files: Mapping[str, bytes] = FILES) -> None:
    """A finished run with files below outputs/model."""
    job = {"experiment": run_id.rpartition("-")[0], "source_directory": ".", "entry_script": "train.py"}
    store.put(keys.run(run_id, "job.json"), msgspec.json.encode(job))
    store.append(keys.run(run_id, "events.jsonl"), b'{"time":1.0,"fact":"prepared"}\n')
    listed = []
    for name, data in files.items():
        entry = store.put(keys.run(run_id, f"outputs/model/{name}"), data)
        about = {"size_bytes": entry.size_bytes, "sha256": sha256_key(store, entry.key), "etag": entry.etag}
        listed.append({"path": f"outputs/model/{name}", **about})
    store.put(keys.run(run_id, "outputs.json"), msgspec.json.encode({"files": listed, "warnings": []}))


def write_keys(folder: Path) -> None:
    """A new pair of keys, private.pem and public.pem."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    pem = serialization.Encoding.PEM
    plain = serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    (folder / "private.pem").write_bytes(key.private_bytes(pem, *plain))
    public = key.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo)
    (folder / "public.pem").write_bytes(public)
