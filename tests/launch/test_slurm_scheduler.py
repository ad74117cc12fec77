"""Slurm without a cluster: what its words are taken for, and what a job may ask of it."""

import json
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tensoryard.errors import JobError
from tensoryard.estimator import TensorFlow
from tensoryard.job import Job
from tensoryard.nodes.slurm import parse
from tensoryard.scheduler import Phase, Seen
from tensoryard.scheduler import slurm_commands as commands
from tensoryard.scheduler.slurm import SlurmScheduler
from tensoryard.scheduler.slurm_cluster import in_words
from tensoryard.scheduler.slurm_commands import AwayError, NodeState, Row, in_one_line
from tensoryard.scheduler.slurm_nodes import Listed, NodeWords
from tensoryard.scheduler.slurm_reasons import reason
from tensoryard.scheduler.slurm_table import SOONEST_S, JobTable
from tensoryard.slurm_target import SlurmOptions, SlurmTarget


@pytest.mark.parametrize(
    ("code", "kind", "shown"),
    [
        ("Resources", "resources", "waiting for nodes that are free (Resources)"),
        ("ReqNodeNotAvail, UnavailableNodes:gpu-1", "resources", "the nodes it needs are not available: Unavaila"),
        ("QOSMaxGRESPerUser", "quota", "its quality of service gives no more GRESPerUser to one job, user or acc"),
        ("AssocGrpCpuLimit", "quota", "its account has as much Cpu in use as it may (AssocGrpCpuLimit)"),
        ("PartitionTimeLimit", "quota", "it asks more time than its partition gives (PartitionTimeLimit)"),
        ("Dependency", "dependency", "waiting for a job that it depends on (Dependency)"),
        ("JobHeldAdmin", "held", "held by an administrator (JobHeldAdmin)"),
        ("launch failed requeued held", "held", "held, because a node could not start it"),
        ("launch_failed_requeued_held", "held", "held, because a node could not start it"),
        ("None", "other", "waiting for Slurm to look at it (None)"),
        ("SomethingOfSlurm30", "other", "SomethingOfSlurm30"),
    ],
)
def test_reason_codes_are_sorted_and_put_in_words(code: str, kind: str, shown: str) -> None:
    found = reason(code)
    assert found.kind == kind
    assert str(found).startswith(shown)


