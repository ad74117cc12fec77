"""What clients ask of runs is found by as few requests as a person's patience allows, however many runs there are."""

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from launching import StoreThat
from services.faulty import Faulty
from tensoryard import run_requests
from tensoryard.driver import ASK_SECONDS, ASK_WAITING_SECONDS
from tensoryard.errors import StoreError
from tensoryard.run import RunRecord
from tensoryard.run_requests import RunRequests
from tensoryard.store import Store
from tensoryard.store.blob import BlobStore
from tensoryard.store.blob_account import BlobAccount
from tensoryard.store.file import FileStore

RUNS = [f"mnist-{number:04d}" for number in range(1, 1001)]


class Clock:
    """Seconds that pass only when they are told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(run_requests, "time", clock)
    return clock


def polled(requests: RunRequests, clock: Clock, seconds: float, within_s: float) -> None:
    """All runs look four times a second, as their drivers do."""
    for _ in range(int(seconds * 4)):
        for run in RUNS:
            for name in ("cancel", "kill"):
                assert not requests.made(run, name, within_s)
        clock.now += 0.25


@pytest.mark.parametrize(("within_s", "most"), [(ASK_SECONDS, 10), (ASK_WAITING_SECONDS, 2)])
def test_a_thousand_runs_are_one_listing_a_second_and_fewer_while_all_of_them_wait(
    blob_account: BlobAccount, network: Faulty, clock: Clock, within_s: float, most: int
) -> None:
    requests = RunRequests(BlobStore(replace(blob_account, endpoint=network.endpoint)))

    polled(requests, clock, seconds=10, within_s=within_s)

    assert len(network.seen) == most
    assert all("comp=list" in asked.path and "prefix=requests" in asked.path for asked in network.seen)


def test_what_is_asked_is_heard_in_time_and_once_the_run_has_ended_nothing_is_left(
    store: Store, clock: Clock
) -> None:
    requests = RunRequests(store)
    assert not requests.made("mnist-0001", "cancel", 1)
    RunRecord(store, "mnist-0001").request_cancel()
    RunRecord(store, "mnist-0002").request_cancel(kill=True)
    clock.now += 1

    heard = {(run, name) for run in RUNS[:3] for name in ("cancel", "kill") if requests.made(run, name, 1)}
    assert heard == {("mnist-0001", "cancel"), ("mnist-0002", "cancel"), ("mnist-0002", "kill")}
    for run in RUNS[:2]:
        requests.clear(run)
    assert list(store.list("")) == []


def test_a_store_that_is_away_is_asked_no_oftener_and_what_was_heard_stays_heard(
    clock: Clock, tmp_path: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = FileStore(tmp_path)
    calls: Counter[str] = Counter()
    away = False

    def fails(name: str, arguments: tuple[Any, ...]) -> None:
        calls[name] += 1
        if away:
            raise StoreError("the storage account did not answer")

    store: Any = StoreThat(folder, fails)
    store.__dict__["local_path"] = lambda key: None
    requests = RunRequests(store)
    RunRecord(folder, "mnist-0001").request_cancel()
    assert requests.made("mnist-0001", "cancel", 1)
    away = True
    clock.now += 1

    for _ in range(100):
        assert requests.made("mnist-0001", "cancel", 1)
        assert not requests.made("mnist-0002", "cancel", 1)
    assert calls == {"list_keys": 2}
    assert capsys.readouterr().err == "requests/: the storage account did not answer\n"
