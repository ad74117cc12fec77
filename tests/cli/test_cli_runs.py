"""
`tyard runs`: list, show, logs, files, download, cancel, resubmit.

In a folder and on blob storage where how the store keeps it plays a part; tests that only read share their runs.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli_runner import Tyard
from finished_runs import finished_run
from launching import Yard
from services.azurite_fixtures import connect
from tensoryard.store import is_folder, keys
from tensoryard.workspace import Workspace

SCRIPT = """
import os
from tensoryard import Run
run = Run.get_context()
for epoch in range(3):
    print("epoch", epoch)
    run.log("accuracy", epoch / 4)
os.makedirs("outputs/model")
open("outputs/model/weights", "wb").write(bytes(range(256)))
open("outputs/notes.txt", "w").write("notes")
"""
WAIT = """
import time
print("ready", flush=True)
time.sleep(600)
"""
TASKS = r"import os, sys; sys.stdout.buffer.write(b'\xff\r\n' + os.environ['TYARD_TASK'].encode() + b'\nend')"

in_both = pytest.mark.parametrize("cli", ["folder", "blob"], indirect=True)


# One worker makes what they share.
@pytest.fixture(
    scope="module",
    params=[pytest.param(kind, marks=pytest.mark.xdist_group(f"runs in {kind}")) for kind in ("folder", "blob")],
)
def ended(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tyard]:
    """A workspace with four runs at their ends, to read: mnist-0001, other-0002, two-0003 and long-0004."""
    cli = Tyard(tmp_path_factory.mktemp("ended"))
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "blob":
            connect(cli, request.getfixturevalue("signed_in"), patch)
        yard = Yard(cli.folder, cli.store)
        yard.run(SCRIPT, experiment="mnist", tags={"purpose": "test"})
        yard.run("print('hello'); raise SystemExit(4)", experiment="other")
        yard.run(TASKS, experiment="two", distributed_training="multi_worker_mirrored", node_count=2)
        yard.run("for number in range(80000): print(number)", experiment="long")
        yard.close()
        yield cli
    cli.close()


def replace(cli: Tyard, run: str, name: str, data: bytes) -> None:
    """Put other bytes in place of what a run left."""
    cli.store.put(cli.record(run).key(name), data, overwrite=True)


def test_list_is_newest_first_and_filtered(ended: Tyard) -> None:
    rows = json.loads(ended("runs", "list", "--json"))
    assert [(row["id"], row["experiment"], row["stage"]) for row in rows] == [
        ("long-0004", "long", "Completed"),
        ("two-0003", "two", "Completed"),
        ("other-0002", "other", "Failed"),
        ("mnist-0001", "mnist", "Completed"),
    ]
    assert rows[3]["metrics"] == {"accuracy": 0.5}
    assert [row["id"] for row in json.loads(ended("runs", "list", "--experiment=mnist", "--json"))] == ["mnist-0001"]
    assert [row["id"] for row in json.loads(ended("runs", "list", "--stage=failed", "--json"))] == ["other-0002"]
    out, talk = ended.both("runs", "list", "--limit", "1")
    assert [line.split()[0] for line in out.splitlines()] == ["RUN", "long-0004"]
    assert talk == "There are older runs: `--limit 2` shows more\n"


def test_an_empty_workspace_has_no_runs_and_says_how_to_make_one(cli: Tyard) -> None:
    assert cli.both("runs", "list") == ("", "No runs yet\n")
    assert json.loads(cli("runs", "list", "--json")) == []
    _, talk = cli.both("runs", "show", code=1)
    assert "hint: there are no runs here yet; `tyard run job.yaml` makes one" in talk
    if is_folder(cli.store):
        assert not cli.workspace.exists()


def test_a_corrupt_run_is_named_and_the_others_are_listed(cli: Tyard) -> None:
    bad, good = "job-0001", "job-0002"
    for run in (bad, good):
        finished_run(cli.store, run)
    replace(cli, bad, "job.json", b"{")
    out, talk = cli.both("runs", "list", "--json")
    assert [good] == [row["id"] for row in json.loads(out)]
    assert talk.startswith(f"warning: {bad} cannot be read: ")


def test_a_run_of_whose_events_none_can_be_read_is_named_with_its_record(cli: Tyard) -> None:
    run = "job-0001"
    finished_run(cli.store, run)
    replace(cli, run, "events.jsonl", b"garbage\n")
    for option in ([], ["--json"]):
        out, talk = cli.both("runs", "show", run, *option, code=1)
        assert out == ""
        assert talk.startswith(f"error: run `{run}`: events.jsonl cannot be read: ")
    out, talk = cli.both("runs", "list", "--json")
    assert json.loads(out) == []
    assert talk.startswith(f"warning: {run} cannot be read: run `{run}`: events.jsonl ")


def test_show_has_stages_tasks_metrics_and_where_it_is(ended: Tyard) -> None:
    found = json.loads(ended("runs", "show", "mnist-0001", "--json"))
    assert [span["stage"] for span in found["stages"]] == [
        "Preparing",
        "Scaling",
        "Running",
        "Post-processing",
        "Completed",
    ]
    assert found["metrics"] == {"accuracy": [0.0, 0.25, 0.5]}
    assert found["tags"] == {"purpose": "test"}
    assert [(task["task"], task["exit_code"]) for task in found["tasks"]] == [("worker-0", 0)]
    assert found["tasks"][0]["peak_memory_bytes"] > 0
    assert found["path"] == (str(ended.workspace / "runs" / "mnist-0001") if is_folder(ended.store) else None)
    assert found["job"]["entry_script"] == "train.py"
    text = ended("runs", "show", "1")
    assert "metrics      accuracy=0.5" in text
    assert "exit code 0" in text
    assert json.loads(ended("runs", "show", "--json"))["id"] == "long-0004"


def test_a_run_that_is_not_there_is_answered_with_the_nearest(cli: Tyard) -> None:
    finished_run(cli.store, "mnist-0001")
    for odd in ("²", "١", "9" * 5000):
        assert "error: run: there is no `" in cli.both("runs", "show", odd, code=1)[1]
    _, talk = cli.both("runs", "show", "mnst-0001", code=1)
    assert talk == "error: run: there is no `mnst-0001`\n\nhint: did you mean `mnist-0001`?\n"
    assert "hint: did you mean `latest`?" in cli.both("runs", "show", "latst", code=1)[1]
    assert "hint: runs here: mnist-0001" in cli.both("runs", "show", "xyz", code=1)[1]


def test_logs_of_all_tasks_have_their_names_and_of_one_are_its_bytes(ended: Tyard) -> None:
    out, _ = ended.start("runs", "logs", "3").communicate()
    assert out == b"".join(
        b"%s | \xff\r\n%s | %s\n%s | end\n" % (name, name, name, name) for name in (b"worker-0", b"worker-1")
    )
    out, _ = ended.start("runs", "logs", "3", "--task", "worker-1").communicate()
    assert out == b"\xff\r\nworker-1\nend"
    assert ended("runs", "logs", "3", "--task", "worker-0", "--tail", "1") == "end"
    assert ended("runs", "logs", "3", "--tail", "1") == "worker-0 | end\nworker-1 | end\n"
    _, talk = ended.both("runs", "logs", "3", "--task", "worker-9", code=1)
    assert "hint: this run has `launch`, `worker-0`, `worker-1`" in talk


@pytest.mark.parametrize(("tail", "lines"), [(0, 0), (1, 1), (3, 3), (70000, 70000), (90000, 80000)])
def test_tail_counts_lines_from_the_end_of_a_long_log(ended: Tyard, tail: int, lines: int) -> None:
    out = ended("runs", "logs", "latest", "--task", "worker-0", "--tail", str(tail))
    assert [str(number) for number in range(80000 - lines, 80000)] == out.splitlines()


def test_files_are_listed_with_size_and_digest(ended: Tyard) -> None:
    found = {one["path"]: one for one in json.loads(ended("runs", "files", "1", "--json"))}
    assert list(found)[:3] == ["logs/launch.log", "logs/worker-0.log", "metrics/worker-0.jsonl"]
    assert list(found)[3:] == ["outputs/model/weights", "outputs/notes.txt"]
    assert found["outputs/model/weights"]["size_bytes"] == 256
    assert len(found["outputs/model/weights"]["sha256"]) == 64
    assert found["logs/worker-0.log"]["sha256"] is None
    assert "outputs/notes.txt       5 B" in ended("runs", "files", "1")


def test_download_takes_what_is_named_or_everything(ended: Tyard) -> None:
    ended("runs", "download", "1", "outputs/model", "--to", "got")
    assert bytes(range(256)) == (ended.folder / "got" / "outputs" / "model" / "weights").read_bytes()
    assert [path.name for path in (ended.folder / "got").rglob("*") if path.is_file()] == ["weights"]
    assert ended("runs", "download", "1") == "mnist-0001\n"
    assert (ended.folder / "mnist-0001" / "logs" / "worker-0.log").read_text() == "epoch 0\nepoch 1\nepoch 2\n"
    _, talk = ended.both("runs", "download", "1", "outputs/nothing", code=1)
    assert "there is no `outputs/nothing`" in talk
    assert "`outputs/notes.txt`" in talk


def test_outputs_of_a_run_become_a_model(ended: Tyard) -> None:
    ended("models", "register", "digits", "--run", "1", "--path", "outputs/model")
    ended("models", "download", "digits", "model")
    assert (ended.folder / "model" / "weights").read_bytes() == bytes(range(256))
    assert json.loads(ended("models", "show", "digits", "--json"))["run_id"] == "mnist-0001"


@in_both
def test_download_refuses_bytes_that_are_not_the_recorded_ones(cli: Tyard) -> None:
    finished_run(cli.store, "job-0001")
    replace(cli, "job-0001", "outputs/model/variables/index", b"other")
    _, talk = cli.both("runs", "download", "1", "outputs/model/variables/index", "--to", "got", code=1)
    assert "recorded was" in talk
    assert [path for path in (cli.folder / "got").rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("path", ["../escaped", "/tmp/escaped", "outputs/../../escaped"])
def test_download_refuses_a_record_that_leads_out_of_the_folder(cli: Tyard, path: str) -> None:
    finished_run(cli.store, "job-0001")
    listed = cli.store.read(cli.record("job-0001").key("outputs.json"))
    replace(cli, "job-0001", "outputs.json", listed.replace(b"outputs/model/variables/index", path.encode()))
    _, talk = cli.both("runs", "download", "1", "--to", "deep/er/got", code=2)
    assert talk.startswith("error: path: got ")
    assert list(cli.folder.rglob("escaped")) == []


def test_download_refuses_a_link_that_leads_out_of_the_folder(cli: Tyard) -> None:
    finished_run(cli.store, "job-0001")
    (cli.folder / "elsewhere").mkdir()
    (cli.folder / "got").mkdir()
    (cli.folder / "got" / "outputs").symlink_to("../elsewhere")
    cli.both("runs", "download", "1", "--to", "got", code=2)
    assert list((cli.folder / "elsewhere").iterdir()) == []


@in_both
def test_cancel_waits_until_the_run_has_ended(cli: Tyard) -> None:
    cli.job(WAIT)
    assert cli("run", "--detach") == "Submitted job-0001\n"
    assert cli("runs", "cancel", "latest") == "Canceled job-0001\n"
    assert cli.record("job-0001").state().stage == "Canceled"
    assert cli("runs", "cancel", "1") == "job-0001 has ended already: Canceled\n"


@in_both
def test_cancel_starts_a_controller_where_none_is_at_work(cli: Tyard) -> None:
    """A machine that was switched off leaves a queued run and nobody to end it."""
    run = cli.run("")
    for name in ("job.json", "snapshot.json"):
        replace(cli, "job-0009", name, cli.store.read(cli.record(run).key(name)))
    workspace = Workspace(cli.workspace)
    cli.store.put(keys.queued(workspace.queue("local"), "job-0009"), b"")
    assert cli("runs", "cancel", "9") == "Canceled job-0009\n"


@in_both
def test_resubmit_runs_the_old_source_with_changed_fields(cli: Tyard) -> None:
    first = cli.run("import sys; print('first', sys.argv[1:])", script_params={"--epochs": 1})
    (cli.folder / "train.py").unlink()
    (cli.folder / "job.yaml").unlink()
    out = cli("runs", "resubmit", first, "--set", "script_params.--epochs=7", "--set", "tags.again=yes")
    assert "Submitted job-0002" in out
    assert "worker-0 | first ['--epochs', '7']" in out
    again = cli.record("job-0002")
    assert cli.record(first).snapshot() == again.snapshot()
    assert again.job.tags == {"again": "yes"}


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ("source_directory=.", "error: --set: `source_directory` belongs to the snapshot of `job-0001`"),
        ("entry_script=other.py", "error: entry_script: `other.py` is not in the snapshot of `job-0001`"),
        ("nodes=2", "error: --set: unknown field `nodes`\n\nhint: did you mean `node_count`?"),
        ("node_count=0", "error: --set: node_count: got `0`"),
    ],
)
def test_resubmit_refuses_what_the_snapshot_cannot_run(cli: Tyard, change: str, error: str) -> None:
    cli.run("")
    _, talk = cli.both("runs", "resubmit", "1", "--set", change, code=2)
    assert talk.startswith(error)
    assert list(cli.store.children("runs/")) == ["job-0001/"]


def test_stream_of_an_ended_run_shows_it_again(ended: Tyard) -> None:
    assert "worker-0 | hello\n" in ended("runs", "stream", "other-0002", code=3)
    assert json.loads(ended("runs", "stream", "2", "--json", code=3).splitlines()[-1])["task_exit_code"] == 4


@pytest.mark.long
@in_both
def test_a_log_of_one_endless_line_is_followed_in_little_memory(cli: Tyard, tmp_path: Path) -> None:
    # The line is longer than what is free above tyard itself, which is larger with Azure's libraries.
    mib, bound_kib = (48, 60 << 10) if is_folder(cli.store) else (40, 100 << 10)
    cli.job(f"import sys\nfor _ in range({mib}): sys.stdout.write('x' * (1 << 20))")
    # Not ru_maxrss, which begins with what the parent had.
    program = (
        "import sys; from tensoryard.cli.main import main; sys.argv = ['tyard', *sys.argv[1:]]\n"
        "try: main()\n"
        "finally: print(next(line for line in open('/proc/self/status') if 'VmHWM' in line), file=sys.stderr)"
    )
    stream, logs = ["runs", "stream"], ["runs", "logs"]
    as_json = [[*stream, "--json"]] if is_folder(cli.store) else []  # another form of what `stream` has read
    for words in (["run"], stream, *as_json, logs, [*logs, "--tail=1"]):
        argv = [sys.executable, "-c", program, *words]
        with (tmp_path / "out").open("wb") as out:
            done = subprocess.run(argv, env=cli.environ, cwd=cli.folder, stdout=out, stderr=subprocess.PIPE)
        assert (tmp_path / "out").stat().st_size >= mib << 20
        assert int(done.stderr.split()[-2]) < bound_kib
