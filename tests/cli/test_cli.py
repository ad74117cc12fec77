"""What holds for every command of `tyard`: help, wrong words, start-up, completion, schema, doctor."""

import contextlib
import json
import os
import pty
import re
import shlex
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path

import click
import fastjsonschema
import msgspec
import pytest
import yaml

from cli_runner import Tyard
from tensoryard.cli.main import COMMANDS, tyard
from tensoryard.job_schema import job_schema

# Each costs a tenth of a second or more, or is of no use before a job runs.
HEAVY = {"asyncio", "jinja2", "msgspec", "pathspec", "rattler", "rich", "subprocess", "uv", "yaml"}


def commands(command: click.Command, path: tuple[str, ...] = ("tyard",)) -> Iterator[tuple[str, click.Command]]:
    yield " ".join(path), command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None, name
            yield from commands(inner, (*path, name))


ALL = dict(commands(tyard))


@pytest.mark.parametrize("path", ALL)
def test_every_command_and_option_has_help(path: str) -> None:
    command = ALL[path]
    assert command.help
    unexplained = [param.name for param in command.params if isinstance(param, click.Option) and not param.help]
    assert unexplained == []


@pytest.mark.parametrize("path", ALL)
def test_every_help_has_two_examples_above_its_options(path: str) -> None:
    text = ALL[path].get_help(click.Context(ALL[path], info_name=path))
    examples = text.partition("Examples:\n")[2].partition("Options:\n")[0].partition("Commands:\n")[0]
    assert sum("tyard " in line for line in examples.splitlines()) >= 2, text


@pytest.mark.parametrize("path", [path for path in ALL if path.count(" ") == 2])
def test_the_first_line_of_help_fits_the_list_of_commands(path: str) -> None:
    assert not ALL[path].get_short_help_str(limit=66).endswith("...")


def test_the_table_of_commands_says_what_each_is_for() -> None:
    assert all(purpose and not purpose.endswith(".") for _, purpose in COMMANDS.values())


@pytest.mark.parametrize(
    ("arguments", "error", "hint"),
    [
        (["rum"], "error: tyard: no such command 'rum'", "hint: did you mean `tyard run`?"),
        (["run", "--sett"], "error: tyard run: no such option '--sett'", "hint: did you mean `--set`?"),
        (["runs", "lst"], "error: tyard runs: no such command 'lst'", "hint: did you mean `tyard runs list`?"),
        (["runs", "list", "--limit", "0"], "error: tyard runs list: invalid value for '--limit'", "--help`"),
        (
            ["models", "register", "digits", "--tag"],
            "error: tyard models register: option '--tag' requires an argument",
            "hint: `tyard models register --help` shows what there is",
        ),
        (["runs", "cancel"], "error: tyard runs cancel: missing argument 'RUN'", "--help`"),
        (["run", "nowhere.yaml"], "error: nowhere.yaml: no such file", "hint: `tyard init DIR`"),
    ],
)
def test_wrong_words_are_named_with_the_nearest_right_ones(
    cli: Tyard, arguments: list[str], error: str, hint: str
) -> None:
    out, talk = cli.both(*arguments, code=2)
    assert out == ""
    assert talk.startswith(error)
    assert hint in talk


@pytest.mark.parametrize("words", [["--help"], ["runs", "--help"], ["--version"]])
def test_help_imports_nothing_heavy(cli: Tyard, words: list[str]) -> None:
    assert set() == imported(cli, words)


@pytest.mark.parametrize("line", ["tyard ru", "tyard runs show job", "tyard models show dig", "tyard run --s"])
def test_completion_imports_nothing_heavy(cli: Tyard, line: str) -> None:
    cli.environ |= {"_TYARD_COMPLETE": "bash_complete", "COMP_WORDS": line, "COMP_CWORD": str(line.count(" "))}
    assert set() == imported(cli, [])


