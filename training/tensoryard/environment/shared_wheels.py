"""
Horovod's wheels in the store: compiled by one machine of a workspace, for minutes, and taken up by the others.

A wheel's key is made of all that it depends on, so that whoever has the same key can use it.
"""

import contextlib
import shutil
import tempfile
from pathlib import Path

import msgspec

from tensoryard.environment import Log
from tensoryard.environment.horovod import Wheel
from tensoryard.errors import AlreadyExistsError
from tensoryard.store import Store, keys
from tensoryard.store.transfer import download
from tensoryard.text import size

_RECORD = "wheel.json"


def bring(store: Store, cache: Path, key: str, log: Log) -> bool:
    """Whether the wheel of a key is in the cache now, from the store if need be, checked against its digest."""
    folder = cache / "wheels" / "horovod" / key
    if (folder / _RECORD).exists():
        return True
    entry = store.stat(keys.horovod_wheel(key, _RECORD))
    if entry is None:
        return False
    data = store.read(entry.key)
    wheel = msgspec.json.decode(data, type=Wheel)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".bringing-", dir=folder.parent, ignore_cleanup_errors=True) as aside:
        whole = Path(aside) / key
        whole.mkdir()
        log(f"taking Horovod's wheel, compiled before for {wheel.inputs.distribution} {wheel.inputs.tensorflow}")
        download(store, keys.horovod_wheel(key, wheel.sha256), whole / wheel.file, wheel.sha256)
        (whole / _RECORD).write_bytes(data)
        if folder.exists():  # half of one, or another's of this moment
            shutil.rmtree(folder, ignore_errors=True)
        with contextlib.suppress(OSError):
            whole.rename(folder)
    return (folder / _RECORD).exists()


def share(store: Store, cache: Path, key: str, log: Log) -> None:
    """Put the wheel of a key, which is in the cache, into the store, if nobody has; its record last."""
    if store.stat(keys.horovod_wheel(key, _RECORD)) is not None:
        return
    folder = cache / "wheels" / "horovod" / key
    data = (folder / _RECORD).read_bytes()
    wheel = msgspec.json.decode(data, type=Wheel)
    path = folder / wheel.file
    log(f"keeping Horovod's wheel in the workspace ({size(path.stat().st_size)})")
    # By its digest, since a wheel has other bytes each time that it is compiled: the record says whose is meant.
    with contextlib.suppress(AlreadyExistsError):
        store.put_file(keys.horovod_wheel(key, wheel.sha256), path)
    with contextlib.suppress(AlreadyExistsError):
        store.put(keys.horovod_wheel(key, _RECORD), data)
