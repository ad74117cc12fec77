"""A run whose store is no folder: what it writes is in the store soon, whole and once, whatever dies on the way."""

import itertools
import os
import signal
import threading
from pathlib import Path
from typing import Any

import pytest

from launching import StoreThat, Yard, wait_until
from tensoryard import controller as controller_module
from tensoryard.controller import Pace
from tensoryard.errors import SchedulerError, StoreError
from tensoryard.mirror import LOOK_SECONDS, Growing
from tensoryard.run import RunRecord
from tensoryard.store import Store
from tensoryard.store.transfer import sha256_key
from tensoryard.workspace import Workspace

pytestmark = pytest.mark.parametrize("yard", ["blob"], indirect=True)

COUNTS = """
import itertools, os, time
from tensoryard import Run
for number in itertools.count():
    print(number, flush=True)
    Run.get_context().log("number", number)
    if os.path.exists("outputs/go"):
        break
    time.sleep(0.005)
"""


def let_go(yard: Yard, run: RunRecord) -> None:
    (yard.work_folder(run) / "outputs" / "go").touch()


def stored(run: RunRecord) -> int:
    entry = run.store.stat(run.key("logs/worker-0.log"))
    return entry.size_bytes if entry else 0


def kill(process: Any) -> None:
    os.kill(process.pid, signal.SIGKILL)
    process.join()


def with_store(yard: Yard, store: Any) -> Workspace:
    """The workspace as a controller sees it."""
    workspace = Workspace(yard.workspace.root)
    workspace.__dict__["store"] = store
    return workspace


def is_whole(run: RunRecord) -> bool:
    """Whether every line and every metric that the script wrote is in the store once, and in its place."""
    lines = run.store.read(run.key("logs/worker-0.log")).splitlines()
    numbers = [*range(len(lines))]
    return len(lines) > 10 and lines == [b"%d" % number for number in numbers] and run.metrics()["number"] == numbers


def test_a_log_is_whole_whenever_controllers_are_killed(yard: Yard) -> None:
    run = yard.submit(COUNTS)
    for _ in range(4):
        before = stored(run)
        process = yard.start_controller()
        wait_until(lambda before=before: stored(run) > before, "the log has grown in the store")
        kill(process)
    let_go(yard, run)
    yard.serve()

    assert run.state().stage == "Completed"
    assert is_whole(run)


class LosesAnswers(StoreThat):
    """Every other append is carried out and fails all the same."""

    def __init__(self, store: Store) -> None:
        super().__init__(store, lambda name, arguments: None)
        self.fails = itertools.cycle([False, True])
        self.failed = 0

    def append(self, key: str, data: bytes, *, at: int | None = None) -> int:
        place = self._store.append(key, data, at=at)
        if at is not None and next(self.fails):
            self.failed += 1
            raise StoreError("no answer")
        return place


def test_an_append_whose_answer_was_lost_is_not_made_twice(yard: Yard) -> None:
    run = yard.submit(COUNTS)
    store = LosesAnswers(yard.workspace.store)
    controller = yard.controller(workspace=with_store(yard, store))
    serving = threading.Thread(target=controller.serve, daemon=True)
    serving.start()
    wait_until(lambda: store.failed > 1, "two answers were lost")
    let_go(yard, run)
    serving.join()

    assert run.state().stage == "Completed"
    assert is_whole(run)


def test_a_store_that_is_away_stops_no_task_and_loses_no_line(yard: Yard) -> None:
    run = yard.submit(COUNTS)
    away, refused = yard.folder / "away", yard.folder / "refused"

    def fails(name: str, arguments: tuple[Any, ...]) -> None:
        if name != "local_path" and away.exists():
            if arguments[:1] == (run.key("logs/worker-0.log"),):
                refused.touch()
            raise StoreError("the store is away")

    process = yard.start_controller(workspace=with_store(yard, StoreThat(yard.workspace.store, fails)))
    yard.wait_for_stage(run, "Running")
    wait_until(lambda: stored(run) > 0, "the log is in the store")
    away.touch()
    wait_until(refused.exists, "no append of the log is on its way any more")
    before = stored(run)
    let_go(yard, run)
    yard.wait_for_file(run, "tasks/worker-0.json")
    assert (run.state().stage, stored(run)) == ("Running", before)
    away.unlink()
    process.join()

    assert run.state().stage == "Completed"
    assert is_whole(run)