def imported(cli: Tyard, words: list[str]) -> set[str]:
    program = (
        "import sys; from tensoryard.cli.main import main; sys.argv = ['tyard', *sys.argv[1:]]\n"
        "try: main()\n"
        "finally: print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *words], env=cli.environ, cwd=cli.folder, capture_output=True, text=True
    )
    assert "tensoryard.cli.main" in done.stderr
    return HEAVY & set(done.stderr.split())


def complete(cli: Tyard, line: str) -> list[str]:
    cli.environ |= {"_TYARD_COMPLETE": "bash_complete", "COMP_WORDS": line, "COMP_CWORD": str(line.count(" "))}
    try:
        return [word.partition(",")[2] for word in cli().split()]
    finally:
        del cli.environ["_TYARD_COMPLETE"]


def test_completion_offers_commands_options_runs_and_models(cli: Tyard) -> None:
    run = cli.run("open('outputs/model', 'w').write('weights')")
    cli("models", "register", "digits", "--run", run, "--path", "outputs/model")
    cli("models", "alias", "digits:1", "champion")
    assert complete(cli, "tyard ru") == ["run", "runs"]
    assert complete(cli, "tyard runs cancel --k") == ["--kill"]
    assert complete(cli, "tyard runs show la") == ["latest"]
    assert [run] == complete(cli, "tyard runs show job-")
    assert complete(cli, "tyard models show d") == ["digits"]
    assert complete(cli, "tyard models show digits@") == ["digits@champion"]
    assert complete(cli, "tyard models show digits:") == ["digits:1"]


def test_completion_offers_values_of_options_logs_and_data(cli: Tyard) -> None:
    run = cli.run("print('hello')")
    (cli.folder / "photos" / "train").mkdir(parents=True)
    (cli.folder / "photos" / "train" / "a cat").touch()
    cli("data", "upload", "photos")
    assert [run] == complete(cli, "tyard models register digits --run jo")
    assert complete(cli, "tyard runs logs 1 --task w") == ["worker-0"]
    assert complete(cli, "tyard runs logs --task w") == ["worker-0"]
    assert complete(cli, "tyard data download ph") == ["photos/"]
    assert complete(cli, "tyard data list photos/") == ["photos/train/"]


def test_an_interactive_bash_completes_words_that_it_breaks_itself(cli: Tyard) -> None:
    run = cli.run("open('outputs/model', 'w').write('weights')")
    cli("models", "register", "digits", "--run", run, "--path", "outputs/model")
    cli("models", "alias", "digits:1", "champion")
    (cli.folder / "photos").mkdir()
    (cli.folder / "photos" / "a cat").touch()
    cli("data", "upload", "photos")
    lines = {
        "tyard models show d": "tyard models show digits ",
        "tyard models show digits:": "tyard models show digits:1 ",
        "tyard models show digits@": "tyard models show digits@champion ",
        "tyard models show digits@ch": "tyard models show digits@champion ",
        "tyard models register new --run=job": f"tyard models register new --run={run} ",
        "tyard runs logs --task w": "tyard runs logs --task worker-0 ",
        "tyard data download pho": "tyard data download photos/",
        "tyard data download photos/a": "tyard data download photos/a\\ cat ",
    }
    master, slave = pty.openpty()
    termios.tcsetwinsize(slave, (30, 200))
    bash = subprocess.Popen(
        ["bash", "--norc", "--noprofile", "-i"],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env=cli.environ | {"TERM": "dumb", "INPUTRC": os.devnull, "HISTFILE": os.devnull},
        cwd=cli.folder,
        start_new_session=True,
    )
    os.close(slave)
    python = shlex.quote(sys.executable)
    typed = f'tyard() {{ {python} -m tensoryard "$@"; }}; eval "$(tyard completion bash)"; set -u\n'
    # Tab, then the line as it is now between the words of an echo.
    typed += "".join(f"{line}\t\x01echo '<\x05>'\n" for line in lines) + "exit\n"
    os.write(master, typed.encode())
    shown = b""
    with contextlib.suppress(OSError):  # Linux's word for a terminal that nobody holds any more
        while data := os.read(master, 65536):
            shown += data
    bash.wait()
    os.close(master)
    found = re.findall(r"^<(.*)>\r$", shown.decode(), re.MULTILINE)
    assert dict(zip(lines, found, strict=True)) == lines, shown


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_completion_script_asks_tyard(cli: Tyard, shell: str) -> None:
    assert f"_TYARD_COMPLETE={shell}_complete" in cli("completion", shell)


