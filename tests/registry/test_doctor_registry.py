"""`tyard doctor --registry`: every way in which a registry can be wrong is told, and nothing else is."""

import base64
import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from cli_runner import Tyard
from finished_runs import finished_run
from tensoryard.registry import Registry
from tensoryard.registry.check import Checked, check_registry
from tensoryard.registry.tickets import nonce_key
from tensoryard.store import Entry, Store, keys
from tensoryard.store.file import FileStore

GRAPH = "runs/mnist-0007/outputs/model/saved_model.pb"
RECORD = keys.model_version("digits", 2)
SIGNATURE = keys.model_signature("digits", 2, "0" * 64)


@pytest.fixture
def full(store: Store, tmp_path: Path) -> Store:
    return _filled(store, tmp_path)


def _filled(store: Store, tmp_path: Path) -> Store:
    """A store with two models, in which everything that can happen to one has happened."""
    finished_run(store)
    (tmp_path / "other").write_bytes(b"other")
    registry = Registry(store)
    for copy in (False, False, True):
        registry.register_run_files("digits", "mnist-0007", "outputs/model", copy=copy)
    registry.register_folder("digits", tmp_path / "other", nonce="once")
    registry.register_folder("letters", tmp_path / "other")
    for number in (1, 2):
        registry.alias("digits", "champion", number)
    registry.delete("digits", 3)
    registry.restore("digits", 3)
    registry.delete("digits", 1)
    store.put(SIGNATURE, _signature(store.read(RECORD)))
    return store


def _signature(record: bytes) -> bytes:
    """As much of a bundle as says what is signed."""
    payload = msgspec.json.encode({"predicate": {"record": {"sha256": hashlib.sha256(record).hexdigest()}}})
    return msgspec.json.encode({"dsseEnvelope": {"payload": base64.b64encode(payload).decode()}})


def test_nothing_is_told_of_a_registry_in_which_nothing_is_wrong(full: Store) -> None:
    assert check_registry(full) == Checked(models=2, versions=5, files=6, findings=[])
    assert check_registry(full, read_files=True).findings == []


def test_an_empty_store_is_well(store: Store) -> None:
    assert check_registry(store) == Checked(models=0, versions=0, files=0, findings=[])


def _edit(key: str, **fields: object) -> Callable[[Store], None]:
    def edit(store: Store) -> None:
        record = msgspec.json.decode(store.read(key)) | fields
        store.put(key, msgspec.json.encode(record), overwrite=True, tags=store.tags(key))

    return edit


def _put(key: str, data: bytes) -> Callable[[Store], None]:
    return lambda store: void(store.put(key, data, overwrite=True))


def _delete(key: str) -> Callable[[Store], None]:
    return lambda store: void(store.delete(key))


def _copy(source: str, target: str) -> Callable[[Store], None]:
    return lambda store: void(store.put(target, store.read(source), tags=store.tags(source)))


def void(_: object) -> None:
    pass


