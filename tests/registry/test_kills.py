"""
A process killed by SIGKILL at every single step, half-way through a write too, and then the same command again.

After the kill all that `registry.check` says must hold already, and the second try must complete what the first one
began, once.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from finished_runs import FILES, finished_run, write_keys
from killed_at_steps import killed
from launching import same
from services.oci_registry import OciRegistry
from tensoryard.downloads import download_path
from tensoryard.errors import NotFoundError
from tensoryard.registry import Registry
from tensoryard.registry.check import check_registry
from tensoryard.registry.gc import collect
from tensoryard.registry.oci import push
from tensoryard.registry.oci_client import Client
from tensoryard.registry.oci_manifest import parse_place
from tensoryard.registry.signing import sign_version, signature_problems
from tensoryard.store import Store, blob_copy, blob_upload, keys, transfer
from tensoryard.store.blob import BlobStore
from tensoryard.store.file import FileStore
from tensoryard.store.part import PART_PREFIX
from tensoryard.store.transfer import sha256_key
from tensoryard.uploads import upload_files

BIG = os.urandom(250_000)
DATA = {"images/cat": b"cat" * 1000, "images/dog": BIG, "labels": b""}
MOST_STEPS = 200


class Place(NamedTuple):
    """Where one try is made: in a store, below a folder of this machine's disks, on a model of a name."""

    store: Store
    folder: Path
    name: str

    def registry(self) -> Registry:
        return Registry(self.store)


class Work(NamedTuple):
    """
    What is done twice, killed the first time.

    prepare: done before; done: looks whether all is as if it was done once; again: whether the second try makes a
    second version, as nobody told it that it is one.
    """

    prepare: Callable[[Place], object]
    do: Callable[[Place], object]
    done: Callable[[Place], None]
    again: bool = False


def _two_versions(place: Place) -> None:
    registry = place.registry()
    finished_run(registry.store, f"{place.name}-0007")
    for _ in range(2):
        _register(place)


def _run_only(place: Place) -> None:
    finished_run(place.store, f"{place.name}-0007")


def _aliased(place: Place) -> None:
    _two_versions(place)
    place.registry().alias(place.name, "champion", 1)


def _deleted(place: Place) -> None:
    _two_versions(place)
    place.registry().delete(place.name, 2)


def _register(place: Place, **how: Any) -> None:
    place.registry().register_run_files(place.name, f"{place.name}-0007", "outputs/model", **how)


def _export(place: Place) -> None:
    for name, data in FILES.items():
        path = place.folder / "exported" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def _one_version(place: Place) -> None:
    (version,) = place.registry().list_versions(place.name)
    assert [file.path for file in version.files] == sorted(FILES)
    assert place.registry().get(place.name) == version


def _some_versions(place: Place) -> None:
    assert 1 <= len(list(place.registry().list_versions(place.name))) <= 2


def _kinds(place: Place, *kinds: str) -> None:
    found = [event.kind for event in place.registry().history(place.name) if event.kind != "registered"]
    assert found == list(kinds)


def _is_aliased(place: Place) -> None:
    assert place.registry().aliases(place.name) == {"champion": 2}
    _kinds(place, "aliased", "aliased")


def _is_not_aliased(place: Place) -> None:
    assert place.registry().aliases(place.name) == {}
    _kinds(place, "aliased", "aliased")


def _is_deleted(place: Place) -> None:
    assert place.registry().get(place.name).version == 1
    _kinds(place, "deleted")


def _is_restored(place: Place) -> None:
    assert place.registry().get(place.name).version == 2
    _kinds(place, "deleted", "restored")


def _unalias(place: Place) -> None:
    try:
        place.registry().alias(place.name, "champion", None)
    except NotFoundError:  # the first try had done it
        assert place.registry().aliases(place.name) == {}


def _copied_and_deleted(place: Place) -> None:
    """Two versions with copies of their own, of which one is deleted; half of what it needs the other needs too."""
    for word in (b"one", b"two"):
        run = f"{place.name}-{word.decode()}-0001"
        finished_run(place.store, run, {"shared": b"of both", "own": word + place.name.encode()})
        place.registry().register_run_files(place.name, run, "outputs/model", copy=True)
    place.registry().delete(place.name, 1)


