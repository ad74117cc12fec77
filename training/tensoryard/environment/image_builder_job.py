"""Images that are built on a node, by a job of its own, where the head is too small for it."""

import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from tensoryard import __version__
from tensoryard.environment import Log, interruption
from tensoryard.environment.buildah import Program
from tensoryard.environment.image_builder import ImageBuilder
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

LOOK_SECONDS = 0.2
ASK_SECONDS = 5.0
# A job that Slurm no longer lists has ended, and its last words may still be on their way.
GONE_SECONDS = 15.0
_SAID = 15  # lines that an error repeats
_ALIVE = ("PENDING", "CONFIGURING", "RUNNING", "COMPLETING", "SUSPENDED", "REQUEUED")


class JobImageBuilder(ImageBuilder):
    """partition: of the nodes that build, "" for the cluster's default."""

    def __init__(self, venvs: VenvBuilder, registry: str, store: Store, on_nodes: bool, partition: str) -> None:
        super().__init__(venvs, registry, store, on_nodes)
        self._partition = partition

    def _built(self, key: str, build: Callable[[Program, Path], None], log: Log) -> tuple[str, Path]:
        # Below the cache, which nodes see.
        with tempfile.TemporaryDirectory(
            prefix=f".building-{key}-", dir=self._images, ignore_cleanup_errors=True
        ) as at:
            build(_Job(Path(at), self._partition, tools(self.cache / "node-tools")), Path(at))
            source = OciFolder(Path(at) / "oci")
            digest = source.newest()
            if not self.registry:
                return digest, self.folders.unpack(source, digest, log)
            place = self._place(key)
            log(f"pushing image {key} to {place}")
            push(source, digest, place)
            return digest, Path()


class _Job:
    """Builds in a folder by a job."""

    def __init__(self, folder: Path, partition: str, tools: Path) -> None:
        self._folder = folder
        self._partition = partition
        self._tools = tools

    def build(self, key: str, context: Path, log: Log, file: str = "Dockerfile") -> None:
        folder = self._folder
        if not DIRECTIVE_VALUE.fullmatch(str(folder)):
            raise EnvironmentBuildError(f"image {key}: `{folder}` is no path that `#SBATCH` lines can hold")
        if context != folder / "context":
            shutil.copytree(context, folder / "context", symlinks=True)
        (folder / "tools").symlink_to(self._tools)
        shutil.copyfile(Path(__file__).parent.parent / "build_image.py", folder / "build_image.py")
        python = str(Path(getattr(sys, "_base_executable", sys.executable)).resolve())
        values = {"version": __version__, "key": key, "folder": str(folder), "file": file, "python": python}
        script = launch_script("build_image.sh.j2", {**values, "partition": self._partition})
        (folder / "build.sh").write_text(script, encoding="utf-8")
        job = commands.sbatch(str(folder / "build.sh"))
        try:
            self._follow(key, job, log)
        except BaseException:
            with suppress(AwayError):
                commands.scancel(job)
            raise

    def _follow(self, key: str, job: str, log: Log) -> None:
        log(f"building image {key} as Slurm's job {job}")
        said: list[str] = []
        lines = _lines(self._folder / "log")
        asked_at, gone_at, state = 0.0, None, ""
        while True:
            interruption.look()
            ended = (self._folder / "ended").exists()
            for line in next(lines):
                said.append(line)
                log(line)
            if ended:
                break
            now = time.monotonic()
            if now - asked_at >= ASK_SECONDS:
                asked_at = now
                with suppress(AwayError):
                    row = next((row for row in commands.squeue() if row.job == job), None)
                    news = f"{row.state} ({row.reason})" if row else "gone"
                    if row and row.state == "PENDING" and news != state:
                        log(f"Slurm's job {job} waits: {row.reason}")
                    state = news
                    alive = row is not None and row.state in _ALIVE
                    gone_at = None if alive else gone_at or now
            if gone_at is not None and now - gone_at > GONE_SECONDS:
                raise EnvironmentBuildError(f"image {key}: Slurm's job {job}, which built it, is {state}")
            time.sleep(LOOK_SECONDS)
        if (self._folder / "ended").read_text().strip() != "0":
            last = "\n".join([line for line in said if line.strip()][-_SAID:])
            raise EnvironmentBuildError(f"image {key}: Slurm's job {job} could not build it; it says:\n{last}")


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
