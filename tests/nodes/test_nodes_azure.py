"""
Machines of a scale set, by Azure's own client against a stand-in for its service.

Nothing here has met Azure: what it answers is as documented, or as others have recorded it.
"""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from services.azure_compute import SET, Compute, Killed, KilledAt, Refusal
from tensoryard.nodes import Machine, Problem
from tensoryard.nodes.azure import AzureMachines

WHOLE_SET = f"/virtualMachineScaleSets/{SET}"


@pytest.fixture
def azure() -> Iterator[Compute]:
    service = Compute()
    yield service
    service.close()


class Waits:
    """Waiting that takes no time, written down."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)


def machines(azure: Compute, tmp_path: Path, policy: Any = None, **options: Any) -> AzureMachines:
    options.setdefault("wait", lambda seconds: threading.Event().wait(0.001))
    return AzureMachines(
        azure.scale_set(policy), tmp_path / "nodes.lock", **{"within_s": 120, "listed_s": 0.3, **options}
    )


def stop(some: AzureMachines, names: list[str]) -> dict[str, Problem]:
    return some.remove(lambda machines: [machine for machine in machines if machine.node in names])


def test_every_node_gets_a_machine_of_its_own(azure: Compute, tmp_path: Path) -> None:
    said: list[str] = []
    names = [f"gpu-{number}" for number in range(1, 6)]

    assert machines(azure, tmp_path, log=said.append).start(names) == {}
    assert sorted(azure.nodes.values(), key=str) == names
    assert azure.number == 5
    assert said[0] == "asking Azure for 5 machines in all: 0 are there, 5 are lacking"
    # What else the machine was tagged with stays.
    assert all(machine["tags"]["workspace"] == "dev" for machine in azure.machines.values())


def test_a_list_that_is_older_than_the_names_loses_no_machine(azure: Compute, tmp_path: Path) -> None:
    """Azure takes a tag at once and lists it seconds later."""
    azure.looks_to_tag = 3

    assert machines(azure, tmp_path, listed_s=60).start(["gpu-1", "gpu-2"]) == {}
    assert sorted(azure.nodes.values(), key=str) == ["gpu-1", "gpu-2"]
    assert azure.number == 2


def test_asked_again_it_makes_none(azure: Compute, tmp_path: Path) -> None:
    machines(azure, tmp_path).start(["gpu-1", "gpu-2"])
    before = {**azure.nodes}

    assert machines(azure, tmp_path).start(["gpu-1", "gpu-2"]) == {}
    assert azure.nodes == before
    assert [request for request in azure.asked if request == f"PATCH {WHOLE_SET}"] == [f"PATCH {WHOLE_SET}"]


def test_more_nodes_leave_the_others_alone(azure: Compute, tmp_path: Path) -> None:
    machines(azure, tmp_path).start(["gpu-1"])
    before = {**azure.nodes}
    machines(azure, tmp_path).start(["gpu-2", "gpu-3"])

    assert before.items() <= azure.nodes.items()
    assert sorted(filter(None, azure.nodes.values())) == ["gpu-1", "gpu-2", "gpu-3"]


def test_just_the_suspended_machine_is_deleted(azure: Compute, tmp_path: Path) -> None:
    machines(azure, tmp_path).start(["gpu-1", "gpu-2", "gpu-3"])
    (gone,) = (name for name, node in azure.nodes.items() if node == "gpu-2")

    assert stop(machines(azure, tmp_path), ["gpu-2", "gpu-9"]) == {}
    assert [request for request in azure.asked if request.startswith("DELETE")] == [f"DELETE /virtualMachines/{gone}"]
    assert sorted(filter(None, azure.nodes.values())) == ["gpu-1", "gpu-3"]


@pytest.mark.parametrize("lowers", [True, False], ids=["Azure lowers the number", "the number stays"])
def test_a_node_that_was_suspended_comes_back(azure: Compute, tmp_path: Path, lowers: bool) -> None:
    """Its old machine may still be on its way out, and what Azure makes of the set's number is not documented."""
    azure.lowers_number_on_delete = lowers
    azure.looks_to_go = 1000
    machines(azure, tmp_path).start(["gpu-1", "gpu-2"])
    stop(machines(azure, tmp_path), ["gpu-1"])

    assert machines(azure, tmp_path).start(["gpu-1"]) == {}
    assert sorted(filter(None, azure.nodes.values())) == ["gpu-1", "gpu-2"]


@pytest.mark.parametrize("answered", [False, True], ids=["before it is sent", "before the answer"])
def test_killed_at_any_request_and_called_again_each_node_has_one_machine(
    azure: Compute, tmp_path: Path, answered: bool
) -> None:
    names = ["gpu-1", "gpu-2"]
    for number in range(1, 100):
        azure.machines.clear()
        azure.number = 0
        # The set's own list lags, and a machine is there before it is seen.
        azure.looks_to_list = number % 3
        killed = KilledAt(number, answered=answered)
        try:
            machines(azure, tmp_path, killed).start(names)
        except Killed:
            pass
        else:
            assert number > 5, "nothing was killed"
            return

        assert machines(azure, tmp_path).start(names) == {}, f"killed at request {number}"
        assert sorted(azure.nodes.values(), key=str) == names, f"killed at request {number}"


