"""A recipe's requirements to a lock: every package with its version and digests, or the entries that forbid one."""

import re
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tensoryard.environment import Log, command
from tensoryard.environment.spec import Recipe, requirement_name, without_comment
from tensoryard.errors import EnvironmentBuildError, JobError

_PIN = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)(?:==([^\s;\\]+)| @ )", re.MULTILINE)
_FAILED = re.compile(r"Failed to (?:build|download|prepare|fetch)[^`\n]*`([A-Za-z0-9][A-Za-z0-9._-]*)")
_SHORT = 12  # lines of uv's words that an error repeats


def resolve(recipe: Recipe, python: str, cwd: Path, log: Log) -> str:
    """
    The lock of a recipe, as `uv pip compile` writes it, without any address of a package index.

    python: the interpreter that will run it, or the version of one that is not there yet.
    Raises EnvironmentBuildError in uv's own words, with the entries of the job that they are about.
    """
    with tempfile.TemporaryDirectory(dir=cwd, prefix=".resolve-") as folder:
        asked, excluded = Path(folder, "requirements.in"), Path(folder, "overrides.txt")
        asked.write_text("".join(f"{without_comment(entry)}\n" for entry in (*recipe.base, *recipe.requirements)))
        excluded.write_text("".join(f'{name} ; python_version < "0"\n' for name in recipe.excluded))
        overrides = ["--override", excluded.name] if recipe.excluded else []  # uv warns of an empty file
        which = ["--python", python] if Path(python).is_absolute() else ["--python-version", python]
        flags = ["--generate-hashes", "--no-header", "--no-annotate", "--no-emit-index-url", "--quiet"]
        finished = command.run(
            command.uv("pip", "compile", asked.name, *overrides, *which, *flags),
            cwd=Path(folder),
            keep_addresses=recipe.requirements,
        )
    if finished.code != 0:
        raise _unresolved(recipe, finished.talk)
    count = len(pins(finished.stdout))
    log(f"locked {count} package{'' if count == 1 else 's'}")
    return finished.stdout


def pins(lock: str) -> dict[str, str]:
    """The version of each package of a lock; "" for one that is an address."""
    return dict(_PIN.findall(lock))


def pinned(lock: str, name: str) -> str:
    """The version that a lock pins a package to, or "" when it does not."""
    return pins(lock).get(name, "")


def _unresolved(recipe: Recipe, talk: list[str]) -> EnvironmentBuildError:
    lines = [line for line in talk if line.strip()]
    words = "\n".join(lines[:_SHORT] + (["..."] if len(lines) > _SHORT else []))
    guilty = [entry for entry in recipe.requirements if _is_about(entry, "\n".join(lines))]
    entries = "".join(f"`{entry}`, " for entry in guilty)[:-2]
    place = f"pip_packages: {entries}" if guilty else "the packages"
    if any("No solution found" in line for line in lines):
        return EnvironmentBuildError(
            f"{place}: no set of packages fits {recipe.name} on Python {recipe.python}; uv says:\n{words}",
            hint="change or leave out one of these entries, then submit again" if guilty else None,
        )
    return EnvironmentBuildError(f"{place}: {recipe.name} could not be locked; uv says:\n{words}")


def naming_entries(error: EnvironmentBuildError, entries: Sequence[str]) -> EnvironmentBuildError:
    """The error of a build that says which package failed, with the entries of the job that ask for that package."""
    failed = _FAILED.search(error.message)
    if failed is None:
        return error
    guilty = [entry for entry in entries if _is_about(entry, failed[1])]
    place = ", ".join(f"`{entry}`" for entry in guilty) if guilty else f"`{failed[1]}`, which others need"
    return EnvironmentBuildError(f"pip_packages: {place}: {error.message}", error.hint)


def _is_about(entry: str, said: str) -> bool:
    try:
        name = requirement_name(entry)
    except JobError:
        return False
    spelled = "[-_.]+".join(map(re.escape, name.split("-")))
    return re.search(rf"(?<![\w-]){spelled}(?![\w-])", said, re.IGNORECASE) is not None
