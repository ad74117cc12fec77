"""Runs go through their stages once, in order, whatever dies on the way."""

import os
import signal
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from launching import PlainPython, StoreThat, Yard, in_a_folder, wait_until
from tensoryard.controller import controller_lock
from tensoryard.environment import Environment, EnvironmentSpec, Log, command, locking
from tensoryard.errors import EnvironmentBuildError, StoreError
from tensoryard.run import RunRecord
from tensoryard.store import keys
from tensoryard.workspace import Workspace

COUNTS = "open('outputs/count', 'a').write('x')"
COUNTS_AND_WAITS = COUNTS + "\nimport os, time\nwhile not os.path.exists('outputs/go'): time.sleep(0.01)"


def let_go(yard: Yard, run: RunRecord) -> None:
    (yard.work_folder(run) / "outputs" / "go").touch()


def times_run(yard: Yard, run: RunRecord) -> int:
    return len(yard.text(run, "outputs/count"))


def stages(run: RunRecord) -> list[str]:
    return [span.stage for span in run.state().stages]


def set_concurrent_runs(yard: Yard, count: int) -> None:
    (yard.workspace.root / "workspace.json").write_text(f'{{"concurrent_runs": {count}}}')


def test_a_run_goes_through_its_stages_and_leaves_the_queue(yard: Yard) -> None:
    run = yard.run(COUNTS)
    assert stages(run) == ["Preparing", "Scaling", "Running", "Post-processing", "Completed"]
    assert yard.queued() == []
    assert run.state().facts["environment"]["name"] == "plain-python"
    assert all(span.ended_at is not None and span.ended_at >= span.started_at for span in run.state().stages)


def test_tasks_go_on_while_no_controller_is_there(yard: Yard) -> None:
    run = yard.submit(COUNTS_AND_WAITS)
    process = yard.start_controller()
    yard.wait_for_file(run, "outputs/count")
    yard.wait_for_stage(run, "Running")
    process.kill()
    process.join()
    let_go(yard, run)
    yard.wait_for_file(run, "tasks/worker-0.json")
    assert run.state().stage == "Running"
    yard.serve()
    assert (run.state().stage, times_run(yard, run)) == ("Completed", 1)
    assert stages(run) == ["Preparing", "Scaling", "Running", "Post-processing", "Completed"]


def test_a_machine_that_went_down_under_a_run_fails_it(yard: Yard) -> None:
    run = yard.submit(COUNTS_AND_WAITS)
    process = yard.start_controller()
    yard.wait_for_file(run, "outputs/count")
    yard.wait_for_stage(run, "Running")
    for pid, _ in [(process.pid or 0, ""), *yard.processes(run)]:
        os.kill(pid, signal.SIGKILL)
    process.join()
    yard.serve()
    assert run.state().stage == "Failed"
    assert str(run.state().reason).endswith("it left no result: its supervisor was killed, or the machine went down")
    assert times_run(yard, run) == 1


def test_only_one_controller_is_at_work(yard: Yard) -> None:
    run = yard.submit(COUNTS_AND_WAITS)
    first = yard.start_controller()
    yard.wait_for_stage(run, "Running")
    second = yard.start_controller()
    second.join()
    assert second.exitcode == 0
    assert first.is_alive()
    with controller_lock(yard.workspace) as held:
        assert not held
    let_go(yard, run)
    first.join()
    assert times_run(yard, run) == 1


def test_runs_take_turns_in_the_order_of_their_submission(yard: Yard) -> None:
    runs = [yard.submit(COUNTS_AND_WAITS) for _ in range(3)]
    process = yard.start_controller()
    yard.wait_for_stage(runs[0], "Running")
    wait_until(lambda: runs[1].state().reason == "waiting for test-0001 on this machine", "the second waits")
    wait_until(
        lambda: runs[2].state().reason == "waiting for test-0001, test-0002 on this machine", "the third waits"
    )
    for run in runs:
        let_go(yard, run)
    process.join()
    tasks = [yard.record(run, "tasks/worker-0.json") for run in runs]
    assert all(task["ended_at"] <= after["started_at"] for task, after in pairwise(tasks))


