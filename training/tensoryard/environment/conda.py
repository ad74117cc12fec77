"""
conda packages: one solve of Python and everything asked for, installed into a prefix that pip packages go on top of.

Python comes from the channels too, as in conda, so that compiled conda packages fit it.
Needs the extra `conda` (py-rattler).
"""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from tensoryard.environment import Log, command
from tensoryard.environment.spec import Recipe
from tensoryard.errors import EnvironmentBuildError

if TYPE_CHECKING:
    from types import ModuleType


class CondaRecord(msgspec.Struct, frozen=True, kw_only=True):
    """
    One package of a solve.

    url, sha256: its archive and the digest of it; subdir: "linux-64" or "noarch"; record: the entry of the
    channel's index, as JSON text, from which it is installed again without asking the channel.
    """

    name: str
    version: str
    url: str
    sha256: str
    record: str


def solve(recipe: Recipe, log: Log) -> tuple[CondaRecord, ...]:
    """
    What Python and the conda packages of a recipe come to, every package with its digest.

    Raises EnvironmentBuildError when a package has no such spelling, when they do not fit, or when no channel answers.
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
            url=str(record.url),
            sha256=record.sha256.hex() if record.sha256 else "",
            record=record.to_json(),
        )
        for record in sorted(records, key=lambda record: record.name.normalized)
    )


def install(records: Sequence[CondaRecord], prefix: Path, final: Path, log: Log) -> None:
    """
    Put the packages of a solve into a prefix that will be moved to final afterwards.

    Each archive is checked against its digest. Raises EnvironmentBuildError when one cannot be fetched or differs.
    """
    import rattler

    log(f"installing {len(records)} conda packages")
    try:
        asyncio.run(
            rattler.install(
                [rattler.RepoDataRecord.from_json(record.record) for record in records],
                target_prefix=prefix,
                alternative_target_prefix=final,
                show_progress=False,
            )
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
            f"conda_packages: {packages} with Python {python} do not fit, or are not in the channels {channels}: {said}",
            hint="change `conda_packages`, or name another channel in `conda_channels`",
        )
    return EnvironmentBuildError(
        f"conda_packages: {packages}: no answer from the channels {channels}: {said}",
        hint="check the names in `conda_channels` and the network, or ask for the packages in `pip_packages`",
    )
