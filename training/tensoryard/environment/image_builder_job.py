"""
Images that are built on a node, by a job of its own, where the head is too small for it.

The job goes on when whoever asked for it is killed, and the next one that wants the image finds it by its folder.
"""

import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TypeVar

from tensoryard import __version__
from tensoryard.environment import Log, interruption
from tensoryard.environment.image_builder import LEFT_SECONDS, ImageBuilder
from tensoryard.environment.image_builds import Build
from tensoryard.environment.image_noted import tools
from tensoryard.environment.image_push import push
from tensoryard.environment.image_unpack import OciFolder
from tensoryard.environment.venv import VenvBuilder
from tensoryard.errors import EnvironmentBuildError
from tensoryard.render import launch_script
from tensoryard.scheduler import slurm_commands as commands
from tensoryard.scheduler.slurm_commands import AwayError
from tensoryard.slurm_target import DIRECTIVE_VALUE
from tensoryard.store import Store

T = TypeVar("T")
LOOK_SECONDS = 0.2
ASK_SECONDS = 5.0
ENDED_SECONDS = 0.5
# A job that Slurm no longer lists has ended, and its last words may still be on their way.
GONE_SECONDS = 15.0
_SAID = 15  # lines that an error repeats
_ALIVE = ("PENDING", "CONFIGURING", "RUNNING", "COMPLETING", "SUSPENDED", "REQUEUED")


class JobImageBuilder(ImageBuilder):
    """partition: of the nodes that build, "" for the cluster's default."""

    def __init__(self, venvs: VenvBuilder, registry: str, store: Store, on_nodes: bool, partition: str) -> None:
        super().__init__(venvs, registry, store, on_nodes)
        self._partition = partition

    def _built(self, key: str, build: Build, log: Log, anew: bool) -> tuple[str, Path]:
        self._sweep()
        begun = self._begun(key, anew, log)
        # Below the cache, which nodes see.
        at = begun or Path(tempfile.mkdtemp(prefix=f".building-{key}-", dir=self._images))
        job = _Job(at, self._partition, tools(self.cache / "node-tools"))
        try:
            if begun:
                job.follow(key, log)
            else:
                build(job, at)
            source = OciFolder(at / "oci")
            digest = source.newest()
            if not self.registry:
                return digest, self.folders.unpack(source, digest, log)
            place = self._place(key)
            log(f"pushing image {key} to {place}")
            push(source, digest, place)
            return digest, Path()
        finally:
            shutil.rmtree(at, ignore_errors=True)

    def _begun(self, key: str, anew: bool, log: Log) -> Path | None:
        """The folder of a build that a killed builder has left at work, or done; others of this image are removed."""
        found = None
        for left in self._images.glob(f".building-{key}-*"):  # whose lock is ours
            job = _answered(partial(_job_in, left), log)
            if (job or _exit_code(left) == "0") and (left / "anew").exists() >= anew and found is None:
                found = left
                continue
            if job:
                _end(job, left)
            shutil.rmtree(left, ignore_errors=True)
        return found

    def _is_over(self, left: Path) -> bool:
        with suppress(AwayError):
            return time.time() - left.stat().st_mtime > LEFT_SECONDS and _job_in(left) is None
        return False