CHAMPION = keys.model_aliases("digits", "champion")
DELETIONS = keys.model_events("digits", 3)
# What is done to the store, then what is told: the kind, the version and a part of the words.
WRONG: dict[str, tuple[Callable[[Store], None], list[tuple[str, int | None, str]]]] = {
    "torn record": (
        _put(RECORD, b'{"schema":1,"na'),
        [("record", 2, "cannot be read"), ("signature", 2, "another record")],
    ),
    "empty record": (_put(RECORD, b""), [("record", 2, "cannot be read"), ("signature", 2, "another record")]),
    "record of another": (
        _edit(RECORD, version=7),
        [("record", 2, "is the record of `digits:7`"), ("signature", 2, "another record")],
    ),
    "edited list of files": (
        _edit(RECORD, tree_digest="0" * 64),
        [("record", 2, "list of files"), ("signature", 2, "another record")],
    ),
    "one registration twice": (
        lambda store: _edit(keys.model_version("digits", 3), nonce=_nonce(store, 2))(store),
        [("record", 3, "the same registration as version 2")],
    ),
    "no ticket": (
        _delete(keys.model_tickets("digits", 0)),
        [("nonce", None, ""), ("ticket", 4, "gave out 0 numbers")],
    ),
    "old tickets": (
        _put(keys.model_tickets("letters", 0), b""),
        [("ticket", 1, "gave out 0 numbers, and there is version 1")],
    ),
    "a file of tickets is gone": (
        _copy(keys.model_tickets("letters", 0), keys.model_tickets("letters", 2)),
        [("ticket", None, "is missing, though later ones are there")],
    ),
    "file overwritten": (_put(GRAPH, b"X" * 5000), [("file", 2, "has sha256")]),
    "file cut": (_put(GRAPH, b"X"), [("file", 2, "has 1 bytes, recorded were 5000")]),
    "file gone": (_delete(GRAPH), [("file", 2, "is missing")]),
    "copy gone": (lambda store: void(store.delete(_content(store, 3))), [("file", 3, "is missing")]),
    "alias without beginning": (_delete(keys.numbered(CHAMPION, 1)), [("alias", None, "is missing, though")]),
    "alias torn": (_put(keys.numbered(CHAMPION, 2), b"{"), [("alias", None, "cannot be read")]),
    "alias of nothing": (
        _edit(keys.numbered(CHAMPION, 2), version=9),
        [("alias", 9, "names version 9, which is not there")],
    ),
    "alias of what is deleted": (
        lambda store: void(Registry(store).delete("digits", 2, force=True)),
        [("alias", 2, "names `digits:2`, which is deleted")],
    ),
    "alias moved from elsewhere": (
        _edit(keys.numbered(CHAMPION, 2), previous=3),
        [("alias", 2, "named 3 before, and it named 1")],
    ),
    "alias of another name": (_edit(keys.numbered(CHAMPION, 2), alias="other"), [("alias", 2, "is no change of")]),
    "deleted twice": (
        _edit(keys.numbered(DELETIONS, 2), kind="deleted"),
        [("deletion", 3, "says that the version was deleted after it was deleted")],
    ),
    "deletion gone": (_delete(keys.numbered(DELETIONS, 1)), [("deletion", None, "is missing, though")]),
    "record gone": (
        _delete(keys.model_version("digits", 3)),
        [("deletion", 3, "is of a version that is not there")],
    ),
    "signed record gone": (
        _delete(RECORD),
        [("alias", 2, "which is not there"), ("signature", 2, "signs a version that is not there")],
    ),
    "signed record edited": (
        _edit(RECORD, created_by="somebody"),
        [("signature", 2, "signs another record than is there")],
    ),
    "no signature": (_put(SIGNATURE, b"{}"), [("signature", 2, "is no signature of ours")]),
    "nonce torn": (_put(nonce_key("digits", "once"), b"4"), [("nonce", None, "cannot be read")]),
    "nonce of another": (
        _copy(nonce_key("digits", "once"), nonce_key("digits", "twice")),
        [("nonce", 4, "")],
    ),
    "nonce of no number": (_edit(nonce_key("digits", "once"), version=99), [("nonce", None, "holds the number 99")]),
    "tags gone": (lambda store: store.set_tags(RECORD, {}), [("index", 2, "index tags")]),
    "half a file": (_put("models/digits/versions/.tmp-3", b"{"), [("key", None, "nothing that the registry makes")]),
    "two spellings": (
        _copy(RECORD, "models/digits/versions/000000002.json"),
        [("key", None, "nothing that the registry makes")],
    ),
    "version 0": (
        _copy(RECORD, keys.model_version("digits", 0)),
        [("key", None, "nothing that the registry makes")],
    ),
    "no model": (_put("models/.DS_Store", b""), [("key", None, "nothing that the registry makes")]),
    "capitals": (_copy(keys.model_tickets("letters", 0), keys.model_tickets("Letters", 0)), [("name", None, "case")]),
}


def _nonce(store: Store, number: int) -> str:
    return Registry(store).get("digits", number).nonce


def _content(store: Store, number: int) -> str:
    return next(file.key for file in Registry(store).get("digits", number).files if file.path == "saved_model.pb")


@pytest.mark.parametrize("how", WRONG)
def test_what_is_wrong_is_told_with_what_to_do(tmp_path: Path, how: str) -> None:
    store = _filled(FileStore(tmp_path / "store"), tmp_path)
    breaks, wanted = WRONG[how]
    breaks(store)
    found = check_registry(store).findings

    assert sorted({(one.kind, one.version) for one in found}, key=str) == sorted(
        {(kind, version) for kind, version, _ in wanted}, key=str
    )
    for kind, _, words in wanted:
        assert [one for one in found if one.kind == kind and words in one.what], (words, found)
    assert all(one.fix and one.model in ("digits", "letters", "Letters", ".DS_Store") for one in found)


def test_all_that_is_wrong_is_told_of_any_store(full: Store) -> None:
    hows = ["file cut", "copy gone", "tags gone", "old tickets", "alias torn", "two spellings"]
    for how in hows:
        WRONG[how][0](full)
    found = check_registry(full).findings

    assert sorted(one.kind for one in found) == sorted(kind for how in hows for kind, _, _ in WRONG[how][1])


def test_a_version_whose_record_is_lost_is_well_once_it_is_hidden(full: Store) -> None:
    full.put(keys.model_version("digits", 4), b"{", overwrite=True)
    Registry(full).delete("digits", 4)

    assert [one.kind for one in check_registry(full).findings] == []