class Told:
    """A table that is told what squeue says, and a run of job 7 that has begun on gpu-1."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "runs" / "test-0001"
        (self.folder / "launch" / "attempts").mkdir(parents=True)
        (self.folder / "tasks").mkdir()
        self.write("launch/slurm.json", {"job": "7"})
        self.rows: list[Row] | None = []
        self.table = JobTable(self.listing)
        self.scheduler = SlurmScheduler(self.table)
        self.job = Job(experiment="test", entry_script="train.py")
        self.scheduler.submit("test-0001", self.folder, self.job, lambda placement: None)

    def write(self, name: str, facts: dict[str, Any]) -> None:
        (self.folder / name).write_text(json.dumps(facts))

    def began(self, at: float = 1.0) -> None:
        self.write("launch/attempts/7.0.began", {"at": at, "hosts": ["gpu-1"]})
        self.write("tasks/worker-0.started.json", {"host": "gpu-1"})

    def listing(self) -> list[Row]:
        if self.rows is None:
            raise AwayError("nobody answers")
        return self.rows

    def seen(self, state: str | None = None, reason: str = "None", job: str = "7") -> Seen:
        """How the run stands once squeue has said a state of its job; None: it does not list the job."""
        self.rows = [Row(job, state, reason, "gpu-1", str(self.folder))] if state else []
        self.table.refresh()
        return self.poll()

    def poll(self) -> Seen:
        """How the run stands by its files and what squeue said last."""
        self.scheduler._runs["test-0001"].look_at = 0.0
        return self.scheduler.poll("test-0001", self.folder)


@pytest.fixture
def told(tmp_path: Path) -> Told:
    return Told(tmp_path)


@pytest.mark.parametrize(
    ("state", "phase", "words"),
    [
        ("CONFIGURING", Phase.WAITING, "gpu-1 is being started for job 7"),
        ("RUNNING", Phase.RUNNING, None),
        ("COMPLETING", Phase.RUNNING, None),
        ("TIMEOUT", Phase.OVER, "Slurm's job 7 reached its time limit"),
        ("OUT_OF_MEMORY", Phase.OVER, "Slurm's job 7 needed more memory than it was given"),
        ("CANCELLED", Phase.OVER, "Slurm's job 7 was canceled in Slurm, not by tyard"),
        ("OF_SLURM_30", Phase.WAITING, "Slurm says OF_SLURM_30 of job 7"),
    ],
)
def test_a_state_of_slurm_is_a_phase_of_the_run(told: Told, state: str, phase: Phase, words: str | None) -> None:
    assert told.seen(state) == Seen(phase, words)


def test_nodes_that_cannot_be_had_are_told_with_how_many_are_up(told: Told) -> None:
    lacks = "quota NCASv3_T4 16 of 24 vCPUs in use, 12 more needed"
    nodes = [Listed("gpu", "gpu-1", "idle", "none"), Listed("gpu", "gpu-2", "down~", f"tyard: {lacks}")]
    told.scheduler._nodes = NodeWords(lambda: nodes)
    told.scheduler._nodes.refresh()

    assert told.seen("PENDING", "BeginTime").reason == f"1 node asked as job 7, 1 up: {lacks} (BeginTime)"
    assert told.seen("PENDING", "Resources").reason == f"1 node asked as job 7, 1 up: {lacks} (Resources)"
    # Nodes have no part in this one.
    assert "JobHeldUser" in str(told.seen("PENDING", "JobHeldUser").reason)
    assert lacks not in str(told.seen("PENDING", "JobHeldUser").reason)


def test_a_job_that_waits_after_it_ran_is_started_again(told: Told) -> None:
    told.began()
    assert told.seen("RUNNING") == Seen(Phase.RUNNING)
    found = told.seen("PENDING", "BeginTime")
    assert found.phase is Phase.WAITING
    assert str(found.reason).endswith("(BeginTime); a node was lost or taken, the run is started again")


def test_a_listing_of_before_an_attempt_says_nothing_of_its_end(told: Told) -> None:
    """An attempt may end within seconds, when a node is lost; that Slurm then starts it again is news to come."""
    assert told.seen("PENDING").phase is Phase.WAITING
    told.began()
    assert told.poll() == Seen(Phase.RUNNING)
    (told.folder / "launch" / "attempts" / "7.0.ended").write_text("205")
    assert told.poll() == Seen(Phase.RUNNING)
    assert told.seen("PENDING", "BeginTime").phase is Phase.WAITING


def test_a_job_that_was_put_back_and_started_again_between_two_listings_is_told(told: Told) -> None:
    told.began()
    assert told.seen("RUNNING") == Seen(Phase.RUNNING)
    (told.folder / "launch" / "attempts" / "7.0.ended").write_text("143")
    told.write("launch/attempts/7.1.began", {"at": 2.0, "hosts": ["gpu-1"]})
    assert told.poll() == Seen(Phase.WAITING, "Slurm has put job 7 back into its queue; the run is started again")
    assert told.poll() == Seen(Phase.RUNNING)
    # Of the next one a listing tells, and it runs to Slurm before its script has begun.
    (told.folder / "launch" / "attempts" / "7.1.ended").write_text("143")
    assert told.seen("PENDING", "BeginTime").phase is Phase.WAITING
    assert told.seen("RUNNING") == Seen(Phase.RUNNING)
    told.write("launch/attempts/7.2.began", {"at": 3.0, "hosts": ["gpu-1"]})
    assert told.poll() == Seen(Phase.RUNNING)


def test_nodes_that_are_said_to_be_started_while_the_script_runs_change_nothing(told: Told) -> None:
    """Slurm says so for some seconds of nodes that were made for the job; after the job was put back it is true."""
    told.began()
    assert told.seen("CONFIGURING") == Seen(Phase.RUNNING)
    assert told.seen("CONFIGURING") == Seen(Phase.RUNNING)
    assert told.seen("PENDING", "BeginTime").phase is Phase.WAITING
    assert told.seen("CONFIGURING") == Seen(Phase.WAITING, "gpu-1 is being started for job 7")


@pytest.mark.parametrize("state", ["NODE_FAIL", "PREEMPTED", "BOOT_FAIL"])
def test_a_job_that_slurm_gave_up_with_its_node_makes_way_for_another(told: Told, state: str) -> None:
    told.began()
    assert told.seen(state) == Seen(Phase.WAITING, "a node of gpu-1 was lost; the run is started again")
    assert not (told.folder / "launch" / "slurm.json").exists()


@pytest.mark.parametrize(
    ("later_s", "seen"),
    [
        (60, Seen(Phase.WAITING, "a node of gpu-1 was restarted; the run is started again")),
        (-60, Seen(Phase.RUNNING)),  # Slurm may yet say that it is gone
    ],
)
def test_a_node_that_is_back_before_slurm_missed_it_lost_its_tasks_all_the_same(
    told: Told, monkeypatch: pytest.MonkeyPatch, later_s: int, seen: Seen
) -> None:
    """mpirun has ended the job by then, and Slurm says of the node that it is idle."""
    began = datetime(2026, 12, 1, 12, 0, 0)
    told.began(began.timestamp())
    booted = (began + timedelta(seconds=later_s)).isoformat()
    says = {
        "sinfo": "gpu-1|idle|none\n",
        "scontrol": f"NodeName=gpu-1 State=IDLE BootTime={booted} SlurmdStartTime=2026-12-01T12:30:00\n"
        "SlurmdTimeout = 60 sec\n",
    }
    monkeypatch.setattr(commands, "ask", lambda argv: says[argv[0]])
    (told.folder / "launch" / "attempts" / "7.0.ended").write_text("205")
    assert told.seen("FAILED") == seen


def test_a_task_that_was_stopped_from_outside_decides_nothing_while_slurm_has_the_job(told: Told) -> None:
    """Preemption looks so: TERM to the tasks, the script ends, and a moment later the job waits again."""
    told.began()
    told.write("tasks/worker-0.json", {"exit_code": 143, "stopped": True})
    told.write("launch/end.json", {"outcome": "stopped", "task": "worker-0", "signal": "SIGTERM"})
    (told.folder / "launch" / "attempts" / "7.0.ended").write_text("143")
    assert told.seen("COMPLETING").phase is Phase.RUNNING
    assert told.seen("PENDING", "BeginTime").phase is Phase.WAITING


def test_a_launch_script_that_ended_before_any_task_began_decides_nothing_while_slurm_has_the_job(told: Told) -> None:
    """srun refuses to start tasks of a job that was put back into the queue that moment."""
    told.began()
    (told.folder / "tasks" / "worker-0.started.json").unlink()
    (told.folder / "launch" / "attempts" / "7.0.ended").write_text("1")
    assert told.seen("COMPLETING").phase is Phase.RUNNING
    assert told.seen("PENDING", "BeginTime").phase is Phase.WAITING
    assert told.seen("FAILED") == Seen(Phase.OVER)


def test_a_job_that_slurm_has_forgotten_before_it_began_is_submitted_anew(told: Told) -> None:
    told.scheduler._runs["test-0001"].submitted_at -= 60
    assert told.seen(None) == Seen(Phase.WAITING, "Slurm does not know job 7 any more; the run is started again")


def test_a_job_that_ended_before_its_files_are_seen_here_is_not_judged_yet(
    told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On NFS another machine's marks may be seen seconds after squeue has said that the job is over."""
    assert told.seen("PENDING", "Resources").phase is Phase.WAITING
    assert told.seen("COMPLETED").phase is Phase.WAITING
    told.began()
    told.write("tasks/worker-0.json", {"exit_code": 0, "stopped": False})
    (told.folder / "launch" / "attempts" / "7.0.ended").write_text("0")
    assert told.seen("COMPLETED") == Seen(Phase.OVER)


