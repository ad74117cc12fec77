"""`tyard run` and `tyard runs stream`: what is shown, to people and to programs, and what a signal does."""

import json
import os
import pty
import re
import select
import signal
import subprocess
import termios
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli_runner import Tyard
from launching import as_root
from tensoryard.run import RunRecord
from tensoryard.store.file import FileStore
from tensoryard.text import duration, printable

WAIT = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: (print("stopping", flush=True), sys.exit(1)))
print("ready", flush=True)
while not os.path.exists("outputs/go"):
    time.sleep(0.02)
"""


def state(cli: Tyard, run: str = "job-0001") -> str:
    return RunRecord(FileStore(cli.workspace), run).state().stage


CYAN, PLAIN = "\x1b[36m", "\x1b[0m"
# A busy machine may not draw every second.
FOR_A_SECOND = r"Running ([1-9][\d.]*|\d+ min \d+) s"


def without_times(text: str) -> str:
    return re.sub(r"\d+(\.\d)? s\b", "N s", text)


def records(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_lines_for_a_pipe_tell_stages_logs_the_end_and_the_next_commands(cli: Tyard) -> None:
    cli.job("""
import os
from tensoryard import Run
print("[bold]epoch 1[/bold]")
Run.get_context().log("accuracy", 0.5)
os.mkdir("outputs/model")
open("outputs/model/weights", "w").write("12345")
""")
    out, talk = cli.both("run")
    folder = cli.workspace / "runs" / "job-0001"
    assert without_times(out).splitlines() == [
        "Submitted job-0001",
        "Preparing N s",
        "Scaling N s",
        "worker-0 | [bold]epoch 1[/bold]",
        "Running N s",
        "Post-processing N s",
        "Completed job-0001 in N s",
        "  metrics  accuracy=0.5",
        f"  outputs  {folder}/outputs  (1 file, 5 B)",
    ]
    assert talk.split("\n") == [
        "",
        "  tyard runs files job-0001",
        "  tyard models register job --run job-0001 --path outputs/model",
        "",
    ]


def test_a_failed_run_exits_3_and_names_task_code_and_log(cli: Tyard) -> None:
    cli.job("raise SystemExit('no such data')")
    out, talk = cli.both("run", code=3)
    assert "worker-0 | no such data" in out
    assert re.search(r"^Failed job-0001 in .*: worker-0 on .* exited with code 1$", out, re.MULTILINE)
    assert f"  log      {cli.workspace}/runs/job-0001/logs/worker-0.log" in out
    assert "  tyard runs logs job-0001 --task worker-0\n  tyard runs resubmit job-0001\n" in talk


@pytest.mark.parametrize(("last_words", "repeated"), [(0, False), (100, True)])
def test_of_many_tasks_the_end_repeats_the_log_that_failed_only_where_it_is_far_above(
    cli: Tyard, last_words: int, repeated: bool
) -> None:
    cli.job(
        f"""
import json, os, signal, sys, time
def stop(*_):
    while not os.path.exists("outputs/shown"):
        time.sleep(0.02)
    print(*["stopping"] * {last_words}, sep="\\n")
    sys.exit(1)
signal.signal(signal.SIGTERM, stop)
if json.loads(os.environ["TF_CONFIG"])["task"]["index"] == 1:
    while not os.path.exists("outputs/ready"):
        time.sleep(0.02)
    raise SystemExit("disk is full")
