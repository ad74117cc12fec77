"""`tyard models` as people and programs use it."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import click
import pytest
from click.shell_completion import ShellComplete
from click.testing import CliRunner, Result

from tensoryard.cli.models import models
from tensoryard.errors import NotFoundError, TensoryardError, UsageError, VerificationError
from tensoryard.registry import Registry
from tensoryard.store.file import FileStore

Run = Callable[..., Result]


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TYARD_WORKSPACE", str(tmp_path / "workspace"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "exported" / "variables").mkdir(parents=True)
    (tmp_path / "exported" / "saved_model.pb").write_bytes(b"graph")
    (tmp_path / "exported" / "variables" / "index").write_bytes(b"index")
    return tmp_path / "workspace"


@pytest.fixture
def run(workspace: Path) -> Run:
    """Runs `tyard models`; the library's errors come out as they are, for main.py to turn into words."""

    def call(*arguments: str, error: type[TensoryardError] | None = None) -> Result:
        result = CliRunner().invoke(models, arguments)
        if error is None:
            assert result.exit_code == 0, result.output
        else:
            assert isinstance(result.exception, error)
        return result

    return call


def test_register_prints_the_reference_and_says_what_to_do_next(run: Run) -> None:
    result = run("register", "digits", "--folder", "exported", "--tag", "framework=keras", "--tag", "note=a=b")

    assert result.stdout == "digits:1\n"
    assert "Registered `digits:1` from `exported`: 2 files, 10 B\n" in result.stderr
    assert "tyard models alias digits:1 champion" in result.stderr
    assert json.loads(run("show", "digits", "--json").stdout)["tags"] == {"framework": "keras", "note": "a=b"}


def test_list_prints_newest_first_and_says_that_there_are_more(run: Run) -> None:
    for _ in range(3):
        run("register", "digits", "--folder", "exported")
    run("alias", "digits:2", "champion")
    result = run("list", "digits", "--limit", "2", "--json")
    listed = json.loads(result.stdout)

    assert [(one["name"], one["version"], one["aliases"]) for one in listed] == [
        ("digits", 3, []),
        ("digits", 2, ["champion"]),
    ]
    assert set(listed[0]) == {"name", "version", "created_at", "run_id", "size_bytes", "aliases", "tags", "metrics"}
    assert result.stderr == "There are older versions: tyard models list digits --before 2\n"
    assert [one["version"] for one in json.loads(run("list", "digits", "--before", "2", "--json").stdout)] == [1]
    assert run("list", "digits").stderr == ""


def test_list_without_a_name_shows_the_newest_of_every_model(run: Run) -> None:
    assert (run("list").stdout, run("list").stderr) == ("", "No models yet\n")
    assert run("list", "--json").stdout == "[]\n"
    for name in ("letters", "digits", "digits"):
        run("register", name, "--folder", "exported")

    lines = run("list").stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["MODEL", "digits:2", "letters:1"]
    every = json.loads(run("list", "--where", "version>=1", "--json").stdout)
    assert [(one["name"], one["version"]) for one in every] == [("digits", 2), ("digits", 1), ("letters", 1)]


def test_the_list_of_models_goes_on_where_a_page_ended(run: Run) -> None:
    for name in ("a", "b", "c"):
        run("register", name, "--folder", "exported")
    run("delete", "b:1")
    result = run("list", "--limit", "1")

    assert result.stderr == "There are more models: tyard models list --after a\n"
    assert [line.split()[0] for line in run("list", "--after", "a").stdout.splitlines()] == ["MODEL", "c:1"]
    run("list", "--before", "2", error=UsageError)
    run("list", "a", "--after", "b", error=UsageError)


def test_versions_are_found_by_conditions(run: Run) -> None:
    for stage in ("one", "two", "two"):
        run("register", "digits", "--folder", "exported", "--tag", f"stage={stage}")
    found = json.loads(run("list", "--where", "stage=two and version<3", "--json").stdout)

    assert [one["version"] for one in found] == [2]
    result = run("list", "digits", "--where", "stage=two", "--limit", "1")
    assert (result.stdout.splitlines()[1].split()[0], result.stderr) == (
        "digits:3",
        "There are older versions: tyard models list digits --before 3 with the same conditions\n",
    )
    assert (
        run("list", "digits", "--where", "stage=two", "--before", "3").stdout.splitlines()[1].startswith("digits:2")
    )
    assert run("list", "--where", "stage=three").stderr == "No versions\n"
    run("list", "--where", "stage", error=UsageError)


def test_a_clean_up_tells_first_and_then_does(run: Run, workspace: Path) -> None:
    assert run("gc").stderr == "Nothing to remove\n"
    for _ in range(2):
        run("register", "digits", "--folder", "exported")
        Path("exported/new").write_bytes(b"more")
    run("delete", "digits:2", "--reason", "bad")
    for path in (workspace / "objects").rglob("?" * 64):
        os.utime(path, (1, 1))

    would = run("gc", "--deleted-before", "0")
    assert would.stdout.splitlines()[1].split()[0] == "digits:2"
    assert would.stdout.splitlines()[1].endswith("bad")
    assert would.stderr == "Would purge 1 deleted version and remove 1 file, 4 B; `--yes` does it\n"
    assert run("gc").stderr == "Nothing to remove\n"
    done = json.loads(run("gc", "--deleted-before", "0", "--yes", "--json").stdout)
    assert (done["contents"], done["size_bytes"], done["dry_run"], done["versions"][0]["version"]) == (1, 4, False, 2)
    run("restore", "digits:2", error=NotFoundError)
    assert run("delete", "digits:2").stderr == "`digits:2` was deleted before, and `tyard models gc` gave it up\n"
    run("verify", "digits:1")


