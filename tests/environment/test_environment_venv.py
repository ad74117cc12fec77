"""How environments are built: once, whole, shared, and from a lock that stays. Real uv, tiny packages."""

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest

from tensoryard.environment import Environment
from tensoryard.environment.spec import Recipe
from tensoryard.environment.venv import VenvBuilder, default_cache
from tensoryard.errors import EnvironmentBuildError, NotFoundError

OWN = f"{sys.version_info.major}.{sys.version_info.minor}"
SIX = Recipe(name="six", python=OWN, requirements=("six==1.16.0",))

# A process that ensures an environment, tells each line of the build, and stops at the one that is asked for
# until its standard input ends.
ENSURE = """
import sys
from pathlib import Path
import msgspec
from tensoryard.environment.spec import Recipe
from tensoryard.environment.venv import VenvBuilder

def log(line):
    print(line, flush=True)
    if sys.argv[3] and line.startswith(sys.argv[3]):
        sys.stdin.read()

recipe = msgspec.json.decode(sys.argv[2], type=Recipe)
print(VenvBuilder(Path(sys.argv[1])).ensure_recipe(recipe, log).hash, flush=True)
"""


def ensure_elsewhere(cache: Path, recipe: Recipe, stop_at: str = "") -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", ENSURE, str(cache), msgspec.json.encode(recipe).decode(), stop_at],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def read_until(process: subprocess.Popen[str], start: str) -> str:
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith(start):
            return line.strip()
    raise AssertionError(f"no line began with {start!r}: {process.communicate()[1]}")


@pytest.fixture
def lines() -> list[str]:
    return []


@pytest.fixture
def builder(tmp_path: Path) -> VenvBuilder:
    return VenvBuilder(tmp_path / "cache")


