"""Models to register: in a folder of this machine, and as the controller leaves them of a run."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from tensoryard.store import Store, keys
from tensoryard.store.transfer import sha256_key

MODEL_FILES = {"saved_model.pb": b"graph" * 1000, "variables/variables.index": b"index", "notes.txt": b""}


def exported(below: Path) -> Path:
    """A folder with the files of a model."""
    for name, data in MODEL_FILES.items():
        path = below / "exported" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return below / "exported"


def make_run(
    store: Store, run_id: str, files: Mapping[str, bytes] = MODEL_FILES, *, ended: bool = True, **fields: Any
) -> None:
    """A run as the controller leaves it, its files below outputs/model; fields: of its job."""
    job = {"experiment": run_id.rpartition("-")[0], "source_directory": ".", "entry_script": "train.py", **fields}
    store.put(keys.run(run_id, "job.json"), msgspec.json.encode(job))
    store.append(
        keys.run(run_id, "events.jsonl"),
        b'{"time":1.0,"fact":"environment","data":{"hash":"e1","tensorflow":"2.19"}}\n',
    )
    store.append(keys.run(run_id, "metrics/worker-0.jsonl"), b'{"name":"loss","time":1,"value":0.5}\n')
    store.append(keys.run(run_id, "metrics/worker-0.jsonl"), b'{"name":"loss","time":2,"value":0.25}\n')
    listed = []
    for name, data in files.items():
        path = f"outputs/model/{name}"
        entry = store.put(keys.run(run_id, path), data)
        digest = sha256_key(store, entry.key)
        listed.append({"path": path, "size_bytes": entry.size_bytes, "sha256": digest, "etag": entry.etag})
    if ended:
        outputs = {"files": listed, "warnings": ["1 link was not kept"]}
        store.put(keys.run(run_id, "outputs.json"), msgspec.json.encode(outputs))


def read_folder(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
