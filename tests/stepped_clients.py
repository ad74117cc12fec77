"""Clients of a registry that stop at every call of the store, so that a test decides who goes on."""

import threading
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol

from tensoryard.registry import Registry
from tensoryard.store import Store


class Watching(Protocol):
    """Who has the clients."""

    def indexed(self, client: "Client", found: list[str]) -> list[str]:
        """What a search by tags gives this client, of what is found by now."""
        ...

    def written(self, client: "Client", key: str, data: bytes) -> None:
        """Called when this client has written a value."""
        ...


class Op(NamedTuple):
    """What a client is asked to do. call: does it with a registry and a model's name."""

    kind: str
    call: Callable[[Registry, str], Any]
    arguments: dict[str, Any]


class Killed(BaseException):
    """Ends a client that shall be dead, as nothing of the registry catches it."""


class Client:
    """A process with a store of its own, which goes on when it is told to, from one call of the store to the next."""

    def __init__(self, machine: Watching, number: int, store: Store) -> None:
        self.machine, self.number = machine, number
        self.registry = Registry(Gate(self, store))  # type: ignore[arg-type]
        self.op: Op | None = None
        self.since = 0
        self.result: Any = None
        self._go, self._stopped = threading.Semaphore(0), threading.Semaphore(0)
        self._thread: threading.Thread | None = None
        self._dead = False

    def start(self, op: Op, name: str, since: int) -> None:
        """Do what comes before the first call of the store."""

        def body() -> None:
            self._go.acquire()
            try:
                self.result = op.call(self.registry, name)
            except BaseException as error:
                self.result = error
            finally:
                self._thread = None
                self._stopped.release()

        self.op, self.since, self.result, self._dead = op, since, None, False
        self._thread = threading.Thread(target=body, daemon=True)
        self._thread.start()
        self._resume()

    @property
    def busy(self) -> bool:
        return self._thread is not None

    def step(self) -> None:
        """Make the call at which it stands, and come to the next one or to the end."""
        self._resume()

    def kill(self) -> None:
        self._dead = True
        while self.busy:
            self._resume()

    def gate(self) -> None:
        """Where a call of the store is about to be made. Those of helping threads follow the client's own."""
        if threading.current_thread() is self._thread:
            self._stopped.release()
            self._go.acquire()
        if self._dead:
            raise Killed

    def _resume(self) -> None:
        self._go.release()
        self._stopped.acquire()


class Gate:
    """A store that stops its client before each call."""

    def __init__(self, client: Client, store: Store) -> None:
        self._client, self._store = client, store

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)
        if name == "local_path":
            return method

        def call(*arguments: Any, **options: Any) -> Any:
            self._client.gate()
            found = method(*arguments, **options)
            if name == "put":
                self._client.machine.written(self._client, *arguments)
            if not isinstance(found, Iterator):
                return found
            # Taken at once: a listing is of one moment.
            listed = list(found)
            return iter(self._client.machine.indexed(self._client, listed) if name == "find_by_tags" else listed)

        return call