def test_two_runs_run_at_once_where_two_may(yard: Yard) -> None:
    runs = [yard.submit(COUNTS_AND_WAITS) for _ in range(2)]
    set_concurrent_runs(yard, 2)
    process = yard.start_controller()
    for run in runs:
        yard.wait_for_file(run, "outputs/count")
    assert [yard.wait_for_stage(run, "Running") for run in runs] == ["Running", "Running"]
    for run in runs:
        let_go(yard, run)
    process.join()
    assert [run.state().stage for run in runs] == ["Completed", "Completed"]


@in_a_folder
def test_runs_that_wait_outlast_a_workspace_json_saved_in_half(yard: Yard) -> None:
    """The number that was last read holds: two at once."""
    runs = [yard.submit(COUNTS_AND_WAITS) for _ in range(3)]
    set_concurrent_runs(yard, 2)
    process = yard.start_controller()
    wait_until(lambda: runs[2].state().reason, "the third waits")
    (yard.workspace.root / "workspace.json").write_text('{"concurrent_runs": 2,')
    let_go(yard, runs[0])
    assert yard.wait_for_stage(runs[2], "Running", "Failed") == "Running"
    assert runs[1].state().stage == "Running"
    for run in runs[1:]:
        let_go(yard, run)
    process.join()
    assert [run.state().stage for run in runs] == ["Completed"] * 3


def test_a_new_controller_knows_that_a_run_of_the_old_one_takes_the_machine(yard: Yard) -> None:
    runs = [yard.submit(COUNTS_AND_WAITS) for _ in range(4)]
    process = yard.start_controller()
    yard.wait_for_stage(runs[0], "Running")
    for run in runs[1:]:
        wait_until(lambda run=run: run.state().reason, "it waits")
    process.kill()
    process.join()
    process = yard.start_controller()
    for run in runs:
        yard.wait_for_stage(run, "Running")
        later = runs[runs.index(run) + 1 :]
        assert [other.state().stage for other in later] == ["Scaling"] * len(later)
        let_go(yard, run)
    process.join()
    assert [run.state().stage for run in runs] == ["Completed"] * 4


def test_a_run_that_waits_is_canceled_at_once(yard: Yard) -> None:
    runs = [yard.submit(COUNTS_AND_WAITS) for _ in range(2)]
    process = yard.start_controller()
    yard.wait_for_stage(runs[0], "Running")
    wait_until(lambda: runs[1].state().reason, "the second waits")
    runs[1].request_cancel()
    yard.wait_for_stage(runs[1], "Canceled")
    assert runs[1].state().reason == "canceled before it started"
    assert runs[0].state().stage == "Running"
    let_go(yard, runs[0])
    process.join()
    assert not (yard.work_folder(runs[1]) / "outputs" / "count").exists()


def test_a_run_canceled_while_no_controller_was_there_is_stopped(yard: Yard) -> None:
    """Its tasks run and its stage says Scaling: killed at the wrong moment, the old controller leaves just that."""
    run = yard.submit(COUNTS_AND_WAITS)
    workspace = Workspace(yard.workspace.root)

    def dies_when_it_says_running(name: str, arguments: tuple[Any, ...]) -> None:
        if name == "append" and b'"Running"' in arguments[1]:
            os.kill(os.getpid(), signal.SIGKILL)

    workspace.__dict__["store"] = StoreThat(yard.workspace.store, dies_when_it_says_running)
    yard.start_controller(workspace=workspace).join()
    yard.wait_for_file(run, "outputs/count")
    assert run.state().stage == "Scaling"
    run.request_cancel()
    yard.serve()
    assert (run.state().stage, run.state().reason) == ("Canceled", "canceled by request")
    assert yard.leftovers(run) == []