class _Job:
    """Builds in a folder by a job."""

    def __init__(self, folder: Path, partition: str, tools: Path) -> None:
        self._folder = folder
        self._partition = partition
        self._tools = tools

    def build(self, key: str, context: Path, log: Log, file: str = "Dockerfile", *, anew: bool = False) -> None:
        folder = self._folder
        if not DIRECTIVE_VALUE.fullmatch(str(folder)):
            raise EnvironmentBuildError(f"image {key}: `{folder}` is no path that `#SBATCH` lines can hold")
        if context != folder / "context":
            shutil.copytree(context, folder / "context", symlinks=True)
        (folder / "tools").symlink_to(self._tools)
        shutil.copyfile(Path(__file__).parent.parent / "build_image.py", folder / "build_image.py")
        python = str(Path(getattr(sys, "_base_executable", sys.executable)).resolve())
        values = {"version": __version__, "key": key, "folder": str(folder), "file": file, "python": python}
        script = launch_script("build_image.sh.j2", {**values, "partition": self._partition, "anew": int(anew)})
        (folder / "build.sh").write_text(script, encoding="utf-8")
        if anew:
            (folder / "anew").touch()
        # Where Slurm did not answer it may have taken the job all the same.
        job = _answered(lambda: _job_in(folder) or commands.sbatch(str(folder / "build.sh")), log)
        log(f"building image {key} as Slurm's job {job}")
        self._follow(key, job, log)

    def follow(self, key: str, log: Log) -> None:
        """Go on with a job that somebody else began here."""
        job = _answered(partial(_job_in, self._folder), log)
        log(f"going on with the build of image {key}" + (f", Slurm's job {job}" if job else ""))
        self._follow(key, job or "", log)

    def _follow(self, key: str, job: str, log: Log) -> None:
        try:
            said = self._heard(key, job, log)
        except BaseException:
            _end(job, self._folder)
            raise
        if _exit_code(self._folder) != "0":
            last = "\n".join([line for line in said if line.strip()][-_SAID:])
            raise EnvironmentBuildError(f"image {key}: Slurm's job {job} could not build it; it says:\n{last}")

    def _heard(self, key: str, job: str, log: Log) -> list[str]:
        """What a job said, once it has ended."""
        said: list[str] = []
        lines = _lines(self._folder / "log")
        asked_at, gone_at, state = 0.0, None, ""
        while True:
            interruption.look()
            ended = _exit_code(self._folder)
            for line in next(lines):
                said.append(line)
                log(line)
            if ended == "0":
                return said
            now = time.monotonic()
            if now - asked_at >= (ENDED_SECONDS if ended else ASK_SECONDS):
                asked_at = now
                with suppress(AwayError):
                    row = next((row for row in commands.squeue() if row.job == job), None)
                    news = f"{row.state} ({row.reason})" if row else "gone"
                    if row and row.state == "PENDING" and news != state:
                        log(f"Slurm's job {job} waits: {row.reason}")
                    state = news
                    alive = row is not None and row.state in _ALIVE
                    if ended and not alive:
                        return said  # else it has failed by what puts it back into the queue, and begins anew
                    gone_at = None if alive else gone_at or now
            if gone_at is not None and now - gone_at > GONE_SECONDS:
                raise EnvironmentBuildError(f"image {key}: Slurm's job {job}, which built it, is {state}")
            time.sleep(LOOK_SECONDS)


def _answered(question: Callable[[], T], log: Log) -> T:
    """What Slurm says, once it answers."""
    told = ""
    while True:
        try:
            return question()
        except AwayError as error:
            if str(error) != told:
                log(f"Slurm does not answer: {error}; asking again")
            told = str(error)
        interruption.look()
        time.sleep(ASK_SECONDS)


def _job_in(folder: Path) -> str | None:
    """The job that builds in a folder. Raises AwayError."""
    rows = commands.squeue()
    return next((row.job for row in rows if row.folder == str(folder) and row.state in _ALIVE), None)


def _exit_code(folder: Path) -> str | None:
    """How the job in a folder ended, or None while it has not."""
    with suppress(FileNotFoundError):
        return (folder / "ended").read_text().strip()
    return None


def _end(job: str, folder: Path) -> None:
    """End a job, and give its node the time to take down what it has begun."""
    if not job:
        return
    with suppress(AwayError):
        commands.scancel(job)
        until = time.monotonic() + GONE_SECONDS
        while _exit_code(folder) is None and _job_in(folder) and time.monotonic() < until:
            time.sleep(LOOK_SECONDS)


def _lines(path: Path) -> Iterator[list[str]]:
    """The whole lines of a file that came since the last time, for ever."""
    at, rest = 0, b""
    while True:
        found = b""
        with suppress(FileNotFoundError), path.open("rb") as file:
            file.seek(at)
            found = file.read()
        at += len(found)
        *whole, rest = (rest + found).split(b"\n")
        yield [line.decode(errors="replace") for line in whole]