def test_other_etags_of_the_same_bytes_are_well(full: Store) -> None:
    full.put(GRAPH, full.read(GRAPH), overwrite=True)

    assert check_registry(full).findings == []


def test_wrong_tags_of_an_indexed_version_are_found_by_reading_everything(full: Store) -> None:
    full.set_tags(RECORD, full.tags(RECORD) | {"run": "other-0001"})

    assert check_registry(full).findings == []
    assert [one.kind for one in check_registry(full, read_files=True).findings] == ["index"]


class Asked:
    """A store that counts what it is asked, and in which something happens after the first listing."""

    def __init__(self, store: Store, meanwhile: Callable[[], object] = lambda: None) -> None:
        self.store, self.meanwhile, self.calls = store, meanwhile, []  # type: ignore[var-annotated]

    def __getattr__(self, name: str) -> object:
        def call(*arguments: object, **options: object) -> object:
            self.calls.append((name, *arguments))
            found = getattr(self.store, name)(*arguments, **options)
            if name != "list":
                return found
            entries: list[Entry] = list(found)
            meanwhile, self.meanwhile = self.meanwhile, lambda: None
            meanwhile()
            return iter(entries)

        return call


def test_files_are_listed_and_not_asked_for_one_by_one(request: pytest.FixtureRequest) -> None:
    from tensoryard.store.blob import BlobStore

    store = BlobStore(request.getfixturevalue("blob_account"))
    finished_run(store, files={f"part-{number:03}": b"x" for number in range(40)})
    for _ in range(3):
        Registry(store).register_run_files("digits", "mnist-0007", "outputs/model")
    asked = Asked(store)

    assert check_registry(asked) == Checked(models=1, versions=3, files=120, findings=[])  # type: ignore[arg-type]
    names = [name for name, *_ in asked.calls]
    assert {name: names.count(name) for name in {*names} - {"local_path"}} == {
        "list": 2,
        "read": 3,
        "find_by_tags": 1,
    }


@pytest.mark.parametrize("change", ["register", "delete", "alias"])
def test_who_is_at_work_meanwhile_is_not_told_of_as_a_fault(full: Store, change: str) -> None:
    registry = Registry(full)
    changes: dict[str, Callable[[], object]] = {
        "register": lambda: registry.register_run_files("digits", "mnist-0007", "outputs/model", nonce="new"),
        "delete": lambda: registry.delete("digits", 2, force=True) and registry.restore("digits", 2),
        "alias": lambda: registry.alias("digits", "champion", 4) and registry.delete("digits", 2),
    }

    assert check_registry(Asked(full, changes[change])).findings == []  # type: ignore[arg-type]


def test_doctor_tells_it_on_the_command_line(cli: Tyard) -> None:
    finished_run(cli.store)
    cli("models", "register", "digits", "--run", "mnist-0007", "--path", "outputs/model")
    assert cli.both("doctor", "--registry") == ("", "Checked models: 1, versions: 1, files: 2; nothing wrong\n")
    cli.store.put(GRAPH, b"other", overwrite=True)

    out, talk = cli.both("doctor", "--registry", code=1)
    assert out == (
        "digits:1: `saved_model.pb` was changed: has 5 bytes, recorded were 5000\n"
        f"  at   {GRAPH}\n"
        "  fix  bring it back from a backup, or hide the version: `tyard models delete digits:1`\n\n"
    )
    assert talk == "Checked models: 1, versions: 1, files: 2; 1 wrong\n"
    cli("models", "delete", "digits:1")
    cli("doctor", "--registry", "--read-files")


@pytest.mark.parametrize("cli", ["blob"], indirect=True)
def test_doctor_looks_at_whatever_store_the_workspace_has(cli: Tyard) -> None:
    finished_run(cli.store)
    Registry(cli.store).register_run_files("digits", "mnist-0007", "outputs/model")
    cli.store.delete(GRAPH)

    (finding,) = json.loads(cli("doctor", "--registry", "--json", code=1))["findings"]
    assert (finding["kind"], finding["model"], finding["version"], finding["key"]) == ("file", "digits", 1, GRAPH)


def test_reading_files_is_for_the_registry(cli: Tyard) -> None:
    _, talk = cli.both("doctor", "--read-files", code=2)
    assert "hint: tyard doctor --registry --read-files" in talk


def test_a_workspace_that_is_not_there_is_well(cli: Tyard) -> None:
    assert json.loads(cli("doctor", "--registry", "--json"))["findings"] == []
    assert isinstance(cli.store, FileStore)
    assert not cli.workspace.exists()