def test_a_run_canceled_before_its_controller_looks_is_never_prepared(yard: Yard) -> None:
    run = yard.submit(COUNTS)
    run.request_cancel()
    yard.serve()
    assert (run.state().stage, run.state().reason) == ("Canceled", "canceled before it started")
    assert not (yard.work_folder(run) / "environment").exists()


class SlowBuilder(PlainPython):
    """Builds by a command that says nothing for ten minutes, as uv does while it downloads TensorFlow."""

    def find(self, spec: EnvironmentSpec) -> Environment | None:
        return None

    def ensure(self, spec: EnvironmentSpec, log: Log, rebuild: bool = False) -> Environment:
        log("downloading")
        command.run([sys.executable, "-c", "import time; time.sleep(600)", str(self.folder)], cwd=Path("/"), log=log)
        raise AssertionError


class WaitingBuilder(PlainPython):
    """Waits for another process that builds the same environment."""

    def find(self, spec: EnvironmentSpec) -> Environment | None:
        return None

    def ensure(self, spec: EnvironmentSpec, log: Log, rebuild: bool = False) -> Environment:
        with locking.held(self.folder / "flock", "the build", log):
            raise AssertionError


def test_a_silent_build_is_canceled_at_once(yard: Yard) -> None:
    run = yard.submit(COUNTS)
    process = yard.start_controller(builder=SlowBuilder(yard.folder / "slow"))
    yard.wait_for_file(run, "logs/preparing.log")
    wait_until(lambda: yard.running(str(yard.folder / "slow")), "the build's command runs")
    run.request_cancel()
    process.join()
    assert (run.state().stage, run.state().reason) == ("Canceled", "canceled before it started")
    assert yard.running(str(yard.folder / "slow")) == []
    assert yard.log(run, "preparing").splitlines()[-1] == "downloading"


def test_waiting_for_the_build_of_another_is_canceled_at_once(yard: Yard) -> None:
    run = yard.submit(COUNTS)
    with locking.held(yard.folder / "flock", "the build", lambda line: None):
        process = yard.start_controller(builder=WaitingBuilder(yard.folder))
        yard.wait_for_file(run, "logs/preparing.log")
        wait_until(lambda: "waiting for the build by process" in yard.log(run, "preparing"), "that is said")
        run.request_cancel()
        process.join()
    assert run.state().stage == "Canceled"


class FailingBuilder(SlowBuilder):
    def ensure(self, spec: EnvironmentSpec, log: Log, rebuild: bool = False) -> Environment:
        raise EnvironmentBuildError("pip_packages: there is no `nunpy`", hint="did you mean `numpy`?")


def test_a_build_that_fails_fails_the_run_with_its_own_words(yard: Yard) -> None:
    run = yard.submit(COUNTS)
    yard.controller(builder=FailingBuilder(yard.folder)).serve()
    assert (run.state().stage, run.state().reason) == ("Failed", "pip_packages: there is no `nunpy`")
    assert run.events()[0][-1].data["hint"] == "did you mean `numpy`?"


def test_a_record_that_cannot_be_read_fails_its_run_and_no_other(yard: Yard) -> None:
    """Runs are named; the others go on."""
    broken = [yard.submit(COUNTS) for _ in range(3)]
    well = yard.submit(COUNTS)
    yard.replace(broken[0], "job.json", b"\xff{")
    well.store.delete(broken[1].key("job.json"))
    yard.replace(broken[2], "snapshot.json", b'{"files": 3}')
    yard.serve()
    assert [(run.state().stage, run.state().reason) for run in broken] == [
        ("Failed", "run `test-0001`: job.json cannot be read: JSON is malformed: invalid character (byte 0)"),
        ("Failed", "`runs/test-0002/job.json`: is not in the store"),
        ("Failed", "run `test-0003`: snapshot.json cannot be read: Expected `array`, got `int` - at `$.files`"),
    ]
    assert well.state().stage == "Completed"
    assert yard.queued() == []


