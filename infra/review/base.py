"""The program as it was at a git revision, unpacked to a folder of its own and declared by a process of its own."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from infra.review.declare import Declaration

PARTS = ("infra", "stacks", "templates", "requirements/uv.txt", "Pulumi.yaml")


class BaseError(Exception):
    """The base cannot be reviewed: the text says why, hint what to do."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


@contextlib.contextmanager
def unpacked(root: Path, ref: str) -> Iterator[Path | None]:
    """
    A folder with the program at ref for as long as the context lasts; None where that revision has no program yet.

    Raises BaseError where root is no git checkout or ref is no revision of it.
    """
    commit = _commit(root, ref)
    prefix = _git(root, "rev-parse", "--show-prefix").stdout.decode().strip()
    listed = _git(root, "ls-tree", "--name-only", "-z", commit, "--", *PARTS).stdout.decode().split("\0")
    found = [name.removeprefix(prefix) for name in listed if name]
    if "infra" not in found or "Pulumi.yaml" not in found:
        yield None
        return
    if not _git(root, "ls-tree", "--name-only", "-z", commit, "--", "infra/__main__.py").stdout:
        yield None
        return
    packed = _git(root, "archive", "--format=tar", commit, "--", *found).stdout
    with tempfile.TemporaryDirectory(prefix="tyard-review-") as folder:
        unpack(packed, Path(folder))
        yield Path(folder)


def unpack(packed: bytes, folder: Path) -> None:
    """
    Unpacks a tar into a folder: plain files and folders below it only.

    Raises BaseError for anything that would be written elsewhere, links included.
    """
    with tarfile.open(fileobj=io.BytesIO(packed)) as tar:
        for member in tar:
            inside = (folder / member.name).resolve().is_relative_to(folder.resolve())
            if not inside or not (member.isfile() or member.isdir()):
                raise BaseError(
                    f"the base holds `{member.name}`, which is no plain file below the checkout",
                    "a link or an odd path in infra/, stacks/ or templates/ is not followed: commit a plain file",
                )
            tar.extract(member, folder, filter="data")


def start(folder: Path, stacks: Sequence[str]) -> subprocess.Popen[bytes]:
    """A process that declares these stacks of the program in folder; `result` waits for it."""
    here = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": str(here)}
    return subprocess.Popen(
        [sys.executable, "-m", "infra.review.declare", "--root", str(folder), "--", *stacks],
        cwd=here,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def result(process: subprocess.Popen[bytes]) -> dict[str, Declaration]:
    """What the process declared, by stack. Raises BaseError where it ended without an answer."""
    out, err = process.communicate()
    if process.returncode != 0:
        said = err.decode(errors="replace").strip().splitlines()
        raise BaseError(
            f"the base's program could not be declared: {said[-1] if said else f'exit code {process.returncode}'}",
            "review without `--base`, or against a revision whose program runs",
        )
    return {found.stack: found for found in msgspec.json.decode(out, type=list[Declaration])}


def _commit(root: Path, ref: str) -> str:
    if _git(root, "rev-parse", "--is-inside-work-tree", check=False).returncode != 0:
        raise BaseError(
            f"`{root}` is no git checkout", "review without `--base`, or start in a clone of the repository"
        )
    found = _git(root, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{ref}^{{commit}}", check=False)
    if found.returncode != 0:
        raise BaseError(
            f"git knows no revision `{ref}` in `{root}`",
            "`git branch -a` lists branches; `git fetch` brings those of the remote",
        )
    return found.stdout.decode().strip()


def _git(root: Path, *words: str, check: bool = True) -> subprocess.CompletedProcess[bytes]:
    try:
        done = subprocess.run(["git", "-C", str(root), *words], capture_output=True, check=False)
    except FileNotFoundError:
        raise BaseError("there is no `git` on PATH", "install git, or review without `--base`") from None
    if check and done.returncode != 0:
        said = done.stderr.decode(errors="replace").strip()
        raise BaseError(f"`git {words[0]}` failed: {said}", "review without `--base`")
    return done
