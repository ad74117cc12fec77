"""conda packages from a channel on this disk: solved with Python, installed, and pip packages on top."""

import asyncio
import builtins
import io
import json
import os
import shutil
import socket
import subprocess
import sys
import sysconfig
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import rattler
from rattler.index import index_fs

from tensoryard.environment import Environment, conda, interruption
from tensoryard.environment.spec import Recipe, environment_spec, recipe
from tensoryard.environment.venv import VenvBuilder
from tensoryard.errors import EnvironmentBuildError

pytestmark = pytest.mark.xdist_group("conda")  # one worker makes the channel
OWN = f"{sys.version_info.major}.{sys.version_info.minor}"
PREFIX = "/placehold_" + "x" * 200  # what conda replaces with the folder that a package is installed to


def put_package(
    channel: Path, subdir: str, name: str, version: str, files: dict[str, Path | bytes], **index: object
) -> None:
    """Write a package (.tar.bz2) into a channel; a file given as bytes has the prefix replaced when it holds it."""
    entry = {"name": name, "version": version, "build": "0", "build_number": 0, "depends": [], "subdir": subdir}
    paths = []
    for path, content in sorted(files.items()):
        listed: dict[str, object] = {"_path": path, "path_type": "hardlink"}
        if isinstance(content, bytes) and PREFIX.encode() in content:
            listed |= {"prefix_placeholder": PREFIX, "file_mode": "text"}
        if isinstance(content, Path) and content.is_symlink():
            listed["path_type"] = "softlink"
        paths.append(listed)
    about: dict[str, Path | bytes] = {
        "info/index.json": json.dumps(entry | index).encode(),
        "info/paths.json": json.dumps({"paths": paths, "paths_version": 1}).encode(),
        "info/files": "\n".join(sorted(files)).encode(),
    }
    target = channel / subdir / f"{name}-{version}-0.tar.bz2"
    target.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(target, "w:bz2", compresslevel=1) as archive:
        for path, content in (about | files).items():
            if isinstance(content, Path):
                archive.add(content, path, recursive=False)
            else:
                member = tarfile.TarInfo(path)
                member.size, member.mode = len(content), 0o755
                archive.addfile(member, io.BytesIO(content))


def python_files(scratch: Path) -> dict[str, Path | bytes]:
    """This Python itself, without what a test does not need, laid out as a conda package."""
    base = Path(os.path.realpath(sys.executable))
    stdlib = Path(sysconfig.get_path("stdlib"))
    unwanted = {"test", "tests", "idlelib", "lib2to3", "tkinter", "turtledemo", "ensurepip", "__pycache__"}
    files: dict[str, Path | bytes] = {f"bin/python{OWN}": base}
    for link in ("python", "python3"):
        (scratch / link).symlink_to(f"python{OWN}")
        files[f"bin/{link}"] = scratch / link
    for path in stdlib.rglob("*"):
        inner = path.relative_to(stdlib)
        skipped = unwanted.intersection(inner.parts) or inner.parts[0] in ("site-packages", "dist-packages")
        if path.is_file() and not skipped and path.suffix != ".a":
            files[f"lib/python{OWN}/{inner}"] = path.resolve()
    library = Path(sysconfig.get_config_var("LIBDIR"), str(sysconfig.get_config_var("INSTSONAME")))
    if library.suffix != ".a" and library.exists():
        files[f"lib/{library.name}"] = library
    return files


