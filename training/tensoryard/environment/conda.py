"""
conda packages: one solve of Python and everything asked for, installed into a prefix that pip packages go on top of.

Python comes from the channels too, as in conda, so that compiled conda packages fit it.
Needs the extra `conda` (py-rattler).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tensoryard.environment import Log, command
from tensoryard.environment.lock import CondaRecord
from tensoryard.environment.spec import Recipe
from tensoryard.errors import EnvironmentBuildError

if TYPE_CHECKING:
    from types import ModuleType


def solve(recipe: Recipe, log: Log) -> tuple[CondaRecord, ...]:
    """
    What Python and the conda packages of a recipe come to, every package with its digest.

    Raises EnvironmentBuildError when an entry cannot be read, when they do not fit, or when no channel answers.
    """
    rattler = _rattler(recipe)
    import asyncio

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
    try:
        records = asyncio.run(
            rattler.solve(
                list(recipe.conda_channels),
                specs,
                platforms=platforms,
                virtual_packages=rattler.VirtualPackage.detect(),
            )
        )
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


def install(records: Sequence[CondaRecord], prefix: Path, final: Path, log: Log) -> None:
    """
    Put the packages of a solve into a prefix that will be moved to final afterwards.

    Each archive is checked against its digest. Raises EnvironmentBuildError when one cannot be fetched or differs.
    """
    import asyncio

    import rattler

    log(f"installing {len(records)} conda packages")
    entry = prefix.parent / "index.json"
    loaded = []
    for record in records:
        entry.write_text(record.index)
        package = rattler.PackageRecord.from_index_json(entry, record.size_bytes, record.sha256, record.md5)
        loaded.append(rattler.RepoDataRecord(package, record.file, record.url, record.channel))
    entry.unlink()
    try:
        asyncio.run(
            rattler.install(loaded, target_prefix=prefix, alternative_target_prefix=final, show_progress=False)
        )
    except Exception as error:
        raise EnvironmentBuildError(
            f"conda_packages: the packages could not be installed: {command.without_addresses(str(error))}"
        ) from None


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
    return EnvironmentBuildError(
        f"conda_packages: {packages}: no answer from the channels {channels}: {said}",
        hint="check the names in `conda_channels` and the network, or ask for the packages in `pip_packages`",
    )