def test_a_run_whose_store_stays_away_is_left_to_the_next_controller(
    yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        controller_module, "REMOTE", Pace(queue_seconds=0.05, retry_seconds=(0.05, 0.05), patience_seconds=0.2)
    )
    run = yard.submit(COUNTS)
    away = threading.Event()

    def fails(name: str, arguments: tuple[Any, ...]) -> None:
        if away.is_set() and name in ("append", "put", "put_file"):
            raise StoreError("the store cannot be written")

    controller = yard.controller(workspace=with_store(yard, StoreThat(yard.workspace.store, fails)))
    serving = threading.Thread(target=controller.serve, daemon=True)
    serving.start()
    yard.wait_for_stage(run, "Running")
    wait_until(lambda: stored(run) > 0, "the log is in the store")
    away.set()
    let_go(yard, run)
    serving.join()
    assert (run.state().stage, yard.queued()) == ("Running", [run.id])

    away.clear()
    yard.serve()
    assert run.state().stage == "Completed"
    assert is_whole(run)
    assert yard.queued() == []


def test_a_controller_that_serves_on_takes_up_a_run_again_whose_store_was_away_too_long(
    yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        controller_module, "FOLDER", Pace(queue_seconds=0.05, retry_seconds=(0.05, 0.05), patience_seconds=0.2)
    )
    monkeypatch.setattr(controller_module, "REMOTE", controller_module.FOLDER)
    run = yard.submit("open('outputs/kept', 'w').write('x')")
    away = threading.Event()
    away.set()

    def fails(name: str, arguments: tuple[Any, ...]) -> None:
        if away.is_set() and name in ("append", "put", "put_file"):
            raise StoreError("the store cannot be written")

    controller = yard.controller(workspace=with_store(yard, StoreThat(yard.workspace.store, fails)))
    controller.serve()
    assert yard.queued() == [run.id]

    away.clear()
    wait_until(lambda: controller.serve() is None and not yard.queued(), "the run is taken up again")
    assert run.state().stage == "Completed"


def test_outputs_that_were_carried_before_a_kill_are_not_carried_again(yard: Yard) -> None:
    run = yard.submit("for n in range(20): open(f'outputs/{n}', 'w').write(str(n) * 1000)")
    calls = itertools.count(1)

    def dies_half_way(name: str, arguments: tuple[Any, ...]) -> None:
        if name == "put_file" and next(calls) == 12:
            os.kill(os.getpid(), signal.SIGKILL)

    yard.start_controller(workspace=with_store(yard, StoreThat(yard.workspace.store, dies_half_way))).join()
    there = {entry.key for entry in run.store.list(run.key("outputs/"))}
    assert run.state().stage == "Post-processing"
    assert run.outputs() is None
    assert there

    carried: list[str] = []

    def notes(name: str, arguments: tuple[Any, ...]) -> None:
        if name == "put_file":
            carried.append(arguments[0])

    yard.controller(workspace=with_store(yard, StoreThat(yard.workspace.store, notes))).serve()
    outputs = run.outputs()
    assert outputs is not None
    assert run.state().stage == "Completed"
    assert {run.key(f"outputs/{n}") for n in range(20)} - there == set(carried)
    assert len(outputs.files) == 20
    assert all(sha256_key(run.store, run.key(file.path)) == file.sha256 for file in outputs.files)


def test_the_scripts_own_logs_are_carried_at_the_end_and_what_is_no_file_is_not(yard: Yard) -> None:
    run = yard.run(
        "import os\nos.makedirs('logs/train')\nopen('logs/train/events.out', 'wb').write(b'\\0' * 9)\n"
        "open('logs/a\\nb', 'w').write('x')\nos.mkfifo('logs/pipe')\nos.symlink('/etc/hostname', 'logs/link')"
    )
    assert run.state().stage == "Completed"
    names = [name for name in run.file_names() if name.startswith("logs/")]
    assert names == ["logs/launch.log", "logs/train/events.out", "logs/worker-0.log"]
    assert run.store.read(run.key("logs/train/events.out")) == bytes(9)
    (warning,) = run.state().warnings
    assert warning.startswith("'logs/a\\nb' was left out: ")