open("outputs/ready", "w")
time.sleep(600)
""",
        distributed_training="multi_worker_mirrored",
        node_count=2,
    )
    process = cli.start("run")
    assert process.stdout
    above = ""
    for line in process.stdout:
        above += line.decode()
        if "worker-1 | disk is full" in above:
            break
    (cli.workspace / "runs" / "job-0001" / "outputs" / "shown").touch()
    told = process.stdout.read().decode().partition("Failed job-0001")[2]
    assert process.wait() == 3
    assert "worker-1 on " in told
    assert ("  worker-1 | disk is full" in told) is repeated


@pytest.mark.parametrize(("module", "package"), [("nosuch.inner", "nosuch"), ("sklearn", "scikit-learn")])
def test_a_module_that_is_missing_is_answered_with_the_package_to_add(cli: Tyard, module: str, package: str) -> None:
    cli.job(f"raise ModuleNotFoundError(\"No module named '{module}'\")")
    hint = f"add `{package}` to pip_packages, or `{module.split('.')[0]}` to the folder of the script"
    assert f"hint: {hint}\n" in cli.both("run", code=3)[1]
    assert json.loads(cli("runs", "show", "--json"))["hint"] == hint


def test_json_is_one_object_a_line_and_the_last_is_the_end(cli: Tyard) -> None:
    cli.job("print('a\\tb'); raise SystemExit(7)")
    out, talk = cli.both("run", "--json", code=3)
    found = records(out)
    assert talk == ""
    assert [one["stage"] for one in found if one["event"] == "stage"] == [
        "Preparing",
        "Scaling",
        "Running",
        "Post-processing",
    ]
    assert {"event": "log", "task": "worker-0", "line": "a\tb"} in found
    end = found[-1]
    assert (end["event"], end["id"], end["stage"], end["exit_code"]) == ("end", "job-0001", "Failed", 3)
    assert (end["task"], end["task_exit_code"], end["task_signal"]) == ("worker-0", 7, None)


def test_a_failure_of_tyard_itself_exits_1(cli: Tyard) -> None:
    cli.job("")
    cli("run")
    content = next(path for path in (cli.workspace / "objects" / "sha256").rglob("*") if path.is_file())
    content.chmod(0o644)
    content.unlink()
    out = cli("runs", "resubmit", "1", "--json", code=1)
    assert (records(out)[-1]["stage"], records(out)[-1]["exit_code"]) == ("Failed", 1)


def test_bytes_that_are_no_text_and_control_characters_reach_nobody(cli: Tyard) -> None:
    cli.job(r"""