def output(environment: Environment, code: str) -> str:
    return subprocess.run([environment.python, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def leftovers(builder: VenvBuilder) -> list[str]:
    return sorted(path.name for path in (builder.cache / "environments").glob(".*"))


def test_what_is_asked_for_is_built_once_and_then_found(builder: VenvBuilder, lines: list[str]) -> None:
    assert builder.find_recipe(SIX) is None

    built = builder.ensure_recipe(SIX, lines.append)
    said = len(lines)

    assert output(built, "import six; print(six.__version__)") == "1.16.0"
    assert built == builder.find_recipe(SIX) == builder.ensure_recipe(SIX, lines.append)
    assert said == len(lines)
    assert [(package.name, package.version) for package in built.packages] == [("six", "1.16.0")]
    assert [built] == builder.list()
    assert leftovers(builder) == []


def test_the_lock_pins_every_package_with_its_digest_and_no_address(builder: VenvBuilder) -> None:
    recipe = Recipe(name="requests", python=OWN, requirements=("requests==2.31.0",))

    built = builder.ensure_recipe(recipe, lambda line: None)
    lock = builder.lock(built)

    names = {line.split("==")[0] for line in lock.splitlines() if "==" in line}
    assert names == {"requests", "certifi", "charset-normalizer", "idna", "urllib3"}
    assert "--hash=sha256:" in lock
    assert "://" not in lock
    assert hashlib.sha256(lock.encode()).hexdigest() == built.lock_sha256


def test_byte_code_is_there_before_the_first_import(builder: VenvBuilder) -> None:
    built = builder.ensure_recipe(SIX, lambda line: None)

    cached = output(built, "import importlib.util, six; print(importlib.util.cache_from_source(six.__file__))")

    assert Path(cached).exists()
    assert built.created_at >= Path(cached).stat().st_mtime


def test_a_second_environment_takes_the_byte_code_of_the_files_it_shares(builder: VenvBuilder) -> None:
    first = builder.ensure_recipe(SIX, lambda line: None)
    more = Recipe(name="six", python=OWN, requirements=("six==1.16.0", "iniconfig==2.0.0"))

    second = builder.ensure_recipe(more, lambda line: None)

    code = "import importlib.util, {0}; print(importlib.util.cache_from_source({0}.__file__))"
    assert first.hash != second.hash
    assert Path(output(first, code.format("six"))).samefile(output(second, code.format("six")))
    assert Path(output(second, code.format("iniconfig"))).exists()


def test_commands_of_a_built_environment_run_from_where_it_lies(builder: VenvBuilder) -> None:
    recipe = Recipe(name="normalizer", python=OWN, requirements=("charset-normalizer",))

    built = builder.ensure_recipe(recipe, lambda line: None)
    shown = subprocess.run(
        [Path(built.python).with_name("normalizer"), "--version"], capture_output=True, text=True, check=True
    )

    assert "Charset-Normalizer" in shown.stdout


def test_a_lock_stays_as_it_is_until_a_rebuild(builder: VenvBuilder) -> None:
    """A lock made when 1.16.0 was the newest goes on giving 1.16.0."""
    open_recipe = Recipe(name="six", python=OWN, requirements=("six<1.17.1",))
    first = builder.ensure_recipe(open_recipe, lambda line: None)
    old = builder.lock(builder.ensure_recipe(SIX, lambda line: None))
    (stored,) = (path for path in builder.cache.glob("locks/*/lock.json") if b"six<1.17.1" in path.read_bytes())
    record = msgspec.json.decode(stored.read_bytes())
    stored.write_bytes(msgspec.json.encode(record | {"requirements": old}))
    (stored.parent / "environment").unlink()

    again = builder.ensure_recipe(open_recipe, lambda line: None)
    newer = builder.ensure_recipe(open_recipe, lambda line: None, rebuild=True)

    assert [output(one, "import six; print(six.__version__)") for one in (first, again, newer)] == [
        "1.17.0",
        "1.16.0",
        "1.17.0",
    ]
    assert newer == builder.find_recipe(open_recipe)


def test_a_rebuild_replaces_what_someone_broke(builder: VenvBuilder) -> None:
    built = builder.ensure_recipe(SIX, lambda line: None)
    shutil.rmtree(next(Path(built.python).parents[1].glob("lib/python*/site-packages")))

    rebuilt = builder.ensure_recipe(SIX, lambda line: None, rebuild=True)

    assert built.hash == rebuilt.hash
    assert output(rebuilt, "import six; print(six.__version__)") == "1.16.0"
    assert leftovers(builder) == []


def test_the_same_packages_asked_for_in_other_words_are_one_environment(builder: VenvBuilder) -> None:
    other = Recipe(name="six", python=OWN, requirements=("six>=1.16,<1.16.1  # requirements.txt line 1",))

    assert builder.ensure_recipe(SIX, lambda line: None) == builder.ensure_recipe(other, lambda line: None)
    assert len(builder.list()) == 1


def test_two_processes_at_once_build_it_once(builder: VenvBuilder) -> None:
    first = ensure_elsewhere(builder.cache, SIX, stop_at="installing")
    read_until(first, "installing")
    second = ensure_elsewhere(builder.cache, SIX)
    waiting = read_until(second, "waiting")

    said_by_first = first.communicate()[0].splitlines()
    said_by_second = second.communicate()[0].splitlines()

    assert f"waiting for the build of environment six by process {first.pid} on " in waiting
    assert [said_by_first[-1]] == said_by_second
    assert [said_by_first[-1]] == [environment.hash for environment in builder.list()]


@pytest.mark.parametrize("moment", ["locking", "building", "installing", "compiled"])
def test_a_killed_build_is_never_used_and_leaves_nothing(builder: VenvBuilder, moment: str) -> None:
    process = ensure_elsewhere(builder.cache, SIX, stop_at=moment)
    read_until(process, moment)
    process.kill()
    process.communicate()

    assert builder.find_recipe(SIX) is None

    built = builder.ensure_recipe(SIX, lambda line: None)

    assert output(built, "import six; print(six.__version__)") == "1.16.0"
    assert leftovers(builder) == []


@pytest.fixture
def endless(builder: VenvBuilder, tmp_path: Path) -> tuple[subprocess.Popen[str], int]:
    """Another process at a build, and the id of a process that the build started and that never ends."""
    source = tmp_path / "slow-1.0"
    source.mkdir()
    told = tmp_path / "told"
    os.mkfifo(told)
    (source / "pyproject.toml").write_text(
        '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
    )
    (source / "backend.py").write_text(
        f"import os, signal\nopen({str(told)!r}, 'w').write(str(os.getpid()))\nwhile True:\n    signal.pause()\n"
    )
    archive = shutil.make_archive(str(source), "gztar", tmp_path, source.name)
    process = ensure_elsewhere(
        builder.cache, Recipe(name="slow", python=OWN, requirements=(f"slow @ file://{archive}",))
    )
    return process, int(told.read_text())


def test_an_interruption_ends_uv_and_what_it_started(endless: tuple[subprocess.Popen[str], int]) -> None:
    process, backend = endless

    process.send_signal(signal.SIGINT)
    said = process.communicate()[1]

    assert "KeyboardInterrupt" in said
    assert_ends(backend)


def test_what_a_killed_builder_left_at_work_is_ended_by_the_next(
    builder: VenvBuilder, endless: tuple[subprocess.Popen[str], int]
) -> None:
    process, backend = endless
    process.kill()
    process.wait()

    builder.ensure_recipe(SIX, lambda line: None)

    assert_ends(backend)


def assert_ends(pid: int) -> None:
    """A killed process goes away or, where nobody waits for it, becomes a zombie."""
    while True:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return
        if state == "Z":
            return
        assert "signal.pause" not in state
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("requirements", "said", "not_said"),
    [
        (
            ("six", "tyard-no-such-package>1  # requirements.txt line 3"),
            "pip_packages: `tyard-no-such-package>1  # requirements.txt line 3`: no set of packages fits",
            "`six`",
        ),
        (("idna<2", "iniconfig", "requests==2.31.0"), "`idna<2`, `requests==2.31.0`: no set", "iniconfig"),
    ],
)
def test_packages_that_do_not_fit_are_named_in_uvs_words(
    builder: VenvBuilder, requirements: tuple[str, ...], said: str, not_said: str
) -> None:
    with pytest.raises(EnvironmentBuildError) as refused:
        builder.ensure_recipe(Recipe(name="x", python=OWN, requirements=requirements), lambda line: None)

    assert said in refused.value.message
    assert "uv says:\nerror: No solution found" in refused.value.message
    assert not_said not in refused.value.message
    assert "://" not in refused.value.message


def test_a_full_disk_is_told_before_the_build(builder: VenvBuilder) -> None:
    recipe = msgspec.structs.replace(SIX, free_bytes=2**62)

    with pytest.raises(EnvironmentBuildError, match=r"MiB are free, environment six needs \d+ MiB") as refused:
        builder.ensure_recipe(recipe, lambda line: None)

    assert "tyard env prune --yes" in str(refused.value.hint)


def test_a_python_that_does_not_exist_is_an_error_with_a_way_on(
    builder: VenvBuilder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UV_PYTHON_DOWNLOADS", "never")

    with pytest.raises(EnvironmentBuildError, match=r"there is no Python 3\.99 on this machine") as refused:
        builder.ensure_recipe(msgspec.structs.replace(SIX, python="3.99"), lambda line: None)

    assert f"set `python_version` to {OWN}" in str(refused.value.hint)


def test_prune_takes_what_was_not_used_and_leaves_what_is(builder: VenvBuilder) -> None:
    old = builder.ensure_recipe(SIX, lambda line: None)
    new = builder.ensure_recipe(Recipe(name="iniconfig", python=OWN, requirements=("iniconfig",)), lambda line: None)
    os.utime(builder.cache / "environments" / old.hash / "used", (0, time.time() - 31 * 86400))

    would = builder.prune(unused_days=30)

    assert [old.hash] == [one.hash for one in would]
    assert len(builder.list()) == 2

    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    user = subprocess.Popen([old.python, "-c", "print('started', flush=True); input()"], text=True, **pipes)
    read_until(user, "started")
    assert builder.prune(unused_days=30, dry_run=False) == ()
    user.communicate("\n")

    assert would == builder.prune(unused_days=30, dry_run=False)
    assert [new] == builder.list()
    assert builder.find_recipe(SIX) is None
    assert old.hash == builder.ensure_recipe(SIX, lambda line: None).hash
    assert leftovers(builder) == []


def test_prune_leaves_the_environment_of_a_run_that_runs(builder: VenvBuilder, tmp_path: Path) -> None:
    """A task is started by way of the link in its run's folder."""
    built = builder.ensure_recipe(SIX, lambda line: None)
    run = tmp_path / "runs" / "mnist-0001"
    run.mkdir(parents=True)
    (run / "environment").symlink_to(Path(built.python).parents[1])
    task = subprocess.Popen(
        [run / "environment" / "bin" / "python", "-c", "print('started', flush=True); input()"],
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "TYARD_RUN_DIR": str(run)},
    )
    read_until(task, "started")

    assert builder.prune(unused_days=None, dry_run=False) == ()

    task.communicate("\n")
    assert [built.hash] == [one.hash for one in builder.prune(unused_days=None, dry_run=False)]


def test_one_environment_is_shown_by_hash_its_beginning_or_name(builder: VenvBuilder) -> None:
    built = builder.ensure_recipe(SIX, lambda line: None)

    assert [built] * 3 == [builder.show(text) for text in (built.hash, built.hash[:6], "six")]
    for absent in ("", "nothing", "../locks"):
        with pytest.raises(NotFoundError, match="is not on this machine"):
            builder.show(absent)


def test_a_cache_that_was_moved_goes_on_working(builder: VenvBuilder, tmp_path: Path) -> None:
    built = builder.ensure_recipe(SIX, lambda line: None)
    moved = VenvBuilder(builder.cache.rename(tmp_path / "elsewhere"))

    found = moved.find_recipe(SIX)

    assert found is not None
    assert built.hash == found.hash
    assert output(found, "import six; print(six.__version__)") == "1.16.0"


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"TYARD_CACHE": "/a/b", "XDG_CACHE_HOME": "/c"}, "/a/b"),
        ({"XDG_CACHE_HOME": "/c"}, "/c/tensoryard"),
        ({"HOME": "/home/ada"}, "/home/ada/.cache/tensoryard"),
    ],
)
def test_the_cache_is_where_the_variables_say(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], expected: str
) -> None:
    for name in ("TYARD_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)

    assert Path(expected) == default_cache()


def test_a_process_without_environment_leaves_the_builder_alone(
    builder: VenvBuilder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What a shell has active, or a project in the folder we stand in, does not get into an environment."""
    (tmp_path / "pyproject.toml").write_text("not = [toml")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VIRTUAL_ENV", str(tmp_path / "other"))
    monkeypatch.setenv("PYTHONHOME", str(tmp_path / "nowhere"))

    assert builder.ensure_recipe(SIX, lambda line: None).packages[0].name == "six"