@pytest.fixture(scope="module")
def channel(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A channel with Python, a native command and a pure module; its address."""
    folder = tmp_path_factory.mktemp("channel")
    native = str(rattler.Subdir.current())
    scratch = tmp_path_factory.mktemp("scratch")
    version = ".".join(map(str, sys.version_info[:3]))
    put_package(folder, native, "python", version, python_files(scratch))
    true = shutil.which("true")
    assert true is not None
    put_package(
        folder,
        native,
        "tyard-tool",
        "1.2",
        {"bin/tyard-true": Path(true).resolve(), "share/tyard-tool/prefix": f"{PREFIX}\n".encode()},
    )
    put_package(
        folder,
        "noarch",
        "tyard-module",
        "0.3",
        {"site-packages/tyard_module.py": b"VALUE = 'from conda'\n"},
        noarch="python",
        depends=["python >=3"],
    )
    asyncio.run(index_fs(folder))
    return folder.as_uri()


@pytest.fixture
def wanted(channel: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Recipe:
    monkeypatch.setenv("RATTLER_CACHE_DIR", str(tmp_path / "rattler"))
    return Recipe(
        name="conda",
        python=OWN,
        requirements=("six==1.16.0",),
        conda_packages=("tyard-module=0.3", "tyard-tool"),
        conda_channels=(channel,),
    )


def run(environment: Environment, code: str) -> str:
    return subprocess.run(
        [environment.python, "-c", code], capture_output=True, text=True, check=True, env={"PATH": os.environ["PATH"]}
    ).stdout.strip()


def test_conda_and_pip_packages_meet_in_one_prefix(wanted: Recipe, tmp_path: Path) -> None:
    builder = VenvBuilder(tmp_path / "cache")

    built = builder.ensure_recipe(wanted, print)
    prefix = Path(built.python).parents[1]

    assert run(built, "import tyard_module, six; print(tyard_module.VALUE, six.__version__)") == "from conda 1.16.0"
    assert run(built, "import sys; print(sys.prefix)") == str(prefix)
    assert (prefix / "share" / "tyard-tool" / "prefix").read_text() == f"{prefix}\n"
    assert subprocess.run([prefix / "bin" / "tyard-true"], check=False).returncode == 0
    assert {("six", "1.16.0"), ("tyard-tool", "1.2")} <= {
        (package.name, package.version) for package in built.packages
    }
    assert built == builder.find_recipe(wanted)
    assert [path.name for path in (tmp_path / "cache" / "environments").iterdir()] == [built.hash]


def test_a_stored_solve_is_installed_again_without_the_channels_index(wanted: Recipe, tmp_path: Path) -> None:
    builder = VenvBuilder(tmp_path / "cache")
    built = builder.ensure_recipe(wanted, print)
    builder.prune(unused_days=None, dry_run=False)
    lines: list[str] = []

    again = builder.ensure_recipe(wanted, lines.append)

    assert (built.hash, built.packages) == (again.hash, again.packages)
    assert [line for line in lines if line.startswith(("solving", "locking"))] == []


def test_a_package_in_no_channel_is_named_with_the_channels(wanted: Recipe, tmp_path: Path, channel: str) -> None:
    with pytest.raises(EnvironmentBuildError) as refused:
        VenvBuilder(tmp_path / "cache").ensure_recipe(
            msgspec.structs.replace(wanted, conda_packages=("tyard-absent",)), print
        )

    assert f"conda_packages: tyard-absent with Python {OWN}: not in the channels {channel}" in refused.value.message


def test_a_channel_that_does_not_answer_is_named_with_the_packages(wanted: Recipe, tmp_path: Path) -> None:
    absent = (tmp_path / "absent").as_uri()

    with pytest.raises(EnvironmentBuildError) as refused:
        VenvBuilder(tmp_path / "cache").ensure_recipe(
            msgspec.structs.replace(wanted, conda_channels=(absent,)), print
        )

    assert (
        f"conda_packages: tyard-module=0.3, tyard-tool: no answer from the channels {absent}" in refused.value.message
    )


@pytest.fixture
def silent_channel() -> Iterator[str]:
    """The address of a channel that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}/channel"


def test_a_channel_that_never_answers_is_given_up(
    wanted: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, silent_channel: str
) -> None:
    monkeypatch.setattr(conda, "SILENCE_SECONDS", 0.1)

    with pytest.raises(EnvironmentBuildError, match=f"no answer from the channels {silent_channel}: nothing came"):
        VenvBuilder(tmp_path / "cache").ensure_recipe(
            msgspec.structs.replace(wanted, conda_channels=(*wanted.conda_channels, silent_channel)), print
        )


@pytest.mark.parametrize("looks", ["for answers", "at the solve"])
def test_waiting_for_a_channel_can_be_interrupted(
    wanted: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, silent_channel: str, looks: str
) -> None:
    if looks == "at the solve":
        monkeypatch.setattr(conda, "_silent", lambda *_: [])
    calls: list[None] = []

    def canceled() -> None:
        calls.append(None)
        if len(calls) > 1:
            raise InterruptedError

    with pytest.raises(InterruptedError), interruption.checked_by(canceled):
        VenvBuilder(tmp_path / "cache").ensure_recipe(
            msgspec.structs.replace(wanted, conda_channels=(silent_channel,)), print
        )


def test_an_entry_that_conda_cannot_read_is_refused(wanted: Recipe, tmp_path: Path) -> None:
    with pytest.raises(EnvironmentBuildError, match="conda_packages: got `tyard-tool=>=`"):
        VenvBuilder(tmp_path / "cache").ensure_recipe(
            msgspec.structs.replace(wanted, conda_packages=("tyard-tool=>=",)), print
        )


def test_without_the_extra_the_way_to_install_it_is_told(
    wanted: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def without_rattler(name: str, *rest: Any, **named: Any) -> object:
        if name == "rattler":
            raise ImportError(name)
        return real(name, *rest, **named)

    monkeypatch.setattr(builtins, "__import__", without_rattler)

    with pytest.raises(EnvironmentBuildError, match="need the extra `conda`") as refused:
        VenvBuilder(tmp_path / "cache").ensure_recipe(wanted, print)

    assert refused.value.hint == "pip install 'tensoryard[conda]'"


def test_channels_count_only_where_conda_packages_are_asked_for() -> None:
    plain = recipe(environment_spec(way="single"))
    other = recipe(environment_spec(way="single", conda_channels=("elsewhere",)))

    assert plain == other