def test_the_disk_of_a_run_that_is_in_the_store_is_given_back(yard: Yard) -> None:
    done = yard.run("open('outputs/model', 'w').write('weights')")
    failed = yard.run("raise SystemExit(1)")
    canceled = yard.submit("")
    canceled.request_cancel()
    yard.serve()

    assert [run.state().stage for run in (done, failed, canceled)] == ["Completed", "Failed", "Canceled"]
    assert not any(yard.work_folder(run).exists() for run in (done, failed, canceled))


def test_outputs_that_the_store_refuses_stay_where_they_are_and_the_run_says_so(
    yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = yard.submit("import time; open('outputs/kept', 'w').write('x'); time.sleep(600)")

    def refuses(name: str, arguments: tuple[Any, ...]) -> None:
        if name == "put_file":
            raise StoreError("the account is full")

    controller = yard.controller(workspace=with_store(yard, StoreThat(yard.workspace.store, refuses)))
    poll = controller.scheduler.poll

    def breaks(run_id: str, folder: Path) -> Any:
        if (folder / "outputs/kept").exists() and not (folder / "launch/end.json").exists():
            raise SchedulerError("the scheduler went away")
        return poll(run_id, folder)

    monkeypatch.setattr(controller.scheduler, "poll", breaks)
    controller.serve()

    assert (run.state().stage, run.state().reason) == ("Failed", "the scheduler went away")
    folder = yard.work_folder(run)
    assert run.state().warnings == [f"its outputs are in {folder} only: the account is full"]
    assert (folder / "outputs" / "kept").read_text() == "x"


def test_a_run_whose_work_folder_is_gone_fails_and_says_so(yard: Yard) -> None:
    run = yard.submit("")

    def dies_when_prepared(name: str, arguments: tuple[Any, ...]) -> None:
        if name == "append" and b'"Scaling"' in arguments[1]:
            os.kill(os.getpid(), signal.SIGKILL)

    yard.start_controller(workspace=with_store(yard, StoreThat(yard.workspace.store, dies_when_prepared))).join()
    folder = yard.work_folder(run)
    folder.rename(folder.with_name("elsewhere"))
    yard.serve()

    assert (run.state().stage, run.state().reason) == ("Failed", f"its work folder {folder} no longer exists")


def test_the_runs_of_another_machine_are_left_to_it(yard: Yard, tmp_path: Path) -> None:
    run = yard.submit("")
    other = Yard(tmp_path / "other", yard.workspace.store)
    other.serve()
    assert (run.state().stage, other.queued(), yard.queued()) == ("NotStarted", [], [run.id])

    yard.serve()
    assert run.state().stage == "Completed"


def test_what_clients_ask_is_looked_for_about_once_a_second(yard: Yard) -> None:
    run = yard.submit(COUNTS)
    looks = itertools.count()

    def counts(name: str, arguments: tuple[Any, ...]) -> None:
        if "requests/" in str(arguments[:1]):
            next(looks)

    workspace = with_store(yard, StoreThat(yard.workspace.store, counts))
    serving = threading.Thread(target=yard.controller(workspace=workspace).serve, daemon=True)
    serving.start()
    yard.wait_for_file(run, "logs/worker-0.log")
    wait_until(lambda: yard.log(run).count("\n") > 200, "the script has run for a second at least")
    let_go(yard, run)
    serving.join()

    task = yard.record(run, "tasks/worker-0.json")
    seconds = task["ended_at"] - task["started_at"]
    assert next(looks) <= seconds + 3


def test_a_log_is_written_to_for_weeks_with_the_appends_that_azure_allows(yard: Yard) -> None:
    log = Growing(Path("log"), "log")
    pauses = []
    for log.appends in range(50_000):
        pauses.append(log.pause_seconds())
    assert set(pauses[: 5 * 3600]) == {LOOK_SECONDS}
    assert sum(pauses) > 28 * 86400
