"""
The registry against a model of a few lines: several clients at once, stopped at every call of the store.

Which client goes on is hypothesis' choice, so that every order of their calls can come up, and what fails is shown as
its shortest sequence. A client can also die between any two calls. What one of them is told is compared with what was
so at any moment between its question and the answer; when all are done everything is compared.
"""

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from hypothesis.stateful import run_state_machine_as_test as run_machine

from stepped_clients import Client, Op
from tensoryard.errors import NotFoundError, UsageError
from tensoryard.registry import FileRecord, ModelVersion, Registry
from tensoryard.registry.check import check_registry
from tensoryard.registry.gc import collect
from tensoryard.registry.search import search
from tensoryard.registry.where import parse_where
from tensoryard.store import Store, keys
from tensoryard.store.blob import BlobStore
from tensoryard.store.file import FileStore
from tensoryard.store.transfer import sha256_key

CLIENTS = 3
# The index of this one lags.
LAGGING = 2


class Snapshot(NamedTuple):
    """What is so at one moment. versions: all that were registered; live: those that are not deleted."""

    versions: dict[int, dict[str, str]]
    live: frozenset[int]
    aliases: dict[str, int]


def register(nonce: str | None, colour: str) -> Op:
    return Op(
        "register",
        lambda registry, name: registry.register(name, FILES, nonce=nonce, tags={"colour": colour}),
        {"nonce": nonce, "colour": colour},
    )


def alias(alias: str, version: int | None) -> Op:
    return Op(
        "alias", lambda registry, name: registry.alias(name, alias, version), {"alias": alias, "version": version}
    )


def delete(version: int, force: bool) -> Op:
    arguments = {"version": version, "force": force}
    return Op("delete", lambda registry, name: registry.delete(name, version, force=force), arguments)


def restore(version: int) -> Op:
    return Op("restore", lambda registry, name: registry.restore(name, version), {"version": version})


def get(alias: str) -> Op:
    return Op("get alias", lambda registry, name: registry.get(name, alias), {"alias": alias})


def find(colour: str) -> Op:
    where = parse_where(f"tags.colour={colour}")
    return Op("search", lambda registry, name: list(search(registry, where, name)), {"colour": colour})


def clean_up(registry: Registry, name: str) -> Any:
    return collect(registry.store, apply=True, deleted_before_days=0, untouched_s=0)


CLEAN_UP = Op("clean up", clean_up, {})
GET = Op("get newest", lambda registry, name: registry.get(name), {})
LIST = Op("list", lambda registry, name: list(registry.list_versions(name)), {})

nonces = st.sampled_from([None, None, "a", "b"])
colours = st.sampled_from(["red", "blue"])
aliases = st.sampled_from(["champion", "champion", "staging"])
versions = st.sampled_from([1, 1, 2, 2, 3, 4, 5])
forced = st.sampled_from([False, False, False, True])


def changes_of(version: int) -> st.SearchStrategy[Op]:
    """Those that come into each other's way."""
    moved = st.builds(alias, aliases, st.sampled_from([version, version, 3 - version, None]))
    return st.one_of(
        moved, moved, st.builds(delete, st.just(version), forced), st.just(restore(version)), st.just(CLEAN_UP)
    )


ops = st.one_of(
    st.builds(register, nonces, colours),
    st.builds(alias, aliases, st.one_of(versions, versions, st.none())),
    st.builds(delete, versions, forced),
    st.builds(restore, versions),
    st.builds(get, aliases),
    st.builds(find, colours),
    st.sampled_from([GET, LIST, CLEAN_UP]),
)
meetings = st.one_of(
    st.lists(ops, min_size=2, max_size=CLIENTS),
    *(st.lists(changes_of(version), min_size=2, max_size=CLIENTS) for version in (1, 2)),
)
numbers = st.integers(0, CLIENTS - 1)
# From one call up to all that an operation makes.
counts = st.sampled_from([1, 2, 3, 4, 5, 50])
FILES = [FileRecord(path="model", key="runs/mnist-0001/outputs/model", size_bytes=1, sha256="", etag="")]


