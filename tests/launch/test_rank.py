"""What runs beside a script: rendered launch scripts run by hand, without a controller."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from launching import lay_out_by_hand, parameter_server, wait_until
from tensoryard.environment.spec import environment_spec
from tensoryard.environment.venv import VenvBuilder
from tensoryard.errors import JobError
from tensoryard.job import Job
from tensoryard.render import Placement, render

DUMPS = """
import json, os, sys
with open(os.path.join(os.environ["TYARD_RUN_DIR"], "outputs", os.environ["TYARD_TASK"] + ".json"), "w") as file:
    json.dump([sys.argv, dict(os.environ)], file)
"""

WAITS_FOR_ALL = """
import time
while len(os.listdir("../outputs")) < len(os.listdir("../launch/tf_config")):
    time.sleep(0.01)
"""


class Hand:
    """A run's folder laid out by hand, launched as a person would: `bash launch/run.sh`."""

    def __init__(
        self, folder: Path, script: str = DUMPS, hosts: tuple[str, ...] | None = None, **fields: Any
    ) -> None:
        self.job = Job(**{"experiment": "hand", "entry_script": "train.py"} | fields)
        self.folder = folder
        if hosts is None:
            hosts = ("localhost",) * self.job.node_count
        files = render(self.job, Placement("local", hosts), run_id="hand-0001", run_dir=str(folder), local_paths={})
        lay_out_by_hand(folder, files, {self.job.entry_script: script})

    def run(self, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", str(self.folder / "launch" / "run.sh")],
            env=os.environ | environment,
            capture_output=True,
            text=True,
        )

    def dumped(self, task: str = "worker-0") -> tuple[list[str], dict[str, str]]:
        """(argv, environ) as the script saw them."""
        argv, environ = json.loads((self.folder / "outputs" / f"{task}.json").read_text())
        return argv, environ

    def record(self, name: str) -> dict[str, Any]:
        return dict(json.loads((self.folder / name).read_text()))


TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40)
NASTY = [
    "",
    "-",
    "--",
    "-rf",
    "'",
    '"',
    "'\"'\"'",
    "$(touch /tmp/x)",
    "`id`",
    ";",
    "&&",
    "\n",
    "\r\n",
    "a\n",
    "\t",
    " ",
    "~",
]
NASTY += [
    "*",
    "?",
    "[a]",
    "{a,b}",
    "$HOME",
    "${x}",
    "\\",
    "\\n",
    "!",
    "#",
    ":",
    "=",
    "%s",
    "é",
    "日本",
    "🎉",
    "\x7f",
    "\u2028",
]
FILE_NAMES = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0/"), min_size=1, max_size=40
).filter(lambda name: name not in (".", "..") and len(name.encode()) < 200)
# These steer Python and the loader themselves.
STEERING = ("PYTHON", "LD_", "PATH", "OMPI_", "TF_", "OMP_")
NAMES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,12}", fullmatch=True).filter(
    lambda name: not name.startswith(STEERING)
)


# Each example is a launch: many strings in each of few.
@settings(max_examples=16, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    params=st.dictionaries(TEXTS, TEXTS | st.none(), max_size=30),
    variables=st.dictionaries(NAMES, TEXTS, max_size=30),
    script=FILE_NAMES,
    folder=FILE_NAMES,
)
@example(params={text: text for text in NASTY}, variables={}, script="-c", folder="-run")
@example(
    params=dict.fromkeys(NASTY),
    variables={f"N{n}": text for n, text in enumerate(NASTY)},
    script="it's",
    folder="$x\n",
)
@example(
    params={},
    variables=dict.fromkeys(
        ["task", "command", "status", "pid", "IFS", "CDPATH", "PS4", "HOME", "name", "x"], "a b;"
    ),
    script="-",
    folder="'",
)
def test_every_string_reaches_the_script_as_it_was_written(
    params: dict[str, str | None], variables: dict[str, str], script: str, folder: str
) -> None:
    with TemporaryDirectory() as top:
        try:
            hand = Hand(Path(top, folder), script_params=params, environment_variables=variables, entry_script=script)
        except JobError:
            assume(False)
        done = hand.run()
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        argv, environ = hand.dumped()
    words = [word for pair in params.items() for word in pair if word is not None]
    assert [f"./{script}" if script.startswith("-") else script, *words] == argv
    assert variables == {name: environ[name] for name in variables}


def test_mpirun_passes_every_string_on(tmp_path: Path) -> None:
    """Open MPI takes a lone colon as the start of another program."""
    hand = Hand(
        tmp_path / "run",
        distributed_training="mpi",
        process_count_per_node=2,
        script_params={text: text for text in NASTY},
    )
    (hand.folder / "launch" / "horovod-mpi").touch()
    done = hand.run()
    assert (done.returncode, done.stdout, done.stderr) == (0, "Launching by mpirun\n", "")
    words = [word for text in NASTY for word in (text, text)]
    assert [["train.py", *words]] * 2 == [hand.dumped(task)[0] for task in ("rank-0", "rank-1")]