def test_reindex_says_how_many_were_right_and_mended(run: Run, workspace: Path) -> None:
    for _ in range(2):
        run("register", "digits", "--folder", "exported")
    (workspace / ".tags/models/digits/versions/00000001.json").unlink()

    assert run("reindex").stderr == "Looked at 2 versions: 1 right, 1 mended\n"
    assert json.loads(run("reindex", "digits", "--json").stdout) == {"right": 2, "mended": 0, "unreadable": 0}


def test_the_table_lines_up(run: Run) -> None:
    run("register", "digits", "--folder", "exported", "--tag", "k=v")
    header, row = run("list", "digits").stdout.splitlines()

    assert header.split() == ["MODEL", "CREATED", "RUN", "SIZE", "ALIASES", "METRICS", "TAGS"]
    assert row.startswith("digits:1  ")
    assert header.index("TAGS") == row.index("k=v")


def test_show_tells_of_the_files(run: Run) -> None:
    run("register", "digits", "--folder", "exported")
    text = run("show", "digits:1").stdout

    assert "2 files, 10 B" in text
    assert "variables/index  5 B" in text


def test_download_prints_the_folder(run: Run, tmp_path: Path) -> None:
    run("register", "digits", "--folder", "exported")
    result = run("download", "digits")

    assert result.stdout == "digits-1\n"
    assert (tmp_path / "digits-1/variables/index").read_bytes() == b"index"
    assert run("download", "digits:1", "else/where").stdout == "else/where\n"
    (tmp_path / "digits-1/extra").write_bytes(b"")
    run("download", "digits", error=UsageError)


def test_verify_fails_where_bytes_differ_and_prints_which(run: Run, workspace: Path) -> None:
    run("register", "digits", "--folder", "exported")
    assert run("verify", "digits").stderr == "Verified `digits:1`: 2 files, 10 B, all as registered\n"
    store = FileStore(workspace)
    version = Registry(store).get("digits")
    store.put(version.files[0].key, b"GRAPH", overwrite=True)

    assert run("verify", "digits", error=VerificationError).stdout.startswith("saved_model.pb: changed: has sha256 ")
    result = run("verify", "digits", "--json", error=VerificationError)
    assert [problem["path"] for problem in json.loads(result.stdout)["problems"]] == ["saved_model.pb"]


def test_aliases_deletions_and_their_history(run: Run) -> None:
    for _ in range(2):
        run("register", "digits", "--folder", "exported")
    assert run("alias", "digits:1", "champion").stderr == "`digits@champion` names version 1\n"
    assert run("alias", "digits", "champion").stderr == "`digits@champion` names version 2, before it was version 1\n"
    run("delete", "digits:2", error=UsageError)
    assert (
        run("alias", "digits", "champion", "--remove").stderr == "Removed `digits@champion`, which named version 2\n"
    )
    run("delete", "digits:2", "--reason", "wrong split")
    run("show", "digits:2", error=NotFoundError)
    assert run("restore", "digits:2").stderr == "Restored `digits:2`\n"
    assert run("restore", "digits:1").stderr == "`digits:1` was not deleted\n"

    told = json.loads(run("history", "digits", "--json").stdout)
    assert [(event["kind"], event["version"]) for event in told] == [
        ("registered", 1),
        ("registered", 2),
        ("aliased", 1),
        ("aliased", 2),
        ("aliased", None),
        ("deleted", 2),
        ("restored", 2),
    ]
    assert "wrong split" in run("history", "digits").stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ("register", "digits"),
        ("register", "digits", "--run", "a-0001", "--folder", "exported"),
        ("register", "digits", "--folder", "exported", "--tag", "novalue"),
        ("register", "bad name", "--folder", "exported"),
        ("show", "digits:x"),
        ("delete", "digits"),
        ("delete", "digits@champion"),
        ("alias", "digits", "v3"),
    ],
)
def test_wrong_use_is_said_in_words(run: Run, arguments: tuple[str, ...]) -> None:
    run("register", "digits", "--folder", "exported")

    run(*arguments, error=UsageError)


def test_names_and_aliases_are_completed(run: Run) -> None:
    run("register", "digits", "--folder", "exported")
    run("register", "letters", "--folder", "exported")
    run("alias", "digits:1", "champion")
    shell = ShellComplete(models, {}, "tyard", "_TYARD_COMPLETE")

    assert [item.value for item in shell.get_completions(["list"], "d")] == ["digits"]
    assert [item.value for item in shell.get_completions(["show"], "")] == ["digits", "letters"]
    assert [item.value for item in shell.get_completions(["show"], "digits@")] == ["digits@champion"]
    assert shell.get_completions(["show"], "a b@") == []


@pytest.mark.parametrize("name", sorted(models.commands))
def test_every_command_has_two_examples_above_its_options(name: str) -> None:
    command = models.commands[name]
    text = command.get_help(click.Context(command, info_name=name))

    assert text.count(f"tyard models {name} ") + text.count("\n  tyard models list\n") >= 1
    assert text[: text.index("Options:")].count("\n    tyard models ") >= 2
    assert all(param.help for param in command.params if isinstance(param, click.Option))
