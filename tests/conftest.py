"""Fixtures that more than one test file uses."""

import multiprocessing
import os
import signal
import sys
import warnings
from collections.abc import Callable, Generator, Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from cli_runner import Tyard
from launching import ODD_NAMES, Yard, as_root
from tensoryard.store import Store
from tensoryard.store.file import FileStore

# Images are built and run on Linux.
_OF_LINUX = [
    "environment/test_doctor_images.py",
    "environment/test_image_builder.py",
    "environment/test_image_programs.py",
    "environment/test_image_runs.py",
    "environment/test_image_secrets.py",
    "environment/test_sbom.py",
]
collect_ignore = [] if sys.platform == "linux" else _OF_LINUX
# A busy machine is slow now and then, which says nothing of the code.
settings.register_profile("tests", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tests")
pytest_plugins = [
    "azureml_runs",
    "services.azurite_fixtures",
    "services.slurm_fixtures",
    "services.images",
    "services.kept_registry",
]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-golden", action="store_true", help="record tests/golden anew; ends red where it changed"
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "long: takes ten seconds or more, so it runs before all that do not")
    # A shell starts what it runs in the background with SIGINT ignored, and programs pass that on to theirs.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # No test cuts the power, and nothing less would show whether a disk was waited for.
    os.fsync = lambda fd: None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begun among the last, a long one would go on while the other workers have nothing left to do."""
    items.sort(key=lambda item: item.get_closest_marker("long") is None)


def pytest_internalerror(excrepr: object) -> None:
    """A worker that broke has lost its tests: the others stop too, and its reason is the last thing said."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        pytest.exit(f"pytest broke, so not every test was run: {str(excrepr)[-4000:]}", returncode=3)


@pytest.hookimpl(wrapper=True)
def pytest_report_to_serializable() -> Generator[None, dict[str, Any] | None, dict[str, Any] | None]:
    """A worker breaks at a name that is not UTF-8 in what a test says or logs: it is sent with its bytes' numbers."""
    return _sendable((yield))  # type: ignore[no-any-return]


@pytest.hookimpl(tryfirst=True)
def pytest_warning_recorded(warning_message: warnings.WarningMessage) -> None:
    """The same of a warning."""
    text = str(warning_message.message)
    if _sendable(text) != text:
        warning_message.message = UserWarning(_sendable(text))


def _sendable(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode(errors="backslashreplace").decode()
    if isinstance(value, dict):
        return {name: _sendable(inner) for name, inner in value.items()}
    return type(value)(map(_sendable, value)) if type(value) in (list, tuple) else value


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Where CI is set a skipped test is a failed one: what it needs has to be installed there."""
    report = yield
    if os.environ.get("CI") and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped: {report.longrepr}"
    return report


@pytest.fixture
def update_golden(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--update-golden"))


@pytest.fixture(params=["file", "blob"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """Every implementation of the store, one after the other; each is empty."""
    if request.param == "file":
        return FileStore(tmp_path / "store")
    return _blob_store(request)


def _blob_store(request: pytest.FixtureRequest) -> Store:
    from tensoryard.store.blob import BlobStore

    return BlobStore(request.getfixturevalue("blob_account"))


@pytest.fixture(params=ODD_NAMES)
def odd_name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def processes() -> Iterator[Callable[[int, Callable[[int], None]], list[int]]]:
    """
    Runs a function in n processes at once, each given its index, and returns their exit codes.

    All of them start the function at the same moment, so that they really meet.
    """
    context = multiprocessing.get_context("fork")
    started: list[BaseProcess] = []

    def run(count: int, function: Callable[[int], None]) -> list[int]:
        barrier = context.Barrier(count)

        def body(index: int) -> None:
            barrier.wait()
            function(index)
            os._exit(0)

        group = [context.Process(target=body, args=(index,)) for index in range(count)]
        started.extend(group)
        for process in group:
            process.start()
        for process in group:
            process.join()
        return [process.exitcode or 0 for process in group]

    yield run
    for process in started:
        if process.is_alive():
            process.kill()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """Mounts a disk of so many bytes."""
    path = tmp_path / "disk"

    def mount(size_bytes: int) -> Path:
        path.mkdir()
        as_root(f"mount -t tmpfs -o size={size_bytes},mode=777 tyard-test {path}")
        return path

    yield mount
    as_root(f"umount {path}")


@pytest.fixture(params=["folder", "blob"])
def yard(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Yard]:
    """
    A workspace to run jobs in; whatever still runs at the end of the test is killed.

    Its store is the workspace's own folder, and then blob storage.
    """
    yard = Yard(tmp_path, _blob_store(request) if request.param == "blob" else None)
    yield yard
    yard.close()


@pytest.fixture
def cli(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Tyard]:
    """
    The command line in a folder of its own; whatever it left running at the end of the test is killed.

    Given the parameter "blob" it is connected to a workspace on Azure.
    """
    cli = Tyard(tmp_path)
    if getattr(request, "param", "folder") == "blob":
        from services.azurite_fixtures import connect

        connect(cli, request.getfixturevalue("signed_in"), monkeypatch)
    yield cli
    cli.close()