def test_events_that_cannot_be_read_are_passed_over(yard: Yard) -> None:
    run = yard.submit(COUNTS)
    run.store.append(run.key("events.jsonl"), b'garbage\n{"time": "x"}\n[]\n\xff\n{"time": 1.5, "sta')
    yard.serve()
    assert stages(run) == ["Preparing", "Scaling", "Running", "Post-processing", "Completed"]


def test_what_is_no_run_in_the_queue_is_taken_out_of_it(yard: Yard) -> None:
    yard.workspace.store.put(keys.queued(yard.workspace.queue("local"), "nonsense"), b"")
    run = yard.run(COUNTS)
    assert run.state().stage == "Completed"
    assert yard.queued() == []


def test_a_store_that_cannot_be_written_for_a_while_loses_no_run(
    yard: Yard, capsys: pytest.CaptureFixture[str]
) -> None:
    run = yard.submit(COUNTS)
    refusals = [0, 0]

    def refuse(name: str, arguments: tuple[Any, ...]) -> None:
        for index, text in enumerate((b'"Running"', b'"Completed"')):
            if name == "append" and text in arguments[1] and not refusals[index]:
                refusals[index] += 1
                raise StoreError("the disk is full")

    workspace = Workspace(yard.workspace.root)
    workspace.__dict__["store"] = StoreThat(yard.workspace.store, refuse)
    yard.controller(workspace=workspace).serve()
    assert refusals == [1, 1]
    assert (run.state().stage, times_run(yard, run)) == ("Completed", 1)
    assert capsys.readouterr().err == "test-0001: the disk is full; trying again in 1 s\n" * 2


@in_a_folder
def test_a_supervisor_that_hangs_does_not_hold_up_a_kill(yard: Yard) -> None:
    run = yard.submit(COUNTS_AND_WAITS)
    process = yard.start_controller()
    yard.wait_for_file(run, "outputs/count")
    os.kill(yard.record(run, "tasks/worker-0.started.json")["supervisor"], signal.SIGSTOP)
    run.request_cancel(kill=True)
    process.join()
    assert (run.state().stage, run.state().reason) == ("Canceled", "canceled by request")
    assert yard.leftovers(run) == []


def test_a_launch_that_cannot_be_written_fails_the_run_and_frees_its_place(yard: Yard) -> None:
    first, second = yard.submit(COUNTS), yard.submit(COUNTS)
    (yard.work_folder(first) / "launch").mkdir(parents=True)
    (yard.work_folder(first) / "launch" / "run.sh").mkdir()
    yard.serve()
    assert first.state().stage == "Failed"
    assert str(first.state().reason).endswith("launch/run.sh`: Is a directory")
    assert second.state().stage == "Completed"


@in_a_folder
def test_a_queue_survives_the_terminal_that_filled_it(yard: Yard) -> None:
    """A terminal that closes sends SIGHUP to the command in it; here its session ends as a terminal's does."""
    (yard.source(COUNTS_AND_WAITS) / "job.yaml").write_text("entry_script: train.py\nexperiment: test\n")
    terminal, side = os.openpty()
    submitting = subprocess.Popen(
        [sys.executable, "-c", "from tensoryard.cli.main import main; main()", "run"],
        cwd=yard.folder / "source",
        env=os.environ | {"TYARD_WORKSPACE": str(yard.workspace.root)},
        stdin=side,
        stdout=side,
        stderr=side,
        start_new_session=True,
        preexec_fn=_take_terminal,
    )
    os.close(side)
    run = RunRecord(yard.workspace.store, "test-0001")
    wait_until(lambda: run.state().stage == "Running", "the run is running")
    os.close(terminal)
    submitting.wait()
    let_go(yard, run)
    assert yard.wait_for_stage(run, "Completed", "Failed", "Canceled") == "Completed"
    assert times_run(yard, run) == 1


def _take_terminal() -> None:
    import fcntl
    import termios

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # tests that were started by nohup pass it on as ignored
