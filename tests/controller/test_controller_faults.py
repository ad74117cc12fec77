"""What a controller does when the world round it fails: the store, its own threads, a submission cut short."""

import threading
from typing import Any

import pytest

from launching import StoreThat, Yard
from tensoryard.controller import controller_lock
from tensoryard.errors import JobError, NotFoundError, SchedulerError, StoreError
from tensoryard.job import DatastoreReference
from tensoryard.run import find_run, list_runs
from tensoryard.store import is_folder
from tensoryard.submit import submit
from tensoryard.workspace import Workspace

WRITES = "open('outputs/kept', 'w').write('x')"
WRITES_AND_WAITS = WRITES + "\nimport time\ntime.sleep(600)"
SAYS = (
    "import os; open('outputs/said', 'w').write(str([os.environ.get(n) for n in ('CUDA_VISIBLE_DEVICES', 'TOKEN')]))"
)


def test_a_run_sees_the_gpus_of_its_own_terminal_and_nobodys_token(
    yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    monkeypatch.setenv("TOKEN", "secret of the first")
    first = yard.submit(SAYS)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2")
    monkeypatch.delenv("TOKEN")
    second = yard.submit(SAYS)

    monkeypatch.setenv("TOKEN", "secret of the controller")
    yard.serve()

    said = [yard.text(run, "outputs/said") for run in (first, second)]
    assert said == ["['1', None]", "['2', None]"]


def test_a_queue_that_cannot_be_read_lets_no_second_controller_at_a_run(yard: Yard) -> None:
    """The store fails under the controller's own look at the queue while a run is at work."""
    run = yard.submit(WRITES_AND_WAITS)
    workspace = Workspace(yard.workspace.root)
    broken = threading.Event()

    def fails(name: str, arguments: tuple[Any, ...]) -> None:
        if name == "children" and broken.is_set():
            raise StoreError("the queue cannot be read")

    workspace.__dict__["store"] = StoreThat(yard.workspace.store, fails)
    controller = yard.controller(workspace=workspace)

    def serve() -> None:
        with pytest.raises(StoreError):
            controller.serve()

    serving = threading.Thread(target=serve)
    serving.start()
    yard.wait_for_file(run, "outputs/kept")
    broken.set()
    with controller_lock(yard.workspace) as free:
        assert not free

    run.request_cancel()
    serving.join()

    assert run.state().stage == "Canceled"
    with controller_lock(yard.workspace) as free:
        assert free


def test_a_run_that_tyard_fails_keeps_its_outputs_for_a_later_one(
    yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = yard.submit(WRITES_AND_WAITS)
    controller = yard.controller()
    original = controller.scheduler.poll

    def breaks(run_id: str, folder: Any) -> Any:
        if (folder / "outputs/kept").exists() and not (folder / "launch/end.json").exists():
            raise SchedulerError("the scheduler went away")
        return original(run_id, folder)

    monkeypatch.setattr(controller.scheduler, "poll", breaks)
    controller.serve()

    assert (run.state().stage, run.state().reason) == ("Failed", "the scheduler went away")
    outputs = run.outputs()
    assert outputs is not None
    assert [file.path for file in outputs.files] == ["outputs/kept"]
    assert not (yard.work_folder(run) / "launch/reserve").exists()
    later = yard.run("import os; assert os.path.exists('outputs/kept')", resume_from=run.id)
    assert later.state().stage == "Completed"


def test_a_run_without_outputs_is_nothing_to_resume_from(yard: Yard) -> None:
    run = yard.submit(WRITES)
    run.request_cancel()
    yard.serve()

    with pytest.raises(JobError, match=f"`{run.id}` left no outputs"):
        yard.submit(WRITES, resume_from=run.id)


def test_a_submission_that_was_killed_leaves_no_run(yard: Yard) -> None:
    workspace = Workspace(yard.workspace.root)
    whole = yard.submit(WRITES)

    def dies_at(key_end: str) -> Any:
        def before(name: str, arguments: tuple[Any, ...]) -> None:
            if name == "put" and arguments[0].endswith(key_end):
                raise KeyboardInterrupt

        return before

    for key_end in ("/snapshot.json", "/job.json", f"/{yard.workspace.queue('local')}/test-0004"):
        workspace.__dict__["store"] = StoreThat(yard.workspace.store, dies_at(key_end))
        with pytest.raises(KeyboardInterrupt):
            submit(workspace, whole.job, lambda text: None)

    assert [run.id for run in list_runs(yard.workspace.store)] == [whole.id]
    assert find_run(yard.workspace.store, "latest").id == whole.id
    with pytest.raises(NotFoundError):
        find_run(yard.workspace.store, "test-0004")


@pytest.mark.parametrize("mode", ["mount", "download"])
def test_data_that_cannot_be_mounted_is_downloaded_and_the_log_says_why(yard: Yard, mode: str) -> None:
    for name, data in {"a/b": b"1", "c": b"2"}.items():
        yard.workspace.store.put(f"data/set/{name}", data)
    run = yard.run(
        "import sys; print(open(sys.argv[2] + '/a/b').read(), open(sys.argv[4]).read())",
        script_params={
            "--data": DatastoreReference(datastore="default", path="set", mode=mode),
            "--file": DatastoreReference(datastore="default", path="set/c", mode=mode),
        },
    )

    assert (run.state().stage, run.state().reason) == ("Completed", None)
    assert yard.log(run) == "1 2\n"
    if mode == "mount" and is_folder(run.store):
        assert run.log_tail("preparing") == []
        return
    why = ", which cannot be mounted: the datastore is no folder of this machine" if mode == "mount" else ""
    assert run.log_tail("preparing") == [
        f"Downloading `set`{why} (2 files, 2 B)",
        f"Downloading `set/c`{why} (1 file, 1 B)",
    ]


def test_many_waiting_runs_say_whom_they_wait_for_in_few_words(yard: Yard) -> None:
    runs = [yard.submit(WRITES_AND_WAITS) for _ in range(7)]
    controller = yard.start_controller()
    yard.wait_for_file(runs[0], "outputs/kept")
    while runs[6].state().reason is None:
        assert controller.is_alive()

    assert runs[6].state().reason == "waiting for test-0001, test-0002, test-0003 and 3 more on this machine"

    for run in runs:
        run.request_cancel(kill=True)
    controller.join()
    assert {run.state().stage for run in runs} == {"Canceled"}
