"""What becomes of runs on a real Slurm when something dies. Scripts are plain Python that stands in for training."""

import importlib
import os
import re
import time
from typing import Any

import pytest

from launching import Yard, parameter_server, wait_until
from services.slurm import SlurmCluster
from tensoryard.errors import JobError
from tensoryard.run import RunRecord
from tensoryard.scheduler import GRACE_SECONDS
from tensoryard.scheduler import slurm_commands as commands
from tensoryard.scheduler.slurm_table import SOONEST_S
from tensoryard.slurm_target import SlurmOptions, SlurmTarget

pytestmark = pytest.mark.parametrize("yard", ["folder"], indirect=True)
ON_SLURM = {"compute_target": SlurmTarget(SlurmOptions())}
# Trains on from its checkpoint, in ./outputs, until a file says that it is enough.
TRAINS = """
import os, pathlib, time
from tensoryard import Run
task = os.environ["TYARD_TASK"]
checkpoint = pathlib.Path(f"outputs/{task}.step")
step = int(checkpoint.read_text()) if checkpoint.exists() else 0
print(f"{task} begins at {step}", flush=True)
while not os.path.exists("outputs/enough"):
    step += 1
    checkpoint.with_suffix(".new").write_text(str(step))
    checkpoint.with_suffix(".new").rename(checkpoint)
    Run.get_context().log(task, step)
    time.sleep(0.05)
print(f"{task} ends", flush=True)
"""
WAYS: dict[str, dict[str, Any]] = {
    "single": {},
    "mpi": {"distributed_training": "mpi", "node_count": 2},
    "parameter_server": {
        "distributed_training": parameter_server(worker_count=1, parameter_server_count=1),
        "node_count": 3,
    },
}


def start(yard: Yard, way: str, script: str = TRAINS, **fields: Any) -> RunRecord:
    """A run of a script with a controller beside it, once every task has begun to train."""
    run = yard.submit(script, **WAYS[way] | ON_SLURM | fields)
    yard.start_controller()
    for task in run.job.tasks():
        yard.wait_for_file(run, f"outputs/{task.name}.step")
    yard.wait_for_stage(run, "Running")
    return run


def enough(yard: Yard, run: RunRecord) -> None:
    (yard.work_folder(run) / "outputs" / "enough").touch()


def starts_by_slurm(slurm: SlurmCluster, yard: Yard, run: RunRecord) -> int:
    """How often Slurm started the run's jobs, by its own count: two at least."""
    jobs = slurm.run("scontrol", "--oneliner", "show", "jobs").splitlines()
    ours = [job for job in jobs if f"WorkDir={yard.work_folder(run)} " in f"{job} "]
    found = sum(1 + int(re.findall(r"Restarts=(\d+)", job)[0]) for job in ours)
    assert found >= 2, ours
    return found


def waited_again(run: RunRecord) -> bool:
    """Whether a run that had nodes has been without since."""
    return [span.stage for span in run.state().stages].count("Scaling") >= 2


def has_begun_again(yard: Yard, run: RunRecord) -> bool:
    """Whether the first task has; not to be waited for when the run has ended."""
    state = run.state()
    assert state.stage in ("Scaling", "Running"), state
    return yard.log(run, run.job.tasks()[0].name).count("begins at") >= 2


def end_of(slurm: SlurmCluster, yard: Yard, run: RunRecord) -> tuple[str, str | None]:
    """(stage, reason) of the run's end, which leaves no process and no job."""
    stage = yard.wait_for_stage(run, "Completed", "Failed", "Canceled")
    wait_until(lambda: not slurm.jobs(), "no job is left")
    assert yard.leftovers(run) == []
    return stage, run.state().reason


def occupy(slurm: SlurmCluster) -> str:
    """A job of somebody else's that has all nodes."""
    job = slurm.run("sbatch", "--parsable", "--nodes=3", "--exclusive", "--output=/dev/null", "--wrap=sleep 600")
    wait_until(lambda: f"{job.strip()} RUNNING" in "".join(slurm.jobs()), "the nodes are taken")
    return job.strip()