def test_machines_that_a_killed_call_left_are_used_first(azure: Compute, tmp_path: Path) -> None:
    left = azure.add()
    machines(azure, tmp_path).start(["gpu-1"])

    assert azure.nodes == {left: "gpu-1"}
    assert f"PATCH {WHOLE_SET}" not in azure.asked


def test_a_number_that_azure_is_still_at_work_on_is_not_raised_again(azure: Compute, tmp_path: Path) -> None:
    azure.looks_to_list = 3
    azure._grow(2)
    azure.settled = False

    assert machines(azure, tmp_path).start(["gpu-1", "gpu-2"]) == {}
    assert sorted(azure.nodes.values(), key=str) == ["gpu-1", "gpu-2"]
    assert f"PATCH {WHOLE_SET}" not in azure.asked


def test_many_resumes_at_once_make_as_many_machines_as_nodes(azure: Compute, tmp_path: Path) -> None:
    """Slurm starts its program anew for every group of nodes."""
    names = [f"gpu-{number}" for number in range(1, 13)]
    problems: dict[str, Problem] = {}

    def resume(some: list[str]) -> None:
        problems.update(machines(azure, tmp_path, within_s=300).start(some))

    threads = [threading.Thread(target=resume, args=(names[first : first + 4],)) for first in (0, 2, 4, 6, 8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert problems == {}
    assert sorted(azure.nodes.values(), key=str) == sorted(names)


def test_a_quota_is_told_with_its_numbers(azure: Compute, tmp_path: Path) -> None:
    azure.quota = 24
    machines(azure, tmp_path).start([f"gpu-{number}" for number in range(1, 5)])
    problems = machines(azure, tmp_path).start(["gpu-5", "gpu-6", "gpu-7"])

    words = "quota NCASv3_T4 16 of 24 vCPUs in use, 12 more needed"
    assert problems == dict.fromkeys(("gpu-5", "gpu-6", "gpu-7"), Problem("quota", words))
    assert len(azure.machines) == 4


def test_no_room_leaves_what_came_and_deletes_what_failed(azure: Compute, tmp_path: Path) -> None:
    azure.room = 1
    problems = machines(azure, tmp_path).start(["gpu-1", "gpu-2"])

    assert problems == {
        "gpu-2": Problem("capacity", "Azure has no room for more of this size here (AllocationFailed)")
    }
    assert [*azure.nodes.values()] == ["gpu-1"]
    azure.room = 5
    assert machines(azure, tmp_path).start(["gpu-2"]) == {}


@pytest.mark.parametrize("policy", ["Delete", "Deallocate"])
def test_a_node_whose_spot_machine_was_taken_away_gets_another(azure: Compute, tmp_path: Path, policy: str) -> None:
    machines(azure, tmp_path).start(["gpu-1", "gpu-2"])
    (old,) = (name for name, node in azure.nodes.items() if node == "gpu-1")
    azure.evict(old, policy=policy)
    seen = [machine for machine in machines(azure, tmp_path).all() if machine.id == old]

    assert [(one.state, one.problem) for one in seen] == (
        [("stopped", "Azure took the Spot machine away")] if policy == "Deallocate" else []
    )
    assert machines(azure, tmp_path).start(["gpu-1"]) == {}
    assert sorted(filter(None, azure.nodes.values())) == ["gpu-1", "gpu-2"]
    assert old not in azure.nodes


@pytest.mark.parametrize("path", ["/virtualMachines", WHOLE_SET, f"{SET}_00000001"])
@pytest.mark.parametrize("method", ["GET", "PATCH"])
def test_throttling_is_waited_out_as_long_as_azure_asks(
    azure: Compute, tmp_path: Path, method: str, path: str
) -> None:
    refusal = Refusal(
        method, path, 429, "TooManyRequests", "The request limit was reached.", times=2, Retry_After="7"
    )
    azure.refusals = [refusal]
    waits = Waits()
    problems = machines(azure, tmp_path, wait=waits, pause_s=0).start(["gpu-1"])

    assert problems == {}
    assert [*azure.nodes.values()] == ["gpu-1"]
    assert [seconds for seconds in waits.seconds if seconds == 7] == [7.0] * (2 - refusal.times)


def test_throttling_for_longer_than_there_is_time_is_told_at_once(azure: Compute, tmp_path: Path) -> None:
    azure.refusals = [
        Refusal("GET", "/virtualMachines", 429, "TooManyRequests", "Too many.", times=9, Retry_After="3600")
    ]
    problems = machines(azure, tmp_path).start(["gpu-1"])

    words = "Azure takes no more requests for now, ask again in 3600 s"
    assert problems == {"gpu-1": Problem("throttled", words)}


def test_when_azure_falls_silent_nodes_that_have_a_machine_keep_it(azure: Compute, tmp_path: Path) -> None:
    machines(azure, tmp_path).start(["gpu-1"])
    azure.refusals = [Refusal("GET", WHOLE_SET, 403, "AuthorizationFailed", "No.", times=9)]

    assert [*machines(azure, tmp_path).start(["gpu-1", "gpu-2"])] == ["gpu-2"]


def test_a_role_that_is_missing_is_named(azure: Compute, tmp_path: Path) -> None:
    message = (
        "The client does not have authorization to perform action 'Microsoft.Compute/virtualMachines/read'. More."
    )
    azure.refusals = [Refusal("GET", "/virtualMachines", 403, "AuthorizationFailed", message)]
    (problem,) = machines(azure, tmp_path).start(["gpu-1"]).values()

    assert problem.kind == "refused"
    assert problem.words.endswith("authorization to perform action 'Microsoft.Compute/virtualMachines/read'")


def test_another_change_in_the_way_is_no_failure(azure: Compute, tmp_path: Path) -> None:
    azure.refusals = [Refusal("PATCH", WHOLE_SET, 409, "Conflict", "Another operation is in progress.", times=3)]

    assert machines(azure, tmp_path).start(["gpu-1"]) == {}


def test_tags_that_somebody_changes_at_the_moment_are_kept(azure: Compute, tmp_path: Path) -> None:
    name = azure.add()
    azure.refusals = [Refusal("PATCH", name, 412, "ConditionNotMet", "The etag is another one.")]

    assert machines(azure, tmp_path).start(["gpu-1"]) == {}
    assert azure.nodes == {name: "gpu-1"}


def test_when_nothing_comes_it_ends_and_says_so(azure: Compute, tmp_path: Path) -> None:
    azure.looks_to_list = 10**9
    problems = machines(azure, tmp_path).start(["gpu-1"])

    assert problems["gpu-1"].words == "Azure raised the set to 3, and no machine came of it"
    assert azure.asked.count(f"PATCH {WHOLE_SET}") == 3


def test_a_lock_that_another_holds_is_waited_for_and_not_for_ever(azure: Compute, tmp_path: Path) -> None:
    import fcntl

    with (tmp_path / "nodes.lock").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        problems = machines(azure, tmp_path, within_s=0.2).start(["gpu-1"])

    assert problems["gpu-1"].kind == "slow"
    assert azure.asked == []


def test_machines_are_removed_as_they_are_under_the_lock(azure: Compute, tmp_path: Path) -> None:
    orphan, adopted = azure.add(created=1000.0), azure.add()
    found = machines(azure, tmp_path).all()
    assert Machine(id=orphan, node=None, state="running", created=1000.0) in found
    azure.machines[adopted]["tags"]["slurm-node"] = "gpu-1"

    assert machines(azure, tmp_path).remove(lambda now: [one for one in now if one.node is None]) == {}
    assert azure.nodes == {adopted: "gpu-1"}


@pytest.mark.parametrize(
    ("code", "message", "problem"),
    [
        (
            "SkuNotAvailable",
            "The requested VM size is not available",
            "capacity: Azure does not offer this size here now",
        ),
        (
            "ZonalAllocationFailed",
            "Allocation failed.",
            "capacity: Azure has no room for more of this size in the zone",
        ),
        (
            "OverconstrainedAllocationRequest",
            "Allocation failed. VM(s) with the following constraints cannot be allocated",
            "capacity: Azure has no machine that fits all that the nodes ask for",
        ),
        (
            "QuotaExceeded",
            "Operation could not be completed as it results in exceeding approved LowPriorityCores quota. Additional "
            "details - Location: eastus, Current Limit: 3, Current Usage: 0, Additional Required: 4, (Minimum)",
            "quota: quota Spot 0 of 3 vCPUs in use, 4 more needed",
        ),
        (
            "OperationNotAllowed",
            "Operation results in exceeding quota limits of Core. Maximum allowed: 20, Current in use: 20, "
            "Additional requested: 2.",
            "quota: quota Core 20 of 20 vCPUs in use, 2 more needed",
        ),
        ("InternalError", "Something\nwent wrong. Try later.", "other: InternalError: Something went wrong"),
    ],
)
def test_azures_refusals_in_words(azure: Compute, tmp_path: Path, code: str, message: str, problem: str) -> None:
    azure.refusals = [Refusal("PATCH", WHOLE_SET, 409, code, message, times=9)]
    (found,) = machines(azure, tmp_path).start(["gpu-1"]).values()

    assert f"{found.kind}: {found.words}".startswith(problem)
