"""The documents hold: links lead somewhere, commands and options exist, examples load and run."""

import re
import shlex
from pathlib import Path

import click
import pytest

from tensoryard.cli.main import COMMANDS, tyard
from tensoryard.job_file import load_job

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
_LINK = re.compile(r"\[[^]]+\]\(([^)#\s]+)(#[^)]*)?\)")
_COMMAND = re.compile(r"^(?: {4}|\$ )(tyard [^\n]+?)(?: {2,}.*)?$", re.MULTILINE)
_INLINE = re.compile(r"`(tyard [^`]+)`")


def _page(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=_page)
def test_links_lead_to_files_that_are_there(page: Path) -> None:
    targets = [target for target, _ in _LINK.findall(page.read_text()) if "://" not in target]

    assert [target for target in targets if not (page.parent / target).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=_page)
def test_every_command_shown_parses(page: Path) -> None:
    text = page.read_text()
    for line in [*_COMMAND.findall(text), *_INLINE.findall(text)]:
        words = shlex.split(line.split(" | ")[0].split(" > ")[0])[1:]
        _check(tyard, words, line)


def _check(command: click.Command, words: list[str], line: str) -> None:
    context = click.Context(command)
    if isinstance(command, click.Group) and words and not words[0].startswith("-") and words[0] != "...":
        below = command.get_command(context, words[0])
        assert below is not None, f"{line}: there is no such command"
        _check(below, words[1:], line)
        return
    known = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    for word in words:
        name = word.partition("=")[0]
        assert not name.startswith("--") or name in {*known, "--help", "--version"}, f"{line}: no option {name}"


def test_every_command_is_in_the_readme_or_its_pages() -> None:
    text = "\n".join(page.read_text() for page in PAGES)

    assert [name for name in COMMANDS if f"tyard {name}" not in text] == []


def test_the_readmes_job_is_what_init_writes_without_its_comments(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    readme = (ROOT / "README.md").read_text()
    block = re.search(r"```yaml\n(.*?)```", readme, re.DOTALL)
    command = re.search(r"^    tyard (init mine \S+ \S+ \S+ \S+)", readme, re.MULTILINE)
    assert block is not None
    assert command is not None
    monkeypatch.chdir(tmp_path)

    tyard(shlex.split(command[1]), standalone_mode=False)

    lines = [re.sub(r" *(?<!\S)#.*", "", line) for line in Path("mine/job.yaml").read_text().splitlines()]
    assert block[1].splitlines() == [line for line in lines if line]
    assert load_job(Path("mine/job.yaml")).way == "mpi"


def test_the_readmes_python_names_are_public() -> None:
    import tensoryard

    block = re.search(r"^from tensoryard import (.+)$", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert block is not None
    for name in block[1].split(", "):
        assert hasattr(tensoryard, name), name


def test_the_jobs_page_has_every_field() -> None:
    import msgspec

    from tensoryard.job import Job

    text = (ROOT / "docs/jobs.md").read_text()

    assert [field.name for field in msgspec.structs.fields(Job) if f"`{field.name}`" not in text] == []