@pytest.mark.parametrize(("way", "lost"), [("mpi", "node-2"), ("parameter_server", "node-1")])
def test_a_run_whose_node_is_lost_goes_on_from_its_checkpoint(
    slurm: SlurmCluster, yard: Yard, way: str, lost: str
) -> None:
    """A node of ranks, which mpirun notices before Slurm does, and the node of the launch script itself."""
    run = start(yard, way)
    first = run.job.tasks()[0].name
    before = int(yard.text(run, f"outputs/{first}.step"))
    slurm.kill_node(lost)
    wait_until(lambda: waited_again(run), "the run waits for nodes again")
    wait_until(lambda: slurm.states()[lost].startswith("down"), "Slurm has noticed")
    slurm.start_node(lost)
    wait_until(lambda: has_begun_again(yard, run), "the run began again")
    enough(yard, run)
    assert end_of(slurm, yard, run) == ("Completed", None)
    began = [int(line.split()[-1]) for line in yard.log(run, first).splitlines() if "begins" in line]
    assert began[0] == 0
    assert began[1] >= before > 0
    steps = run.metrics()[first]
    assert (steps[0], steps) == (1, sorted(set(steps)))
    assert steps[-1] > began[1]
    # Twice, but where Slurm itself, on a busy machine, loses the next job too.
    again = ["Scaling", "Running"] * starts_by_slurm(slurm, yard, run)
    assert [span.stage for span in run.state().stages] == ["Preparing", *again, "Post-processing", "Completed"]


@pytest.mark.parametrize("way", ["mpi", "parameter_server"])
def test_a_task_that_fails_on_one_node_is_named_and_stops_those_on_others(
    slurm: SlurmCluster, yard: Yard, way: str
) -> None:
    doer, tasks = {"mpi": ("rank-1", 2), "parameter_server": ("ps-0", 3)}[way]
    fails = f"task == '{doer}' and len(list(pathlib.Path('outputs').glob('*.step'))) == {tasks} and os._exit(3)"
    run = yard.run(TRAINS.replace("step += 1", f"step += 1; {fails}"), **WAYS[way], **ON_SLURM)
    host = {"mpi": "node-2", "parameter_server": "node-3"}[way]
    assert end_of(slurm, yard, run) == ("Failed", f"{doer} on {host} exited with code 3")
    results = run.task_results()
    failed_at = results.pop(doer)["ended_at"]
    assert [facts["stopped"] for facts in results.values()] == [True] * (tasks - 1)
    # By a TERM, without the KILL that comes later.
    assert all(facts["ended_at"] - failed_at < GRACE_SECONDS for facts in results.values())


SAVES = """
import signal, sys
signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(open("outputs/saved", "w").close()))
"""


def test_jobs_that_are_put_back_into_the_queue_go_on_from_their_checkpoints(slurm: SlurmCluster, yard: Yard) -> None:
    """As preemption does, and the watcher of a Spot machine: tasks get a TERM, and the job's end decides nothing."""
    runs = {run: run.job.tasks()[0].name for run in (start(yard, "single"), start(yard, "mpi"))}
    for run in runs:
        slurm.run("scontrol", "requeue", yard.record(run, "launch/slurm.json")["job"])
    wait_until(lambda: all(map(waited_again, runs)), "both waited for nodes again")
    wait_until(lambda: all(has_begun_again(yard, run) for run in runs), "both began again")
    for run in runs:
        enough(yard, run)
    for run, first in runs.items():
        assert end_of(slurm, yard, run) == ("Completed", None)
        assert int(yard.log(run, first).splitlines()[-2].split()[-1]) > 0


def test_a_run_that_reaches_the_partitions_time_limit_keeps_its_checkpoint_and_says_so(
    slurm: SlurmCluster, yard: Yard
) -> None:
    run = start(yard, "parameter_server")
    job = yard.record(run, "launch/slurm.json")["job"]
    slurm.run("scontrol", "update", f"jobid={job}", "endtime=now+1")
    assert end_of(slurm, yard, run) == ("Failed", f"Slurm's job {job} reached its time limit")
    assert [file.path for file in run.outputs().files if "chief" in file.path]  # type: ignore[union-attr]


