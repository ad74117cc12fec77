"""Damaged records of environments, and a cache that cannot be written: said, and in nobody's way."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from launching import as_root
from tensoryard.cli.env import env
from tensoryard.environment.spec import Recipe
from tensoryard.environment.venv import VenvBuilder
from tensoryard.errors import EnvironmentBuildError

OWN = f"{sys.version_info.major}.{sys.version_info.minor}"
SIX = Recipe(name="six", python=OWN, requirements=("six==1.16.0",))
OTHER = Recipe(name="iniconfig", python=OWN, requirements=("iniconfig==2.0.0",))


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> VenvBuilder:
    """Has SIX, which each test leaves whole."""
    builder = VenvBuilder(tmp_path_factory.mktemp("shared"))
    builder.ensure_recipe(SIX, lambda line: None)
    return builder


def tyard_env(*arguments: str) -> tuple[str, str]:
    done = CliRunner().invoke(env, arguments, catch_exceptions=False, standalone_mode=False)
    return done.stdout, done.stderr


def test_a_damaged_environment_is_named_and_hides_no_other(
    shared: VenvBuilder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TYARD_CACHE", str(shared.cache))
    (whole,) = shared.list()
    record = shared.cache / "environments" / "0123456789abcdef" / "environment.json"
    record.parent.mkdir()
    record.write_bytes(b'{"hash": "0123')

    listed, warned = tyard_env("list")
    other = shared.ensure_recipe(OTHER, lambda line: None)

    assert whole.hash in listed
    assert warned.startswith(f"warning: `{record}` cannot be read: ")
    assert [other, whole] == shared.list()
    assert json.loads(tyard_env("show", "six", "--json")[0])["hash"] == whole.hash

    os.utime(record.parent, (0, 0))
    assert "Removed 1 environment\n" in tyard_env("prune", "--yes")[1]
    assert [other, whole] == shared.list()
    assert not record.parent.exists()


@pytest.mark.parametrize("damage", [b"{", bytes(64)], ids=["half", "zeros"])
@pytest.mark.parametrize("name", ["environment.json", "lock.json", "environment"])
def test_what_is_damaged_is_made_again(shared: VenvBuilder, name: str, damage: bytes) -> None:
    built = shared.ensure_recipe(SIX, lambda line: None)
    pointer = next(path for path in shared.cache.glob("locks/*/environment") if path.read_text() == built.hash)
    damaged = {
        "environment.json": Path(built.python).parents[2] / "environment.json",
        "lock.json": pointer.with_name("lock.json"),
        "environment": pointer,
    }[name]
    damaged.write_bytes(damage)
    if name == "lock.json":
        pointer.unlink()
    said: list[str] = []

    again = shared.ensure_recipe(SIX, said.append)

    assert built.hash == again.hash
    assert again == shared.find_recipe(SIX)
    subprocess.run([again.python, "-c", "import six"], check=True)
    assert damaged == pointer or said[0].startswith(f"`{damaged}` cannot be read: ")


def test_a_cache_that_cannot_be_written_is_used_for_what_it_has_and_said_for_the_rest(
    small_disk: Callable[[int], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = small_disk(512 << 20)
    monkeypatch.setenv("TYARD_CACHE", str(disk))
    builder = VenvBuilder()
    built = builder.ensure_recipe(SIX, lambda line: None)
    as_root(f"mount -o remount,ro {disk}")

    assert built == builder.ensure_recipe(SIX, lambda line: None)
    assert built.hash in tyard_env("list")[0]
    for refused_there in (
        lambda: tyard_env("build", "--pip", "six"),
        lambda: tyard_env("prune", "--all", "--yes"),
        lambda: builder.update(SIX, lambda line: None),
    ):
        with pytest.raises(EnvironmentBuildError) as refused:
            refused_there()
        assert str(refused.value) == (
            f"`{disk}`: environments cannot be kept there: read-only file system\n\n"
            "hint: set TYARD_CACHE to a folder that you may write to"
        )