def test_horovodrun_passes_every_string_on(tmp_path: Path) -> None:
    """Over Gloo, by the Horovod of the real environment: it writes a command line for a shell."""
    hand = Hand(
        tmp_path / "run",
        distributed_training="mpi",
        process_count_per_node=2,
        script_params={text: text for text in NASTY},
    )
    built = VenvBuilder().ensure(environment_spec(way="mpi"), print)
    shutil.rmtree(hand.folder / "environment")
    (hand.folder / "environment").symlink_to(Path(built.python).parents[1])
    done = hand.run()
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Launching over Gloo: " in done.stdout
    words = [word for text in NASTY for word in (text, text)]
    assert [["train.py", *words]] * 2 == [hand.dumped(task)[0] for task in ("rank-0", "rank-1")]


@pytest.mark.parametrize("chief", [True, False])
def test_tf_config_is_the_rendered_one(tmp_path: Path, chief: bool) -> None:
    hand = Hand(
        tmp_path / "run",
        distributed_training=parameter_server(worker_count=2, parameter_server_count=1, chief=chief, evaluator=True),
        script=DUMPS + WAITS_FOR_ALL,
    )
    assert hand.run().returncode == 0
    for task in (task.name for task in hand.job.tasks()):
        seen = hand.dumped(task)[1]["TF_CONFIG"]
        assert (hand.folder / "launch" / "tf_config" / f"{task}.json").read_text() == seen + "\n"


def test_tf_config_from_outside_does_not_reach_a_job_that_has_one(tmp_path: Path) -> None:
    hand = Hand(tmp_path / "run", distributed_training="multi_worker_mirrored")
    hand.run(TF_CONFIG="{}")
    assert json.loads(hand.dumped()[1]["TF_CONFIG"])["task"] == {"type": "worker", "index": 0}