class Clients(RuleBasedStateMachine):
    """store_of: makes a store anew, and the name of a model that nobody used in it."""

    def __init__(self, place: Callable[[], tuple[Callable[[], Store], str]]) -> None:
        super().__init__()
        self.anew, self.name = place()
        self.store = self.anew()
        self.clients = [Client(self, number, self.anew()) for number in range(CLIENTS)]
        self.told = [Snapshot({}, frozenset(), {})]
        self.nonces: dict[str, int] = {}
        self.purged: set[int] = set()
        self.seen_by_index: set[str] = set()
        # Aliases that may name a deleted version: by force, or as a client died before it could put it right.
        self.dangling: set[str] = set()

    @initialize()
    def prepare(self) -> None:
        if self.store.stat(FILES[0].key) is None:
            entry = self.store.put(FILES[0].key, b"1")
            sha256 = sha256_key(self.store, entry.key)
            FILES[0] = msgspec.structs.replace(FILES[0], sha256=sha256, etag=entry.etag)
        for _ in range(2):
            self._do(register(None, "red"))

    # What the clients do.

    @rule(which=numbers, op=ops)
    def begin(self, which: int, op: Op) -> None:
        self.start(which, op)

    def start(self, which: int, op: Op) -> None:
        client = self.clients[which]
        while client.busy:
            self._step(client)
        client.start(op, self.name, len(self.told) - 1)
        if not client.busy:
            self._answered(client)

    @rule(op=ops)
    def do(self, op: Op) -> None:
        """All at once, while the others stand still."""
        self._do(op)

    def _do(self, op: Op) -> None:
        client = next((one for one in self.clients if not one.busy), self.clients[0])
        while client.busy:
            self._step(client)
        client.start(op, self.name, len(self.told) - 1)
        while client.busy:
            self._step(client)

    @rule(meeting=meetings, turns=st.lists(st.tuples(numbers, counts), max_size=9))
    def meet(self, meeting: list[Op], turns: list[tuple[int, int]]) -> None:
        """Several begin at the same moment, and each of turns lets one of them make so many calls."""
        for which, op in enumerate(meeting):
            self.start(which, op)
        for which, count in turns:
            for _ in range(count):
                if self.clients[which].busy:
                    self._step(self.clients[which])
        for client in self.clients:
            while client.busy:
                self._step(client)

    @precondition(lambda self: any(client.busy for client in self.clients))
    @rule(which=numbers, count=counts)
    def step(self, which: int, count: int) -> None:
        busy = [client for client in self.clients if client.busy]
        client = busy[which % len(busy)]
        for _ in range(count):
            if client.busy:
                self._step(client)

    @precondition(lambda self: any(client.busy for client in self.clients))
    @rule(which=numbers)
    def kill(self, which: int) -> None:
        busy = [client for client in self.clients if client.busy]
        client = busy[which % len(busy)]
        client.kill()
        if client.op is not None and client.op.kind in ("alias", "delete"):
            self.dangling |= {alias for alias, version in self.now.aliases.items() if version not in self.now.live}
        self.clients[client.number] = Client(self, client.number, self.anew())

    @rule()
    def index_catches_up(self) -> None:
        self.seen_by_index = {keys.model_version(self.name, number) for number in self.now.versions}

    # What the store sees of them.

    @property
    def now(self) -> Snapshot:
        return self.told[-1]

    def indexed(self, client: Client, found: list[str]) -> list[str]:
        return [key for key in found if client.number != LAGGING or key in self.seen_by_index]

    def written(self, client: Client, key: str, data: bytes) -> None:
        """A value was written, which is the moment at which something came to be so."""
        assert client.op is not None
        kind, _, rest = key.removeprefix(keys.model(self.name)).partition("/")
        versions, live, named = self.now
        if kind == "versions":
            record = msgspec.json.decode(data, type=ModelVersion)
            assert client.op.kind == "register"
            assert record.version not in versions
            assert record.nonce not in self.nonces
            self.nonces[record.nonce] = record.version
            versions, live = versions | {record.version: record.tags}, live | {record.version}
        elif kind == "aliases":
            alias, version = rest.partition("/")[0], msgspec.json.decode(data).get("version")
            assert (client.op.kind, client.op.arguments["alias"]) == ("alias", alias)
            named = {one: number for one, number in named.items() if one != alias}
            named |= {alias: version} if version else {}
            self.dangling.discard(alias)
        elif kind == "events":
            version, done = int(rest.partition("/")[0]), msgspec.json.decode(data)["kind"]
            assert version not in self.purged
            assert client.op.arguments.get("version", version) == version
            if done == "restored":
                live = live | {version}
            elif done == "purged":
                assert version not in live
                self.purged.add(version)
            else:
                live = live - {version}
                if client.op.arguments["force"]:
                    self.dangling |= {alias for alias, number in named.items() if number == version}
        else:
            return
        self.told.append(Snapshot(versions, live, named))

    def _step(self, client: Client) -> None:
        client.step()
        if not client.busy:
            self._answered(client)

    # What they are told.

    def _answered(self, client: Client) -> None:
        assert client.op is not None
        kind, _, arguments = client.op
        result = client.result
        if not isinstance(result, NotFoundError | UsageError) and isinstance(result, BaseException):
            raise result
        check = getattr(self, f"_answered_{kind.replace(' ', '_')}")
        client.op = None
        check(self.told[client.since :], result, **arguments)

    def _answered_register(self, window: list[Snapshot], result: Any, nonce: str | None, colour: str) -> None:
        assert isinstance(result, ModelVersion)
        assert self.nonces[nonce or result.nonce] == result.version
        assert result.version in self.now.versions
        assert nonce or result.version not in window[0].versions
        assert nonce or result.tags == {"colour": colour}

    def _answered_alias(self, window: list[Snapshot], result: Any, alias: str, version: int | None) -> None:
        if isinstance(result, NotFoundError) and version is None:
            assert any(alias not in one.aliases for one in window)
        elif isinstance(result, NotFoundError):
            assert any(version not in one.live for one in window)
        else:
            assert result.version == version
            assert any(one.aliases.get(alias) == version for one in window)
            assert version is None or any(version in one.live for one in window)

    def _answered_delete(self, window: list[Snapshot], result: Any, version: int, force: bool) -> None:
        if isinstance(result, NotFoundError):
            assert version not in window[0].versions
        elif isinstance(result, UsageError):
            assert not force
            assert any(version in one.aliases.values() for one in window)
        else:
            assert any(version not in one.live for one in window)
            assert version in self.now.versions

    def _answered_restore(self, window: list[Snapshot], result: Any, version: int) -> None:
        if isinstance(result, NotFoundError):
            assert version not in window[0].versions or version in self.purged
        else:
            assert any(version in one.live for one in window)

    def _answered_clean_up(self, window: list[Snapshot], result: Any) -> None:
        given_up = {one.version for one in result.versions if one.name == self.name}
        assert given_up <= self.purged

    def _answered_get_newest(self, window: list[Snapshot], result: Any) -> None:
        number = 0 if isinstance(result, NotFoundError) else result.version
        assert number == 0 or any(number in one.live for one in window)
        newer = {version for version in self.now.versions if version > number}
        assert all(any(version not in one.live for one in window) for version in newer)

    def _answered_get_alias(self, window: list[Snapshot], result: Any, alias: str) -> None:
        if isinstance(result, NotFoundError):
            named = {one.aliases.get(alias) for one in window}
            assert any(number is None or any(number not in one.live for one in window) for number in named)
        else:
            assert any(one.aliases.get(alias) == result.version for one in window)
            assert any(result.version in one.live for one in window)

    def _answered_list(self, window: list[Snapshot], result: Any, colour: str | None = None) -> None:
        if isinstance(result, NotFoundError):
            assert not window[0].versions
            return
        numbers = [version.version for version in result]
        assert numbers == sorted(set(numbers), reverse=True)
        for number, tags in self.now.versions.items():
            lives = [number in one.live for one in window]
            wanted = colour in (None, tags["colour"])
            assert number not in numbers if not (wanted and any(lives)) else number in numbers or not all(lives)

    _answered_search = _answered_list

    # What holds whenever nobody is at work.

    @invariant()
    def everything_agrees(self) -> None:
        if any(client.busy for client in self.clients):
            return
        registry = Registry(self.store)
        if self.now.versions:
            listed = {version.version: version.tags for version in registry.list_versions(self.name)}
            assert listed == {number: self.now.versions[number] for number in sorted(self.now.live, reverse=True)}
        assert registry.aliases(self.name) == self.now.aliases
        broken = {alias for alias, version in self.now.aliases.items() if version not in self.now.live}
        assert broken <= self.dangling
        found = check_registry(self.store, self.name).findings
        assert {finding.kind for finding in found} == ({"alias"} if broken else set()), found

    def teardown(self) -> None:
        for client in self.clients:
            client.kill()