import sys
sys.stdout.buffer.write(b"\xff\xfe\x1b[2J\x1b]0;title\x07ok\n10%\r50%\r100%\n")
""")
    cli.environ["PYTHONIOENCODING"] = "ascii"
    assert "worker-0 | \\ufffd\\ufffdok\nworker-0 | 100%\n" in cli("run")


def test_a_reader_that_goes_away_ends_the_following_but_not_the_run(cli: Tyard) -> None:
    cli.job(WAIT)
    process = cli.start("run")
    assert process.stdout
    assert process.stderr
    for line in process.stdout:
        if b"ready" in line:
            break
    process.stdout.close()
    (cli.workspace / "runs" / "job-0001" / "outputs" / "go").touch()
    assert b"Traceback" not in process.stderr.read()
    process.stderr.close()
    process.wait()
    assert "Completed job-0001" in cli("runs", "stream")


def start_and_wait(cli: Tyard, *arguments: str) -> "subprocess.Popen[bytes]":
    process = cli.start(*arguments, stderr=subprocess.STDOUT)
    assert process.stdout
    for line in process.stdout:
        if b"ready" in line:
            break
    return process


def test_without_a_terminal_one_sigint_cancels_and_follows_to_the_end(cli: Tyard) -> None:
    cli.job(WAIT)
    process = start_and_wait(cli, "run")
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate()
    assert process.returncode == 3
    assert b"Canceling job-0001" in out
    assert b"worker-0 | stopping" in out
    assert b"Canceled job-0001" in out


def test_without_a_terminal_a_second_sigint_kills(cli: Tyard) -> None:
    cli.job(WAIT.replace("sys.exit(1)", "None"))
    process = start_and_wait(cli, "run")
    assert process.stdout
    process.send_signal(signal.SIGINT)
    for line in process.stdout:
        if b"stopping" in line:
            break
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate()
    assert process.returncode == 3
    assert b"Killing job-0001" in out
    result = json.loads((cli.workspace / "runs" / "job-0001" / "tasks" / "worker-0.json").read_text())
    assert result["signal"] == "SIGKILL"
    assert cli.leftovers() == []


@pytest.mark.parametrize(("arguments", "number"), [(["run"], signal.SIGTERM), (["runs", "stream"], signal.SIGINT)])
def test_a_run_goes_on_when_its_follower_is_ended(cli: Tyard, arguments: list[str], number: int) -> None:
    """SIGTERM ends only who follows; a reading command does not cancel what it reads."""
    cli.job(WAIT)
    if arguments != ["run"]:
        cli("run", "--detach")
    process = start_and_wait(cli, *arguments)
    process.send_signal(number)
    out, _ = process.communicate()
    assert process.returncode == 1
    assert b"Detached from job-0001, which goes on: tyard runs stream job-0001" in out
    assert state(cli) == "Running"
    cli("runs", "cancel", "1")


def test_a_run_is_followed_to_its_end_by_who_may_only_read_the_workspace(cli: Tyard) -> None:
    """Here through a view of it that is mounted read-only."""
    cli.job(WAIT)
    cli("run", "--detach")
    view = cli.folder / "view"
    view.mkdir()
    as_root(f"mount --bind {cli.workspace} {view} && mount -o remount,bind,ro {view}")
    try:
        cli.environ["TYARD_WORKSPACE"] = str(view)
        process = start_and_wait(cli, "runs", "stream")
        (cli.workspace / "runs" / "job-0001" / "outputs" / "go").touch()
        out, _ = process.communicate()
    finally:
        as_root(f"umount {view}")
    assert process.returncode == 0, out
    assert b"Completed job-0001" in out


class Terminal:
    """`tyard` with a terminal of its own. drawn: all that it was sent, escape sequences too."""

    def __init__(self, cli: Tyard, *arguments: str, columns: int = 100) -> None:
        self.master, slave = pty.openpty()
        termios.tcsetwinsize(slave, (30, columns))
        self.process = cli.start(*arguments, stdin=slave, stdout=slave, stderr=slave, start_new_session=True)
        os.close(slave)
        self.text = ""
        self.drawn = ""

    def until(self, pattern: str) -> None:
        """Reads until what was shown, less its escape sequences, matches; clears it."""
        while not (found := re.search(pattern, self.text)):
            assert self._read(), f"it ended after {self.text!r}"
        self.text = self.text[found.end() :]

    def rest(self) -> str:
        while self._read():
            pass
        self.process.wait()
        os.close(self.master)
        return self.text

    def _read(self) -> bool:
        ready, _, _ = select.select([self.master], [], [], 300)
        assert ready, f"nothing more came after {self.text!r}"
        try:
            data = os.read(self.master, 65536)
        except OSError:  # Linux's word for a terminal that nobody holds any more
            data = b""
        self.drawn += data.decode()
        self.text += re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", data.decode())
        return bool(data)

    def interrupt(self) -> None:
        self.process.send_signal(signal.SIGINT)

    def press(self, key: str, shown: str) -> None:
        """A key, again until it is answered: a terminal forgets what is typed before a program reads single keys."""
        while not re.search(shown, self.text):
            os.write(self.master, key.encode())
            if select.select([self.master], [], [], 0.2)[0]:
                assert self._read(), f"it ended after {self.text!r}"


def test_a_terminal_shows_stages_that_tick_logs_metrics_and_progress(cli: Tyard) -> None:
    cli.job("""
import os, sys, time
from tensoryard import Run
Run.get_context().log("accuracy", 0.5)
print("[red]not markup[/red]", flush=True)
for step in range(100000):
    sys.stderr.write(f"\\rstep {step}")
    sys.stderr.flush()
    if os.path.exists("outputs/go"): break
    time.sleep(0.02)