def _clean_up(place: Place) -> None:
    collect(place.store, apply=True, deleted_before_days=0, untouched_s=0)


def _is_clean(place: Place) -> None:
    _kinds(place, "deleted", "purged")
    version = place.registry().get(place.name)
    assert place.registry().verify_version(version) == []
    left = {entry.key for entry in place.store.list(keys.CONTENTS)}
    assert keys.content(hashlib.sha256(b"one" + place.name.encode()).hexdigest()) not in left
    assert {file.key for file in version.files} <= left


def _fill(place: Place) -> None:
    for name, data in DATA.items():
        path = place.folder / "mine" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def _upload(place: Place) -> None:
    files = {name: place.folder / "mine" / name for name in DATA}
    upload_files(place.store, files, place.name, overwrite=False, show_progress=False)


def _uploaded(place: Place) -> None:
    start = len(keys.data(f"{place.name}/"))
    found = {entry.key[start:]: place.store.read(entry.key) for entry in place.store.list(keys.data(place.name))}
    assert same(found, DATA)


def _filled_and_uploaded(place: Place) -> None:
    _fill(place)
    _upload(place)


def _fetch(place: Place) -> None:
    got = place.folder / "got"
    download_path(place.store, place.name, got, whole_paths=False, overwrite=False, show_progress=False)


def _fetched(place: Place) -> None:
    got = place.folder / "got"
    found = {path.relative_to(got).as_posix(): path.read_bytes() for path in got.rglob("*") if path.is_file()}
    assert same(found, DATA)


def _downloaded(place: Place) -> None:
    got = place.folder / "got"
    found = {path.relative_to(got).as_posix(): path.read_bytes() for path in got.rglob("*") if path.is_file()}
    assert found == FILES


def _with_a_key(place: Place) -> None:
    _run_only(place)
    _register(place)
    write_keys(place.folder)


def _sign(place: Place) -> None:
    sign_version(place.store, place.registry().get(place.name), place.folder / "private.pem")


def _is_signed(place: Place) -> None:
    version = place.registry().get(place.name)
    assert signature_problems(place.store, version, place.folder / "public.pem") == []
    assert len(list(place.store.list(keys.model(place.name, "signatures/")))) == 1


# Where the registry of this file's tests listens.
_listening: list[str] = []


def _client(place: Place) -> Client:
    repository = hashlib.sha256(str(place.folder).encode()).hexdigest()[:16]
    return Client(parse_place(f"{_listening[0]}/models/{repository}", "1"))


def _push(place: Place) -> None:
    _nothing_is_tagged_by_halves(place)
    push(place.store, place.registry().get(place.name), _client(place).place)


def _nothing_is_tagged_by_halves(place: Place) -> bool:
    """Whether a tag is there, which then names a manifest all of whose layers are there."""
    client = _client(place)
    tagged = client.tagged()
    if tagged is None:
        return False
    layers = json.loads(client.manifest(tagged))["layers"]
    found = {layer["annotations"]["org.cncf.model.filepath"]: layer["digest"] for layer in layers}
    assert found == {name: f"sha256:{hashlib.sha256(data).hexdigest()}" for name, data in FILES.items()}
    for name, digest in found.items():
        with client.open_blob(digest) as blob:
            assert blob.read() == FILES[name]
    return True


def _is_pushed(place: Place) -> None:
    assert _nothing_is_tagged_by_halves(place)


WORKS: dict[str, Work] = {
    "register": Work(_run_only, _register, _some_versions, again=True),
    "register with a nonce": Work(_run_only, lambda place: _register(place, nonce="once"), _one_version),
    "register a copy": Work(_run_only, lambda place: _register(place, nonce="once", copy=True), _one_version),
    "register a folder": Work(
        _export,
        lambda place: place.registry().register_folder(place.name, place.folder / "exported", nonce="once"),
        _one_version,
    ),
    "alias": Work(_aliased, lambda place: place.registry().alias(place.name, "champion", 2), _is_aliased),
    "take an alias away": Work(_aliased, _unalias, _is_not_aliased),
    "delete": Work(_two_versions, lambda place: place.registry().delete(place.name, 2), _is_deleted),
    "restore": Work(_deleted, lambda place: place.registry().restore(place.name, 2), _is_restored),
    "clean up": Work(_copied_and_deleted, _clean_up, _is_clean),
    "download": Work(
        lambda place: (_run_only(place), _register(place)),
        lambda place: place.registry().download(place.name, place.folder / "got"),
        _downloaded,
    ),
    "sign": Work(_with_a_key, _sign, _is_signed),
    "push": Work(lambda place: (_run_only(place), _register(place)), _push, _is_pushed),
    "data upload": Work(_fill, _upload, _uploaded),
    "data download": Work(_filled_and_uploaded, _fetch, _fetched),
}