def test_a_disk_that_a_task_fills_is_said_to_be_full(slurm: SlurmCluster, yard: Yard) -> None:
    """The disk of the run's folder, on all nodes: there is no place for marks, logs and records either."""
    yard = Yard(slurm.small)
    script = """
import os
with open("outputs/" + os.environ["TYARD_TASK"], "wb", buffering=0) as file:
    while True:
        file.write(bytes(1 << 16))
"""
    run = yard.run(script, **WAYS["parameter_server"], **ON_SLURM)
    stage, reason = end_of(slurm, yard, run)
    assert stage == "Failed"
    assert "it exited with code 1: no space left on the disk that holds " in str(reason)
    assert run.outputs() is not None
    yard.close()


def test_a_job_that_somebody_else_cancels_is_failed_and_says_so(slurm: SlurmCluster, yard: Yard) -> None:
    run = start(yard, "parameter_server")
    job = yard.record(run, "launch/slurm.json")["job"]
    slurm.run("scancel", job)
    assert end_of(slurm, yard, run) == ("Failed", f"Slurm's job {job} was canceled in Slurm, not by tyard")


def test_a_run_that_takes_longer_than_it_may_keeps_its_checkpoint_for_a_later_one(
    slurm: SlurmCluster, yard: Yard
) -> None:
    run = start(yard, "single", max_run_duration_seconds=5)
    stage, reason = end_of(slurm, yard, run)
    assert stage == "Failed"
    assert str(reason).endswith(": it ran longer than max_run_duration_seconds allows (5 s)")
    assert [file.path for file in run.outputs().files] == ["outputs/worker-0.step"]  # type: ignore[union-attr]
    later = yard.run("print(open('outputs/worker-0.step').read())", resume_from=run.id, **ON_SLURM)
    assert end_of(slurm, yard, later) == ("Completed", None)
    assert yard.log(later).strip() == yard.text(run, "outputs/worker-0.step")


@pytest.mark.parametrize("way", WAYS)
def test_a_run_that_is_canceled_may_save_and_leaves_nothing(slurm: SlurmCluster, yard: Yard, way: str) -> None:
    run = start(yard, way, SAVES + TRAINS)
    run.request_cancel()
    assert end_of(slurm, yard, run) == ("Canceled", "canceled by request")
    assert (yard.work_folder(run) / "outputs" / "saved").exists()