def test_tasks_that_share_a_machine_share_its_cores(tmp_path: Path) -> None:
    hand = Hand(tmp_path / "run", distributed_training="multi_worker_mirrored", process_count_per_node=2)
    hand.run()
    share = str(max(1, len(os.sched_getaffinity(0)) // 2))
    assert hand.dumped("worker-1")[1]["OMP_NUM_THREADS"] == share


@pytest.mark.parametrize(
    ("size", "reason"),
    [
        ({"OMPI_COMM_WORLD_SIZE": "1"}, "this rank found itself in one of 1"),
        # Of the allocation, which knows nothing of what MPI has started in it.
        ({"SLURM_NTASKS": "2"}, "and the launcher did not say how large this one is"),
    ],
)
def test_a_world_of_another_size_fails_before_the_script_starts(
    tmp_path: Path, size: dict[str, str], reason: str
) -> None:
    """What a Horovod rank finds when its launcher gave it a world of its own."""
    hand = Hand(tmp_path / "run", distributed_training="mpi", process_count_per_node=2)
    (hand.folder / "launch" / "command").write_bytes(b"python\0train.py\0")
    supervisor = [sys.executable, "-I", "-S", str(hand.folder / "launch" / "rank.py"), "-"]
    world = {"TYARD_RUN_DIR": str(hand.folder), "OMPI_COMM_WORLD_RANK": "0", **size}
    assert subprocess.run(supervisor, env=os.environ | world).returncode == 1
    reason = f"the job asked for a world of 2 ranks, {reason}"
    assert hand.record("launch/end.json")["reason"] == reason
    assert hand.record("tasks/rank-0.json")["reason"] == reason
    assert not (hand.folder / "logs" / "rank-0.log").exists()


# Horovod's own file of that name has all frameworks' `init` and `size`; here without what is compiled.
BASICS = """
class HorovodBasics:
    def init(self, comm=None, process_sets=None):
        self.world = int(__import__("os").environ["WORLD"])
    def size(self):
        return self.world
"""
TRAINS = """
import sys
from horovod.common.basics import HorovodBasics
HorovodBasics().init(*map(eval, sys.argv[1:]))
print("trained", sys.modules.get("of_the_user"))
"""
OF_THE_USER = "import sys; sys.modules['of_the_user'] = 'as before'"


@pytest.mark.parametrize(("world", "ranks"), [(2, "None"), (1, "[0]"), (1, "None")])
def test_a_rank_that_horovod_leaves_alone_fails(tmp_path: Path, world: int, ranks: str) -> None:
    """As where it was built without MPI, or with another: each rank would train for itself."""
    variables = {"WORLD": str(world), "PYTHONPATH": str(tmp_path / "site")}
    hand = Hand(
        tmp_path / "run",
        TRAINS,
        distributed_training="mpi",
        process_count_per_node=2,
        environment_variables=variables,
        script_params={ranks: None},
    )
    (hand.folder / "launch" / "horovod-mpi").touch()
    for path, text in (("site/sitecustomize.py", OF_THE_USER), ("site/horovod/common/basics.py", BASICS)):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    code = hand.run().returncode
    logs = [(hand.folder / "logs" / f"rank-{number}.log").read_text() for number in (0, 1)]
    if (world, ranks) == (1, "None"):
        assert code == 1
        why = "RuntimeError: the job asked for a world of 2 ranks, Horovod found itself in one of 1"
        assert any(why in log for log in logs)
    else:
        assert (code, logs) == (0, ["trained as before\n"] * 2)


def test_use_gpu_without_a_gpu_fails_before_the_script_starts(tmp_path: Path) -> None:
    """A machine that has one hides it here; TensorFlow would train on the CPU without a word."""
    hand = Hand(tmp_path / "run", use_gpu=True, environment_variables={"CUDA_VISIBLE_DEVICES": ""})
    assert hand.run().returncode == 1
    assert hand.record("launch/end.json")["reason"].startswith("use_gpu is set and this node has no usable GPU: the ")
    assert not (hand.folder / "logs" / "worker-0.log").exists()


def test_a_host_list_that_slurm_could_not_read_is_said(tmp_path: Path) -> None:
    hand = Hand(tmp_path / "run", hosts=(), distributed_training="multi_worker_mirrored", node_count=2)
    assert hand.run(TYARD_HOSTS="").returncode == 1
    assert hand.record("launch/end.json")["reason"] == "the job needs the names of 2 nodes, TYARD_HOSTS gave none"


def test_a_script_that_cannot_be_started_is_said_to_be(tmp_path: Path) -> None:
    hand = Hand(tmp_path / "run")
    supervisor = [sys.executable, "-I", "-S", str(hand.folder / "launch" / "rank.py"), "worker-0", "no-such-program"]
    assert subprocess.run(supervisor, env=os.environ | {"TYARD_RUN_DIR": str(hand.folder)}).returncode == 1
    reason = "its script cannot be started: no-such-program: No such file or directory"
    assert hand.record("launch/end.json")["reason"] == reason


def test_a_run_that_has_ended_starts_no_task(tmp_path: Path) -> None:
    hand = Hand(tmp_path / "run")
    (hand.folder / "launch" / "end.json").write_text('{"outcome": "canceled"}')
    ended = hand.run()
    assert ended.returncode == 1
    assert "worker-0: not started, as the run has ended" in ended.stderr
    assert list((hand.folder / "tasks").iterdir()) == []


def test_the_result_of_a_task_tells_its_times_and_memory(tmp_path: Path) -> None:
    hand = Hand(tmp_path / "run", script="x = bytearray(64 << 20)")
    assert hand.run().returncode == 0
    result = hand.record("tasks/worker-0.json")
    assert (result["host"], result["exit_code"], result["signal"], result["stopped"]) == (
        os.uname().nodename,
        0,
        None,
        False,
    )
    assert result["started_at"] <= result["ended_at"]
    assert 64 << 20 < result["peak_memory_bytes"] < 200 << 20


def test_peers_are_stopped_without_waiting_for_what_a_failed_task_left_behind(tmp_path: Path) -> None:
    """Its deaf child has ten seconds more, which are not the others'."""
    script = """
import os, signal, subprocess, sys, time
if os.environ["TYARD_TASK"] == "worker-1":
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(600)"
    subprocess.Popen([sys.executable, "-c", deaf], stdout=subprocess.PIPE).stdout.readline()
    while not os.path.exists("../tasks/worker-0.started.json"): time.sleep(0.01)
    sys.exit(3)
time.sleep(600)
"""
    hand = Hand(tmp_path / "run", script, distributed_training="multi_worker_mirrored", process_count_per_node=2)
    launched = subprocess.Popen(["bash", str(hand.folder / "launch" / "run.sh")])
    wait_until((hand.folder / "tasks" / "worker-0.json").exists, "worker-0 was stopped")
    assert launched.poll() is None
    (hand.folder / "launch" / "kill").touch()
    assert launched.wait() != 0
    assert hand.record("tasks/worker-0.json")["signal"] == signal.Signals.SIGTERM.name


def test_a_log_on_a_disk_that_a_cluster_shares_is_written_out_while_it_grows(tmp_path: Path) -> None:
    """NFS would keep it on the node for half a minute. The script ends once each line was written out."""
    waits = """
import os, time
synced = os.path.join(os.environ["TYARD_RUN_DIR"], "synced")
deadline = time.monotonic() + 100
for line in ("one", "two"):
    print(line, flush=True)
    while not os.path.exists(synced) or os.path.getsize(synced) < os.fstat(1).st_size:
        assert time.monotonic() < deadline
        time.sleep(0.01)
"""
    records = f"""
def fdatasync(file):
    os.truncate(os.open({str(tmp_path / "synced")!r}, os.O_RDWR | os.O_CREAT), os.fstat(file).st_size)
os.fdatasync = fdatasync
"""
    hand = Hand(tmp_path, waits)
    with (tmp_path / "launch" / "children.py").open("a") as file:
        file.write(records)
    assert hand.run(SLURM_JOB_ID="7").returncode == 0
    assert (tmp_path / "logs" / "worker-0.log").read_text() == "one\ntwo\n"