def _nothing_torn(place: Place) -> None:
    """Under no final name is anything but what belongs there."""
    store = place.store
    for entry in store.list("objects/sha256/"):
        assert sha256_key(store, entry.key) == entry.key.rpartition("/")[2]
    for entry in store.list(keys.data(f"{place.name}/")):
        assert same(store.read(entry.key), DATA[entry.key.removeprefix(keys.data(f"{place.name}/"))])
    wanted = {*FILES.values(), *DATA.values()}
    for path in (place.folder / "got").rglob("*"):
        assert not path.is_file() or path.name.startswith(PART_PREFIX) or path.read_bytes() in wanted


# All that is written in the other works is written in the same way.
TORN = ["register a copy", "download", "push", "data upload", "data download"]
# Those that send the requests of another one.
ALIKE = ["register", "register a folder", "take an alias away"]


@pytest.fixture(scope="module", autouse=True)
def oci(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    registry = OciRegistry(tmp_path_factory.mktemp("oci"))
    _listening.append(registry.host)
    yield
    _listening.clear()
    registry.close()


@pytest.fixture(autouse=True)
def many_parts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A file of a few parts is large. Docker's logins of this machine are nobody's."""
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    monkeypatch.setattr(blob_upload, "WHOLE_BYTES", 0)
    monkeypatch.setattr(blob_upload, "BLOCK_BYTES", 100_000)
    monkeypatch.setattr(blob_copy, "ONE_REQUEST_BYTES", 1000)
    monkeypatch.setattr(blob_copy, "BLOCK_BYTES", 3000)
    monkeypatch.setattr(transfer, "CHUNK_BYTES", 100_000)
    monkeypatch.setattr(transfer, "RESUMED_FROM_BYTES", 100_000)
    monkeypatch.setattr(transfer, "SMALL_BYTES", 100_000)


@pytest.mark.parametrize(("name", "torn"), [*((name, False) for name in WORKS), *((name, True) for name in TORN)])
def test_whatever_is_killed_in_a_folder_can_be_done_again(tmp_path: Path, name: str, torn: bool) -> None:
    def place(step: int) -> Place:
        return Place(FileStore(tmp_path / str(step) / "store"), tmp_path / str(step), "digits")

    _kill_at_every_step(WORKS[name], place, place, torn=torn)


@pytest.mark.parametrize("name", [name for name in WORKS if name not in ALIKE])
def test_whatever_is_killed_on_blob_storage_can_be_done_again(
    request: pytest.FixtureRequest, tmp_path: Path, name: str
) -> None:
    account = request.getfixturevalue("blob_account")
    store = BlobStore(account)

    def place(step: int, store: Store = store) -> Place:
        return Place(store, tmp_path / str(step), f"digits{step}")

    _kill_at_every_step(WORKS[name], place, lambda step: place(step, BlobStore(account)), torn=False)


def _kill_at_every_step(
    work: Work, place_of: Callable[[int], Place], anew: Callable[[int], Place], *, torn: bool
) -> None:
    """anew: the same place as the process that dies has it, which shares no connection with this one."""
    for step in range(1, MOST_STEPS):
        place = place_of(step)
        place.folder.mkdir(parents=True)
        work.prepare(place)
        was_killed = killed(step, lambda step=step: work.do(anew(step)), torn=torn)  # type: ignore[misc]
        # Tags are an index that follows its record, and the only thing that may be behind.
        found = check_registry(place.store, place.name).findings
        assert {one.kind for one in found} <= {"index"}, (step, found)
        _nothing_torn(place)
        work.do(place)
        work.done(place)
        _nothing_torn(place)
        found = check_registry(place.store, place.name, read_files=True).findings
        assert {one.kind for one in found} <= ({"index"} if work.again else set()), (step, found)
        if not was_killed:
            break
    assert 1 < step < MOST_STEPS - 1