@pytest.mark.parametrize("when", ["preparing", "concluding"])
def test_a_cancel_before_and_after_the_tasks_asks_nothing_of_slurm(
    slurm: SlurmCluster, yard: Yard, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    run = yard.submit("open('outputs/times', 'a').write('once ')", **ON_SLURM)
    names = {"preparing": "preparing.lay_out_support", "concluding": "outputs.conclude"}
    module, name = names[when].split(".")
    real = getattr(importlib.import_module(f"tensoryard.{module}"), name)

    def cancels_first(*arguments: Any) -> Any:
        run.request_cancel()
        return real(*arguments)

    monkeypatch.setattr(f"tensoryard.{names[when]}", cancels_first)
    yard.serve()
    expected = {"preparing": ("Canceled", "canceled before it started"), "concluding": ("Completed", None)}
    assert end_of(slurm, yard, run) == expected[when]
    assert (yard.work_folder(run) / "outputs" / "times").exists() == (when == "concluding")


def test_a_run_that_waits_for_nodes_says_why_and_can_be_canceled(slurm: SlurmCluster, yard: Yard) -> None:
    occupy(slurm)
    run = yard.submit(TRAINS, **ON_SLURM)
    yard.start_controller()
    wait_until(lambda: "free" in str(run.state().reason), "the reason is known")
    job = yard.record(run, "launch/slurm.json")["job"]
    assert run.state().reason == f"1 node asked as job {job}: waiting for nodes that are free (Resources)"
    run.request_cancel()
    assert yard.wait_for_stage(run, "Canceled") == "Canceled"
    wait_until(lambda: len(slurm.jobs()) == 1, "its job is gone")


@pytest.mark.parametrize("when", ["preparing", "submitting", "waiting", "running", "over", "concluding"])
def test_a_controller_that_was_killed_is_gone_on_from_and_no_script_runs_twice(
    slurm: SlurmCluster, yard: Yard, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    others = occupy(slurm) if when in ("submitting", "waiting") else None
    run = yard.submit("open('outputs/times', 'a').write('once ')\n" + TRAINS, **ON_SLURM)
    with monkeypatch.context() as patched:
        if when == "preparing":
            patched.setattr("tensoryard.preparing.lay_out_support", lambda folder: os._exit(9))
        elif when == "submitting":
            real = commands.sbatch
            patched.setattr(commands, "sbatch", lambda script: os._exit(real(script) and 9))
        elif when == "concluding":
            patched.setattr("tensoryard.outputs.conclude", lambda run, folder: os._exit(9))
        controller = yard.start_controller()
    if when == "waiting":
        wait_until(lambda: "free" in str(run.state().reason), "the run waits")
    elif when in ("running", "over", "concluding"):
        yard.wait_for_file(run, "outputs/worker-0.step")
    if when == "concluding":
        enough(yard, run)
    if when in ("preparing", "submitting", "concluding"):
        controller.join()
        assert controller.exitcode == 9
        assert (yard.work_folder(run) / "launch" / "slurm.json").exists() == (when == "concluding")
    controller.kill()
    controller.join()
    if when == "over":
        enough(yard, run)
        wait_until(lambda: not slurm.jobs(), "the job is over")
    yard.start_controller()
    if others:
        slurm.run("scancel", others)
    yard.wait_for_file(run, "outputs/worker-0.step")
    enough(yard, run)
    assert end_of(slurm, yard, run) == ("Completed", None)
    assert yard.text(run, "outputs/times") == "once "


def test_of_two_controllers_one_has_the_runs(slurm: SlurmCluster, yard: Yard) -> None:
    runs = [yard.submit("open('outputs/times', 'a').write('once ')", **ON_SLURM) for _ in range(3)]
    for _ in range(2):
        yard.start_controller()
    assert [end_of(slurm, yard, run) for run in runs] == [("Completed", None)] * 3
    assert [yard.text(run, "outputs/times") for run in runs] == ["once "] * 3
    jobs = slurm.run("scontrol", "show", "jobs")
    assert [jobs.count(f"WorkDir={yard.work_folder(run)}\n") for run in runs] == [1] * 3


def test_of_two_jobs_for_one_run_the_second_does_nothing(slurm: SlurmCluster, yard: Yard) -> None:
    run = start(yard, "single")
    slurm.run("sbatch", str(yard.work_folder(run) / "launch" / "run.sh"))
    wait_until(lambda: len(slurm.jobs()) == 1, "the second job has ended")
    enough(yard, run)
    assert end_of(slurm, yard, run) == ("Completed", None)
    assert yard.log(run).count("begins") == 1


def test_slurmctld_may_be_away_at_submission_and_while_a_run_goes_on(slurm: SlurmCluster, yard: Yard) -> None:
    job = yard.submit(TRAINS, **ON_SLURM)
    slurm.stop_slurmctld()
    yard.start_controller()
    wait_until(lambda: "Slurm does not answer" in str(job.state().reason), "that is said")
    slurm.start_slurmctld()
    yard.wait_for_file(job, "outputs/worker-0.step")
    slurm.save()
    slurm.kill_slurmctld()
    enough(yard, job)
    assert yard.wait_for_stage(job, "Completed", "Failed") == "Completed"
    slurm.start_slurmctld()
    assert end_of(slurm, yard, job) == ("Completed", None)


def test_a_job_that_slurmctld_knows_as_waiting_after_its_run_has_ended_is_canceled(
    slurm: SlurmCluster, yard: Yard
) -> None:
    """It died before it had saved that the job began, and would hold it for ever as a duplicate of itself."""
    target = SlurmTarget(SlurmOptions(extra_directives=("--hold",)))
    run = yard.submit(TRAINS, compute_target=target)
    controller = yard.start_controller()
    wait_until(lambda: "PENDING JobHeldUser" in "".join(slurm.jobs()), "the job waits")
    waiting = slurm.save()
    slurm.run("scontrol", "release", yard.record(run, "launch/slurm.json")["job"])
    yard.wait_for_file(run, "outputs/worker-0.step")
    slurm.kill_slurmctld()
    enough(yard, run)
    assert yard.wait_for_stage(run, "Completed", "Failed") == "Completed"
    slurm.forget(waiting)
    slurm.start_slurmctld()
    assert end_of(slurm, yard, run) == ("Completed", None)
    controller.join()
    assert yard.log(run).count("begins at") == 1


def test_a_run_whose_job_slurmctld_has_forgotten_goes_on_from_its_checkpoint(
    slurm: SlurmCluster, yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It died before it had saved the job, and nodes kill what they run of a job that it does not know."""
    monkeypatch.setattr("tensoryard.scheduler.slurm.NODE_SECONDS", 1.0)
    run = start(yard, "single")
    slurm.kill_slurmctld()
    slurm.forget()
    slurm.start_slurmctld()
    wait_until(lambda: run.state().stage == "Scaling", "the run waits for nodes again")
    assert "Slurm does not know job" in str(run.state().reason)
    wait_until(lambda: has_begun_again(yard, run), "the run began again")
    enough(yard, run)
    assert end_of(slurm, yard, run) == ("Completed", None)
    assert int(yard.log(run).splitlines()[-2].split()[-1]) > 0


def test_what_the_cluster_can_never_give_is_refused_before_anything_is_made(slurm: SlurmCluster, yard: Yard) -> None:
    for fields, said in (
        ({"node_count": 9, "distributed_training": "mpi"}, "asked: 9 nodes"),
        (
            {"compute_target": SlurmTarget(SlurmOptions(partition="nowhere"))},
            "`main`: 2 nodes of 2 cores, 2000 MiB and 1 node of 2 cores, 2000 MiB, gpu:1",
        ),
        ({"use_gpu": True, "process_count_per_node": 4, "distributed_training": "mpi"}, "4 GPUs each"),
    ):
        with pytest.raises(JobError, match="compute_target: slurm: ") as refused:
            yard.submit(TRAINS, **ON_SLURM | fields)
        assert said in refused.value.message
    assert list(yard.workspace.store.children("runs/")) == []


def test_of_two_hundred_runs_at_once_none_is_lost_and_none_runs_twice(slurm: SlurmCluster, yard: Yard) -> None:
    """All wait for somebody else's job; most are canceled there, and the others come to their end."""
    others = occupy(slurm)
    target = SlurmTarget(SlurmOptions(skip_directives=("exclusive", "mem")))
    runs = [yard.submit("open('outputs/done', 'a').write('x')", compute_target=target) for _ in range(200)]
    slurm.forget_asked()
    began = time.monotonic()
    controller = yard.start_controller()
    wait_until(lambda: slurm.asked().get("REQUEST_SUBMIT_BATCH_JOB") == 200, "Slurm has a job of every run")

    canceled, kept = runs[40:], runs[:40]
    for run in canceled:
        run.request_cancel()
    wait_until(lambda: all(run.state().stage == "Canceled" for run in canceled), "those are canceled")
    slurm.run("scancel", others)
    controller.join()

    asked, took = slurm.asked(), time.monotonic() - began
    assert {run.state().stage for run in kept} == {"Completed"}
    assert [yard.text(run, "outputs/done") for run in kept] == ["x"] * 40
    assert not any(run.store.stat(run.key("outputs/done")) for run in canceled)
    assert asked["REQUEST_SUBMIT_BATCH_JOB"] == 200
    assert asked["REQUEST_JOB_INFO"] <= took / SOONEST_S + 3
    wait_until(lambda: not slurm.jobs(), "no job is left, of others neither")
    assert yard.left() == []


def test_outputs_of_many_small_files_are_listed_and_kept(slurm: SlurmCluster, yard: Yard) -> None:
    count = 100_000
    run = yard.run(f"for number in range({count}): open(f'outputs/{{number}}', 'x').close()", **ON_SLURM)
    assert end_of(slurm, yard, run) == ("Completed", None)
    assert len(run.outputs().files) == count  # type: ignore[union-attr]