# To explain a failure takes longer than to find and shorten it.
PHASES = [phase for phase in Phase if phase is not Phase.explain]
HOW = {"deadline": None, "suppress_health_check": list(HealthCheck), "phases": PHASES}


def test_clients_of_a_folder_agree_with_the_model(tmp_path: Path) -> None:
    count = itertools.count()

    def place() -> tuple[Callable[[], Store], str]:
        folder = tmp_path / str(next(count))
        return lambda: FileStore(folder), "digits"

    run_machine(lambda: Clients(place), settings=settings(max_examples=40, stateful_step_count=40, **HOW))  # type: ignore[arg-type]


def test_clients_of_blob_storage_agree_with_the_model(request: pytest.FixtureRequest) -> None:
    account = request.getfixturevalue("blob_account")
    store = BlobStore(account)
    count = itertools.count()

    def place() -> tuple[Callable[[], Store], str]:
        return lambda: store, f"digits{next(count)}"

    run_machine(lambda: Clients(place), settings=settings(max_examples=4, stateful_step_count=15, **HOW))  # type: ignore[arg-type]


@pytest.mark.parametrize("first", ["alias", "delete"])
def test_an_alias_and_a_deletion_at_the_same_moment_never_both_hold(tmp_path: Path, first: str) -> None:
    """The one stops at each of its calls, and there the other does all of its own."""
    for calls in range(30):
        machine = Clients(lambda calls=calls: (lambda: FileStore(tmp_path / str(calls)), "digits"))  # type: ignore[misc]
        machine.prepare()
        ops = [alias("champion", 1), delete(1, False)]
        halted, whole = ops if first == "alias" else reversed(ops)
        machine.start(0, halted)
        for _ in range(calls):
            if machine.clients[0].busy:
                machine.clients[0].step()
        was_busy = machine.clients[0].busy
        machine._do(whole)
        while machine.clients[0].busy:
            machine.clients[0].step()
        machine.everything_agrees()
        if not was_busy:
            break
    assert 2 < calls < 29