TEMPLATES = Path(__file__).parents[2] / "templates" / "training"


@pytest.mark.parametrize("path", sorted(TEMPLATES.glob("*/job.yaml")), ids=lambda path: path.parent.name)
def test_the_schema_accepts_every_job_template(path: Path) -> None:
    fastjsonschema.compile(job_schema())(yaml.safe_load(path.read_text(encoding="utf-8")))


@pytest.mark.parametrize(
    "fields",
    [
        {"framework_version": 2.15, "script_params": {"--shuffle": True, "--rate": 1e-3, "--verbose": None}},
        {"environment_variables": {"THREADS": 2}, "tags": {"final": True}},
        {"distributed_training": {"parameter_server": {"worker_count": 2}}},
    ],
)
def test_the_schema_accepts_what_a_job_file_may_hold(fields: dict[str, object]) -> None:
    fastjsonschema.compile(job_schema())({"entry_script": "train.py", **fields})


@pytest.mark.parametrize("fields", [{}, {"entry_script": "a", "nodes": 2}, {"entry_script": "a", "node_count": 0}])
def test_the_schema_refuses_what_a_job_file_may_not_hold(fields: dict[str, object]) -> None:
    with pytest.raises(fastjsonschema.JsonSchemaException):
        fastjsonschema.compile(job_schema())(fields)


def test_every_field_of_the_schema_is_described(cli: Tyard) -> None:
    printed = json.loads(cli("schema"))
    assert json.loads(msgspec.json.encode(job_schema())) == printed
    for name, definition in printed["$defs"].items():
        assert definition["title"], name
        assert "\n" not in definition["description"], name
    assert all(field["description"] for field in printed["$defs"]["Job"]["properties"].values())


def test_doctor_names_a_fix_for_all_that_is_missing(cli: Tyard) -> None:
    cli.job("")
    findings = {one["name"]: one for one in json.loads(cli("doctor", "--json"))}
    assert [one for one in findings.values() if not one["ok"] and not one["fix"]] == []
    assert findings["environments"]["found"] == "1 built"
    assert str(cli.workspace) == findings["workspace"]["found"]
    assert {"python", "uv", "bash", "cache", "gpu", "mpirun", "cmake", "g++"} <= set(findings)


def test_doctor_fails_when_something_is_missing_that_every_job_needs(cli: Tyard, tmp_path: Path) -> None:
    only_python = tmp_path / "bin"
    only_python.mkdir()
    (only_python / "python3").symlink_to(sys.executable)
    cli.environ["PATH"] = str(only_python)
    out, _ = cli.both("doctor", code=1)
    line = next(line for line in out.splitlines() if " bash " in line)
    assert line.startswith("missing")
    assert "launch scripts" in line


def test_doctor_names_a_run_that_nobody_drives(cli: Tyard) -> None:
    cli.job("")
    (cli.workspace / "queue" / "local").mkdir(parents=True)
    (cli.workspace / "queue" / "local" / "job-0007").touch()
    findings = {one["name"]: one for one in json.loads(cli("doctor", "--json"))}
    assert not findings["controller"]["ok"]
    assert findings["controller"]["fix"] == "tyard runs stream job-0007"


def test_a_full_disk_behind_the_output_is_one_line_and_no_stack_trace() -> None:
    with Path("/dev/full").open("wb") as full:
        ended = subprocess.run(
            [Path(sys.executable).with_name("tyard"), "schema"], stdout=full, stderr=subprocess.PIPE
        )

    assert ended.returncode == 1
    said = ended.stderr.decode()
    assert said.startswith("error: no space left on device")
    assert "Traceback" not in said
