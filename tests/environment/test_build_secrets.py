"""What a build is told of this machine's package indexes: uv reads there what it reads here."""

import os
import subprocess
import tomllib
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from services.package_index import PackageIndex
from tensoryard.environment import command
from tensoryard.environment.build_secrets import secrets
from tensoryard.errors import EnvironmentBuildError

PASSWORD = 'p"ass word'
NAMES = ("of-default", "of-index", "of-extra", "of-another", "of-settings")
VARIABLES = ("UV_DEFAULT_INDEX", "UV_INDEX", "UV_INDEX_URL", "UV_EXTRA_INDEX_URL", "UV_INDEX_STRATEGY")


@pytest.fixture
def indexes() -> Iterator[dict[str, PackageIndex]]:
    """One index for each package; one of them asks who is there."""
    logins = {"of-index": f"reader:{PASSWORD}"}
    with ExitStack() as stack:
        yield {
            name: stack.enter_context(closing(PackageIndex({name: "1.0"}, login=logins.get(name, ""))))
            for name in NAMES
        }


@pytest.fixture(autouse=True)
def _bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*VARIABLES, "UV_CONFIG_FILE", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "made").mkdir()
    (tmp_path / ".config" / "uv").mkdir(parents=True)


def found(settings: Path, *names: str) -> set[str]:
    """The packages that uv finds as a step of a build asks it: by a file of settings, and no variable."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("UV_")}
    argv = command.uv("pip", "compile", "--no-header", "--no-annotate", "--no-cache", "--python-version=3.11", "-")
    done = subprocess.run(
        argv,
        input="\n".join(names),
        env=environ | {"UV_CONFIG_FILE": str(settings)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def test_a_build_finds_what_the_variables_and_the_user_s_settings_name(
    indexes: dict[str, PackageIndex], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = {name: f"http://{index.host}/simple" for name, index in indexes.items()}
    monkeypatch.setenv("UV_DEFAULT_INDEX", f"ours={at['of-default']}")
    monkeypatch.setenv("UV_INDEX", f"with-login={at['of-index']}")
    monkeypatch.setenv("UV_INDEX_WITH_LOGIN_USERNAME", "reader")
    monkeypatch.setenv("UV_INDEX_WITH_LOGIN_PASSWORD", PASSWORD)
    monkeypatch.setenv("UV_EXTRA_INDEX_URL", f"{at['of-extra']} {at['of-another']}")
    (tmp_path / ".config" / "uv" / "uv.toml").write_text(
        f'native-tls = true\n[[index]]\nurl = "{at["of-settings"]}"\n[pip]\nindex-url = "http://127.0.0.1:9/simple"\n'
    )
    made = secrets(tmp_path / "made")["index"]
    assert made.stat().st_mode & 0o777 == 0o600
    assert tomllib.loads(made.read_text())["native-tls"]
    assert found(made, *NAMES) == {f"{name}==1.0" for name in NAMES}


@pytest.mark.parametrize("variable", ["UV_INDEX_URL", "UV_DEFAULT_INDEX"])
def test_an_index_for_all_packages_takes_the_place_of_the_settings_one(
    variable: str, indexes: dict[str, PackageIndex], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = tmp_path / "own.toml"
    settings.write_text('index-url = "http://127.0.0.1:9/simple"\n')
    monkeypatch.setenv("UV_CONFIG_FILE", str(settings))
    monkeypatch.setenv(variable, indexes["of-default"].url)
    assert found(secrets(tmp_path / "made")["index"], "of-default") == {"of-default==1.0"}


def test_settings_without_variables_are_taken_as_they_are(tmp_path: Path) -> None:
    assert "index" not in secrets(tmp_path / "made")
    own = tmp_path / ".config" / "uv" / "uv.toml"
    own.write_text("# mine\n")
    assert secrets(tmp_path / "made")["index"] == own


def test_settings_that_cannot_be_read_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = tmp_path / ".config" / "uv" / "uv.toml"
    own.write_text("index-url = nothing\n")
    monkeypatch.setenv("UV_INDEX_URL", "http://127.0.0.1:9/simple")
    with pytest.raises(EnvironmentBuildError, match=rf"{own}: uv's settings cannot be read"):
        secrets(tmp_path / "made")