""")
    terminal = Terminal(cli, "run")
    terminal.until(r"Submitted job-0001")
    terminal.until(r"worker-0 \| \[red\]not markup\[/red\]")
    terminal.until(r"worker-0 \| step \d+")
    terminal.until(r"job-0001  Preparing .* s · Scaling .* s · Running [\w. ]+ s")
    terminal.until(FOR_A_SECOND)
    terminal.until(r"accuracy=0\.5")
    (cli.workspace / "runs" / "job-0001" / "outputs" / "go").touch()
    rest = terminal.rest()
    assert terminal.process.returncode == 0
    assert re.search(r"worker-0 \| step \d+\r\n", rest)
    assert "Completed job-0001 in" in rest
    assert f"{CYAN}worker-0 | {PLAIN}[red]not markup[/red]" in terminal.drawn


def test_a_narrow_terminal_shows_the_present_stage_and_has_room_for_what_ctrl_c_echoes(cli: Tyard) -> None:
    cli.job(WAIT)
    terminal = Terminal(cli, "run", columns=40)
    terminal.until(r"job-0001  Running [\w. ]+ s  \([\w. ]+ s\)")
    terminal.until(FOR_A_SECOND)
    cli("runs", "cancel", "1")
    drawn = [line for line in re.split(r"[\r\n]+", terminal.rest()) if "Running" in line and "·" not in line]
    assert drawn
    assert all(len(line) <= 36 for line in drawn)


def test_a_queued_run_says_what_it_waits_for(cli: Tyard) -> None:
    cli.job(WAIT)
    cli("run", "--detach")
    terminal = Terminal(cli, "run")
    terminal.until(r"waiting for job-0001 on this machine")
    cli("runs", "cancel", "2")
    assert "Canceled job-0002" in terminal.rest()
    cli("runs", "cancel", "1")


@pytest.mark.parametrize(
    ("key", "answer", "code"), [("c", "Canceled job-0001 in", 3), ("d", "Detached from job-0001", 0)]
)
def test_ctrl_c_in_a_terminal_asks(cli: Tyard, key: str, answer: str, code: int) -> None:
    cli.job(WAIT)
    terminal = Terminal(cli, "run")
    terminal.until("ready")
    terminal.interrupt()
    terminal.until("c cancels it, d detaches and lets it run,\r\nCtrl-C again kills it, .* keeps following\r\n")
    terminal.press(key, "cancel\\r|detach\\r")
    assert answer in terminal.rest()
    assert terminal.process.returncode == code
    cli("runs", "cancel", "1")


def test_ctrl_c_at_the_question_kills_and_another_key_goes_on(cli: Tyard) -> None:
    cli.job(WAIT)
    terminal = Terminal(cli, "run")
    terminal.until("ready")
    terminal.interrupt()
    terminal.until("any other key keeps following\r\n")
    terminal.press("x", "go on\\r")
    terminal.until(r"Running \d")
    terminal.interrupt()
    terminal.until("any other key keeps following\r\n")
    terminal.press("\x03", "kill\\r")
    rest = terminal.rest()
    assert "Killing job-0001" in rest
    assert "Canceled job-0001 in" in rest
    assert terminal.process.returncode == 3
    assert cli.leftovers() == []


@given(st.text())
def test_printable_text_moves_no_cursor_and_can_be_encoded(text: str) -> None:
    clean = printable(text)
    assert not re.search(r"[\x00-\x08\x0a-\x1f\x7f-\x9f]", clean)
    clean.encode()
    assert printable(clean) == clean


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("plain [text]", "plain [text]"),
        ("\x1b[1m1/10\x1b[0m \x1b[32m━━\x1b[0m", "1/10 ━━"),
        ("1/10 [=>.....]\b\b\b\b\r2/10 [==>....]\r", "2/10 [==>....]"),
        ("\x1b]8;;https://example.org\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("tab\tstays", "tab\tstays"),
        ("\x1b", ""),
    ],
)
def test_progress_bars_and_colours_become_their_last_state(line: str, shown: str) -> None:
    assert shown == printable(line)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-1, "0.0 s"), (1.24, "1.2 s"), (9.96, "10 s"), (59.6, "1 min 00 s"), (185, "3 min 05 s"), (7380, "2 h 03 min")],
)
def test_durations(seconds: float, text: str) -> None:
    assert text == duration(seconds)
