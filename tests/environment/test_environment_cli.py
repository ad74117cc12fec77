"""`tyard env` as a user meets it."""

import json
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from tensoryard.cli.env import env
from tensoryard.environment.spec import Recipe
from tensoryard.environment.venv import VenvBuilder
from tensoryard.errors import JobError, UsageError

OWN = f"{sys.version_info.major}.{sys.version_info.minor}"


@pytest.fixture
def builder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> VenvBuilder:
    monkeypatch.setenv("TYARD_CACHE", str(tmp_path / "cache"))
    return VenvBuilder()


def tyard_env(*arguments: str) -> tuple[str, str]:
    """Standard output and standard error of a command; what it raises is raised."""
    done = CliRunner().invoke(env, arguments, catch_exceptions=False, standalone_mode=False)
    return done.stdout, done.stderr


def test_an_empty_cache_is_an_empty_list(builder: VenvBuilder) -> None:
    assert tyard_env("list") == ("", "No environments yet\n")
    assert tyard_env("list", "--json") == ("[]\n", "")
    assert tyard_env("prune") == ("", "Would remove 0 environments; `--yes` removes them\n")


def test_an_environment_is_listed_shown_and_pruned(builder: VenvBuilder) -> None:
    built = builder.ensure_recipe(Recipe(name="six", python=OWN, requirements=("six==1.16.0",)), lambda line: None)

    assert [one["hash"] for one in json.loads(tyard_env("list", "--json")[0])] == [built.hash]
    assert built.hash in tyard_env("list")[0]
    assert json.loads(tyard_env("show", "six", "--json")[0])["python"] == built.python
    assert "six      1.16.0" in tyard_env("show", built.hash[:5])[0]
    assert tyard_env("show", "six", "--lock")[0] == builder.lock(built)
    assert tyard_env("prune", "--all")[1] == "Would remove 1 environment; `--yes` removes them\n"
    assert builder.list() == [built]
    assert [one["hash"] for one in json.loads(tyard_env("prune", "--all", "--yes", "--json")[0])] == [built.hash]
    assert builder.list() == []


def test_build_prints_the_interpreter_of_an_environment_that_is_there() -> None:
    """Against the cache of this machine, where the curated environments are."""
    python, talk = tyard_env("build", "--tensorflow", "2.21", "--quiet")

    assert Path(python.strip()).exists()
    assert talk == ""


def test_build_finds_what_a_job_file_asks_for(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("")
    (tmp_path / "job.yaml").write_text("experiment: digits\nentry_script: train.py\n")

    assert tyard_env("build", str(tmp_path / "job.yaml"), "--quiet") == tyard_env("build", "--quiet")


def test_build_refuses_a_job_file_with_options_and_what_cannot_work(builder: VenvBuilder) -> None:
    with pytest.raises(UsageError, match="either a job file or options"):
        tyard_env("build", "job.yaml", "--horovod")
    with pytest.raises(JobError, match=r"framework_version: got 2\.21, but Horovod"):
        tyard_env("build", "--tensorflow", "2.21", "--horovod")
    assert not builder.cache.exists()


def test_each_command_has_examples_above_its_options() -> None:
    for name, command in env.commands.items():
        text = command.get_help(command.make_context(name, ["x"] if name == "show" else [], resilient_parsing=True))

        assert text.index("Examples:") < text.index("Options:")
