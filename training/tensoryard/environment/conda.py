"""
conda packages: one solve of Python and everything asked for, installed into a prefix that pip packages go on top of.

Python comes from the channels too, as in conda, so that compiled conda packages fit it.
Needs the extra `conda` (py-rattler).
"""

import contextlib
import sysconfig
import threading
import time
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tensoryard.environment import Log, command, interruption
from tensoryard.environment.interpreter import Interpreter, this_platform
from tensoryard.environment.lock import CondaRecord
from tensoryard.environment.spec import Recipe
from tensoryard.errors import EnvironmentBuildError

if TYPE_CHECKING:
    import asyncio
    from types import ModuleType

SILENCE_SECONDS = 60.0  # after which a channel that has said nothing is taken to be gone


def solve(recipe: Recipe, log: Log) -> tuple[CondaRecord, ...]:
    """
    What Python and the conda packages of a recipe come to, every package with its digest.

    Raises EnvironmentBuildError when an entry cannot be read, when they do not fit, or when no channel answers.
    """
    rattler = _rattler(recipe)
    packages, channels = ", ".join(recipe.conda_packages), ", ".join(recipe.conda_channels)
    log(f"solving {packages} from {channels}")
    python = f"python {recipe.python}.*" if recipe.python.count(".") == 1 else f"python {recipe.python}"
    specs = [rattler.MatchSpec(python)]
    for entry in recipe.conda_packages:
        try:
            specs.append(rattler.MatchSpec(entry))
        except Exception as error:
            raise EnvironmentBuildError(
                f"conda_packages: got `{entry}`, allowed is what conda reads, such as `numpy=1.26`: {error}"
            ) from None
    platforms = [rattler.Subdir.current(), "noarch"]
    if silent := _silent(rattler, recipe.conda_channels):
        raise _unanswered(packages, ", ".join(silent), f"nothing came within {SILENCE_SECONDS:g} s")
    solved = _ended(
        rattler.solve(
            list(recipe.conda_channels),
            specs,
            platforms=platforms,
            virtual_packages=rattler.VirtualPackage.detect(),
        )
    )
    try:
        records = solved.result()
    except Exception as error:
        raise _unsolved(error, packages, channels, recipe.python) from None
    return tuple(
        CondaRecord(
            name=record.name.normalized,
            version=str(record.version),
            channel=record.channel,
            url=record.url,
            file=record.file_name,
            sha256=record.sha256.hex() if record.sha256 else "",
            md5=record.md5.hex() if record.md5 else None,
            size_bytes=record.size,
            index=record.to_json(),
        )
        for record in sorted(records, key=lambda record: record.name.normalized)
    )


def interpreter(solved: Sequence[CondaRecord]) -> Interpreter:
    """The Python of a solve, which is not installed yet."""
    version = next(record.version for record in solved if record.name == "python")
    abi = "conda-cpython-" + "".join(version.split(".")[:2])
    return Interpreter(version=version, abi=abi, platform=sysconfig.get_platform(), libc=this_platform())


def install(records: Sequence[CondaRecord], prefix: Path, final: Path, log: Log) -> None:
    """
    Put the packages of a solve into a prefix that will be moved to final afterwards.

    Each archive is checked against its digest. Raises EnvironmentBuildError when one cannot be fetched or differs.
    """
    import rattler

    log(f"installing {len(records)} conda packages")
    entry = prefix.parent / "index.json"
    loaded = []
    for record in records:
        entry.write_text(record.index)
        package = rattler.PackageRecord.from_index_json(entry, record.size_bytes, record.sha256, record.md5)
        loaded.append(rattler.RepoDataRecord(package, record.file, record.url, record.channel))
    entry.unlink()
    installed = _ended(
        rattler.install(loaded, target_prefix=prefix, alternative_target_prefix=final, show_progress=False)
    )
    try:
        installed.result()
    except Exception as error:
        raise EnvironmentBuildError(
            f"conda_packages: the packages could not be installed: {command.without_addresses(str(error))}"
        ) from None


def _ended(work: Coroutine[Any, Any, Any]) -> "asyncio.Task[Any]":
    """The task of what rattler does, at its end; ends it when whoever asked for the build does not want it now."""
    import asyncio

    async def watched() -> "asyncio.Task[Any]":
        task = asyncio.ensure_future(work)
        while not (await asyncio.wait({task}, timeout=interruption.LOOK_SECONDS))[0]:
            interruption.look()
        return task

    return asyncio.run(watched())  # cancels the task when `look` raises


def _silent(rattler: "ModuleType", channels: Sequence[str]) -> list[str]:
    """
    The channels on the web that answer nothing at all.

    rattler would wait for them for ever, and its own limit is for a whole download, which a slow network exceeds.
    """
    waited: dict[str, threading.Thread] = {}
    for channel in channels:
        with contextlib.suppress(Exception):  # what is no channel is told by the solve
            address = str(rattler.Channel(channel).base_url)
            if address.startswith(("http://", "https://")):
                waited[channel] = threading.Thread(target=_ask, args=(address,), daemon=True)
    for thread in waited.values():
        thread.start()
    deadline = time.monotonic() + SILENCE_SECONDS
    while (silent := [channel for channel, thread in waited.items() if thread.is_alive()]) and (
        time.monotonic() < deadline
    ):
        waited[silent[0]].join(interruption.LOOK_SECONDS)
        interruption.look()
    return silent


def _ask(address: str) -> None:
    """Returns once there is any answer, a refusal too."""
    import urllib.request

    request = urllib.request.Request(f"{address}noarch/repodata.json", method="HEAD")  # noqa: S310 - http or https
    # A little more than whoever looks at this thread waits.
    with contextlib.suppress(Exception):
        urllib.request.urlopen(request, timeout=SILENCE_SECONDS + 5).close()  # noqa: S310 - http or https


def _rattler(recipe: Recipe) -> "ModuleType":
    try:
        import rattler
    except ImportError:
        raise EnvironmentBuildError(
            f"conda_packages: {', '.join(recipe.conda_packages)} need the extra `conda`, which is not installed",
            hint="pip install 'tensoryard[conda]'",
        ) from None
    module: Any = rattler
    return module  # type: ignore[no-any-return]


def _unsolved(error: Exception, packages: str, channels: str, python: str) -> EnvironmentBuildError:
    said = command.without_addresses(" ".join(str(error).split()))[:600]
    if type(error).__name__ == "SolverError":
        return EnvironmentBuildError(
            f"conda_packages: {packages} with Python {python}: not in the channels {channels}, or do not fit: {said}",
            hint="change `conda_packages`, or name another channel in `conda_channels`",
        )
    return _unanswered(packages, channels, said)


def _unanswered(packages: str, channels: str, said: str) -> EnvironmentBuildError:
    return EnvironmentBuildError(
        f"conda_packages: {packages}: no answer from the channels {channels}: {said}",
        hint="check the names in `conda_channels` and the network, or ask for the packages in `pip_packages`",
    )
