"""How a run ended, told from the files that its tasks left, whole or not."""

import json
from typing import Any

import pytest

from launching import parameter_server
from tensoryard.job import Job, encode_job
from tensoryard.run import RunRecord
from tensoryard.store import Store
from tensoryard.verdict import verdict

OK = {"host": "a", "exit_code": 0, "stopped": False}
STOPPED = {"host": "a", "exit_code": None, "signal": "SIGTERM", "stopped": True}
LEFT_NOTHING = "it left no result: its supervisor was killed, or the machine went down"


def decided(
    store: Store, end: Any, results: dict[str, Any], started: tuple[str, ...] = (), **fields: Any
) -> tuple[str, str | None]:
    run = RunRecord(store, "x-0001")
    fields = {"distributed_training": "multi_worker_mirrored", "node_count": 2} | fields
    store.put(run.key("job.json"), encode_job(Job(experiment="x", entry_script="a.py", **fields)))
    if end is not None:
        store.put(run.key("launch/end.json"), end if isinstance(end, bytes) else json.dumps(end).encode())
    for name, result in results.items():
        store.put(run.key(f"tasks/{name}.json"), json.dumps(result).encode())
    for name in {*started, *results}:
        store.put(run.key(f"tasks/{name}.started.json"), b'{"host": "a"}')
    found = verdict(run)
    return found.stage, found.reason


@pytest.mark.parametrize(
    ("end", "results", "started", "expected"),
    [
        (None, {"worker-0": OK, "worker-1": OK}, (), ("Completed", None)),
        ({"outcome": "completed"}, {"worker-0": OK}, ("worker-1",), ("Completed", None)),
        # It was asked to be canceled when it had done all.
        ({"outcome": "canceled"}, {"worker-0": OK, "worker-1": OK}, (), ("Completed", None)),
        ({"outcome": "canceled"}, {"worker-0": STOPPED, "worker-1": OK}, (), ("Canceled", "canceled by request")),
        (
            {"outcome": "failed", "task": "worker-1", "host": "b", "exit_code": 3},
            {"worker-0": STOPPED, "worker-1": OK | {"exit_code": 3}},
            (),
            ("Failed", "worker-1 on b exited with code 3"),
        ),
        (
            {"outcome": "failed", "task": "worker-1", "host": "b", "signal": "SIGBUS"},
            {},
            (),
            (
                "Failed",
                "worker-1 on b was ended by SIGBUS (a fault in native code, or /dev/shm or the disk is full)",
            ),
        ),
        ({"outcome": "failed", "reason": "the store went away"}, {}, (), ("Failed", "the store went away")),
        (
            {"outcome": "stopped", "task": "worker-0", "host": "a", "signal": "SIGTERM"},
            {"worker-0": STOPPED},
            ("worker-1",),
            ("Failed", f"worker-1 on a: {LEFT_NOTHING}"),
        ),
        (
            {"outcome": "stopped", "task": "worker-0", "host": "a", "signal": "SIGTERM"},
            {"worker-0": STOPPED, "worker-1": STOPPED},
            (),
            ("Failed", "worker-0 on a: it was stopped by SIGTERM from outside"),
        ),
        # Blank on a full disk, cut short, or of a later version.
        (b" " * 4096, {"worker-0": OK | {"exit_code": 1}}, (), ("Failed", "worker-0 on a exited with code 1")),
        (b'{"outco', {"worker-0": OK | {"exit_code": 1}}, (), ("Failed", "worker-0 on a exited with code 1")),
        (b"[]", {"worker-0": OK | {"exit_code": 1}}, (), ("Failed", "worker-0 on a exited with code 1")),
        (
            {"outcome": "paused"},
            {"worker-0": OK | {"exit_code": 1}},
            (),
            ("Failed", "worker-0 on a exited with code 1"),
        ),
        (
            None,
            {"worker-0": OK},
            (),
            ("Failed", "the launch script ended before worker-1 began; its own words are in logs/launch.log"),
        ),
        (None, {"worker-0": OK}, ("worker-1",), ("Failed", f"worker-1 on a: {LEFT_NOTHING}")),
        (
            None,
            {},
            ("worker-0", "worker-1"),
            (
                "Failed",
                "no task left a result: what launched them was killed, or the machine went down; see logs/launch.log",
            ),
        ),
    ],
)
def test_the_verdict_names_what_came_first(
    store: Store, end: Any, results: dict[str, Any], started: tuple[str, ...], expected: tuple[str, str | None]
) -> None:
    assert expected == decided(store, end, results, started)


def test_many_tasks_that_never_began_are_counted(store: Store) -> None:
    training = parameter_server(worker_count=5, parameter_server_count=1)
    assert decided(store, None, {}, distributed_training=training, node_count=1)[1] == (
        "the launch script ended before chief-0, worker-0, worker-1 and 4 more began; "
        "its own words are in logs/launch.log"
    )