def test_a_job_that_left_no_mark_at_all_is_judged_in_the_end(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    assert told.seen("FAILED").phase is Phase.WAITING
    monkeypatch.setattr("tensoryard.scheduler.slurm.SHOWN_SECONDS", 0.0)
    assert told.seen("FAILED") == Seen(Phase.OVER)


def test_marks_have_a_folder_before_the_job_is_submitted(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    """NFS would hide for a minute what a node makes where this machine has looked in vain."""
    there = []
    folder = told.folder.parent / "test-0002"
    (folder / "launch").mkdir(parents=True)
    monkeypatch.setattr(commands, "sbatch", lambda script: there.append((folder / "launch/attempts").is_dir()) or "8")  # type: ignore[func-returns-value]
    told.table.refresh()
    told.scheduler.submit("test-0002", folder, Job(experiment="test", entry_script="t.py"), lambda placement: None)
    assert there == [True]


def test_a_run_that_is_lost_ten_times_has_failed_whoever_counts(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each time another controller, as after a restart of the head."""
    numbers = iter(range(8, 100))
    monkeypatch.setattr(commands, "sbatch", lambda script: str(next(numbers)))
    said = []
    for job in range(7, 17):
        told.scheduler = SlurmScheduler(told.table)
        told.scheduler.submit("test-0001", told.folder, told.job, lambda placement: None)
        said.append(told.seen("NODE_FAIL", job=str(job)))
        told.seen(None)  # submits it again
    assert [seen.phase for seen in said] == [Phase.WAITING] * 9 + [Phase.OVER]
    assert said[-1].reason == "Slurm lost its job or a node of it 10 times"


def test_files_are_believed_before_squeue_is_asked(told: Told) -> None:
    told.began()
    told.write("tasks/worker-0.json", {"exit_code": 0, "stopped": False})
    (told.folder / "launch" / "attempts" / "7.0.ended").write_text("0")
    assert told.seen("RUNNING") == Seen(Phase.OVER)


def test_a_job_that_will_not_end_is_killed_once_in_ten_seconds_and_not_at_every_look(
    told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    told.began()
    told.seen("COMPLETING")
    asked: list[tuple[str, ...]] = []
    monkeypatch.setattr(commands, "scancel", lambda *argv: asked.append(argv))

    for _ in range(100):
        told.scheduler.sweep("test-0001", told.folder)

    assert asked == [("7", "--full", "--signal=KILL"), ("7",)]


def test_slurm_that_does_not_answer_changes_nothing(told: Told) -> None:
    told.began()
    assert told.seen("RUNNING").phase is Phase.RUNNING
    told.rows = None
    told.table.refresh()
    assert told.table.away == "nobody answers"
    assert told.scheduler.poll("test-0001", told.folder) == Seen(Phase.RUNNING)


def test_squeue_is_asked_no_oftener_than_its_pace() -> None:
    asked = []
    table = JobTable(lambda: asked.append(1) or [])  # type: ignore[func-returns-value]
    assert table.refresh()
    for _ in range(100):
        table.changes_soon()
        table.row("7")
    assert len(asked) == 1
    assert SOONEST_S >= 1.0


def test_what_slurm_says_is_told_in_one_line() -> None:
    said = "sbatch: error: invalid partition specified: x\nsbatch: error: Batch job submission failed: Invalid name\n"
    assert in_one_line(said, "sbatch") == "invalid partition specified: x; Batch job submission failed: Invalid name"


@pytest.mark.parametrize(
    ("state", "lost"),
    [("idle", False), ("allocated*", True), ("down", True), ("down~", True), ("mixed", False), ("drained", False)],
)
def test_a_node_is_lost_when_slurm_gave_it_up_or_cannot_reach_it(state: str, lost: bool) -> None:
    assert NodeState("gpu-1", state, "").is_lost is lost


def test_python_names_a_cluster_as_job_yaml_does(tmp_path: Path) -> None:
    (tmp_path / "train.py").touch()
    target = {"slurm": {"partition": "gpu", "extra_directives": ["--mem=8G"]}}
    job = TensorFlow(str(tmp_path), entry_script="train.py", compute_target=target).job("test")
    assert job.compute_target == SlurmTarget(SlurmOptions(partition="gpu", extra_directives=("--mem=8G",)))
    wrong = TensorFlow(str(tmp_path), entry_script="train.py", compute_target={"slurm": {"partitoin": "gpu"}})
    with pytest.raises(JobError, match=r"compute_target\.slurm: got .* unknown field `partitoin`"):
        wrong.job("test")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"partition": "a b"}, "partition: got `a b`"),
        ({"extra_directives": ["mem=8G"]}, "expected an option of sbatch such as `--mem=8G`"),
        ({"extra_directives": ["--mem=8G\n#SBATCH --uid=0"]}, "expected an option of sbatch"),
        ({"extra_directives": ["--nodes=4"]}, "the field `node_count` says that"),
        ({"extra_directives": ["--array=1-9"]}, "a run needs it to be as it is rendered"),
        ({"skip_directives": ["output"]}, "which every run needs"),
    ],
)
def test_a_target_that_sbatch_cannot_be_given_is_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(JobError) as refused:
        msgspec.convert({"entry_script": "t.py", "experiment": "e", "compute_target": {"slurm": options}}, Job)
    assert said in refused.value.message


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ("IDLE+CLOUD+POWERED_DOWN", "not there, starts when needed"),
        ("IDLE+CLOUD+POWER_UP+POWERED_DOWN", "to be started"),
        ("MIXED+CLOUD+NOT_RESPONDING+POWERING_UP", "being started"),
        # Its machine could not be had: it is not started again by itself.
        ("DOWN+CLOUD+NOT_RESPONDING+POWERING_UP", "down"),
        ("DOWN+CLOUD+POWERED_DOWN+NOT_RESPONDING", "down"),
        ("DOWN+CLOUD+POWERING_DOWN", "going away"),
        ("IDLE+NOT_RESPONDING", "not answering"),
        ("IDLE+DRAIN", "takes no more jobs"),
        ("DOWN+DRAIN", "down, and takes no more jobs"),
        ("ALLOCATED", "in use"),
        ("FUTURE+NEW", "FUTURE+NEW"),
    ],
)
def test_states_of_nodes_are_put_in_words(state: str, words: str) -> None:
    assert in_words(parse(f"NodeName=gpu-1 State={state} ThreadsPerCore=1")) == words
