"""A controller killed by SIGKILL, and the next one, which takes over what it left."""

import os
import signal
import threading
from collections.abc import Callable
from typing import Any

import pytest

from launching import StoreThat, Yard
from tensoryard.run import RunRecord
from tensoryard.store import Store, is_folder
from tensoryard.workspace import Workspace

COUNTS = "open('outputs/count', 'a').write('x')"


def times_run(yard: Yard, run: RunRecord) -> int:
    return len(yard.text(run, "outputs/count"))


class Counting:
    """
    Makes the n-th call of a store the last thing its process does; looks for requests do not count.

    On blob storage those count that change something: before a look all is as in a folder, where every call counts.
    """

    CHANGES = ("put", "put_file", "copy", "append", "set_tags", "touch", "delete")

    def __init__(self, store: Store, last: int) -> None:
        self.all = is_folder(store)
        self.last = last
        self.lock = threading.Lock()

    def __call__(self, name: str, arguments: tuple[Any, ...]) -> None:
        if "requests/" in str(arguments[:1]) or name == "local_path" or not (self.all or name in self.CHANGES):
            return
        with self.lock:
            self.last -= 1
            if self.last <= 0:
                os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.long
def test_a_controller_killed_at_any_call_of_the_store_is_taken_over_from(yard: Yard) -> None:
    call = 0
    while True:
        call += 1
        run = yard.submit(COUNTS)
        workspace = Workspace(yard.workspace.root)
        workspace.__dict__["store"] = StoreThat(yard.workspace.store, Counting(yard.workspace.store, call))
        process = yard.start_controller(workspace=workspace)
        process.join()
        if process.exitcode == 0:
            break
        yard.serve()
        assert (run.state().stage, run.state().reason) == ("Completed", None), f"killed at call {call}"
        assert times_run(yard, run) == 1, f"killed at call {call}"
        assert yard.leftovers(run) == []
        assert [file.path for file in (run.outputs() or pytest.fail("no outputs")).files] == ["outputs/count"]
    assert call > 10


@pytest.mark.parametrize("scheduled", ["before", "after"])
def test_a_controller_killed_round_the_launch_is_taken_over_from(yard: Yard, scheduled: str) -> None:
    run = yard.submit(COUNTS)

    def dies(original: Callable[..., Any]) -> Callable[..., Any]:
        def launch(*args: Any) -> Any:
            if scheduled == "after":
                original(*args)
            os.kill(os.getpid(), signal.SIGKILL)

        return launch

    from tensoryard.scheduler.local import LocalScheduler

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LocalScheduler, "_launch", dies(LocalScheduler._launch))
        process = yard.start_controller()
        process.join()
    assert process.exitcode == -signal.SIGKILL
    yard.serve()
    assert (run.state().stage, times_run(yard, run)) == ("Completed", 1)
    assert yard.leftovers(run) == []
