"""docs/json.md promises exactly the fields that programs get."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cli_runner import Tyard

pytestmark = pytest.mark.xdist_group("docs_json")  # one worker makes the history, which the tests only read
PAGE = (Path(__file__).parents[2] / "docs" / "json.md").read_text(encoding="utf-8")
SECTIONS = {title: text for title, _, text in (part.partition("\n") for part in PAGE.split("\n## ")[1:])}


def section(command: str) -> str:
    return next(text for title, text in SECTIONS.items() if f"`{command}`" in title)


def names(value: Any, inside: tuple[str, ...] = ("stages", "tasks", "files", "problems")) -> set[str]:
    """Field names of a value and of the arrays that the page describes."""
    if isinstance(value, list):
        return set().union(*(names(item, inside) for item in value))
    if isinstance(value, dict):
        return set(value).union(*(names(value[name], inside) for name in inside if isinstance(value.get(name), list)))
    return set()


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tyard]:
    """A workspace with a run, a model with an alias, and data."""
    cli = Tyard(tmp_path_factory.mktemp("history"))
    run = cli.run("from tensoryard import Run; Run.get_context().log('a', 1); open('outputs/m', 'w').write('1')")
    cli("models", "register", "digits", "--run", run, "--path", "outputs/m")
    cli("models", "alias", "digits", "champion")
    (cli.folder / "images").mkdir()
    (cli.folder / "images" / "cat").touch()
    cli("data", "upload", "images")
    yield cli
    cli.close()


@pytest.mark.parametrize(
    "command",
    [
        "runs list",
        "runs show",
        "runs files",
        "models list",
        "models show digits",
        "models verify digits",
        "models history digits",
        "data list",
        "env list",
        "env prune --unused-days 0",
        "doctor",
        "doctor --registry",
        "workspace show",
    ],
)
def test_every_field_printed_is_promised(history: Tyard, command: str) -> None:
    found = names(json.loads(history(*command.split(), "--json")))
    words = [word for word in command.split() if word not in ("digits", "--unused-days", "0")]
    text = section(f"tyard {' '.join(words)} --json")
    if command == "runs show":
        text += section("tyard runs list --json")
    assert found
    assert sorted(found - set(re.findall(r"`(\w+)`", text))) == []


def test_every_field_of_an_event_is_promised(history: Tyard) -> None:
    text = section("tyard run --json")
    lines = [json.loads(line) for line in history("runs", "stream", "--json").splitlines()]
    assert [line["event"] for line in lines[:4]] == ["submitted", "stage", "environment", "prepared"]
    promised = set(re.findall(r"`([\w-]+)`", text))
    for line in lines:
        found = {line["event"], *line, *line.get("data", {})}
        assert sorted(found - promised) == [], line


def test_every_command_with_json_is_on_the_page() -> None:
    import click

    from tensoryard.cli.main import tyard

    def commands(command: click.Command, path: str) -> list[str]:
        if isinstance(command, click.Group):
            context = click.Context(command)
            found = [(name, command.get_command(context, name)) for name in command.list_commands(context)]
            return [path_ for name, inner in found if inner for path_ in commands(inner, f"{path} {name}")]
        return [path] if any("--json" in param.opts for param in command.params) else []

    missing = [
        path for path in commands(tyard, "tyard") if not any(f"`{path} --json`" in title for title in SECTIONS)
    ]
    assert missing == []
