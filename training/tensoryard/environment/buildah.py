"""
buildah, or podman with buildah in it: builds images from Dockerfiles without a daemon and without root.

Source: https://github.com/containers/buildah/tree/main/docs (buildah-build, buildah-push), measured with 1.28;
https://docs.podman.io/en/latest/Commands.html, measured with 4.3.
"""

import errno
import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Protocol

from tensoryard.environment import Log, command
from tensoryard.environment.build_secrets import SECRETS, secrets
from tensoryard.environment.buildah_login import signed_in
from tensoryard.environment.dockerfile_bases import bases
from tensoryard.environment.image import parse_reference
from tensoryard.environment.image_unpack import OciFolder
from tensoryard.errors import EnvironmentBuildError
from tensoryard.registry.oci_manifest import Place
from tensoryard.text import size

_EXITED = re.compile(r"building at STEP .*exit status", re.IGNORECASE)
_SAID = 15  # lines that an error repeats
_LONGEST_RUNROOT = 50
PROGRAMS = ("buildah", "podman")  # the first that is on PATH
RETRIES = ("--retry=3", "--retry-delay=2s")  # of a push that breaks off; to buildah 0 is as good as 3


class DiskFullError(EnvironmentBuildError):
    """The disk was full; worth another try when room was made."""


class Program(Protocol):
    """What builds images."""

    def build(self, key: str, context: Path, log: Log, file: str = "Dockerfile", *, anew: bool = False) -> object: ...


class Buildah:
    """buildah with a storage of its own; program: "podman" where only that is."""

    def __init__(self, storage: Path, program: str = PROGRAMS[0]) -> None:
        self.storage = storage
        self.program = program

    def build(self, key: str, context: Path, log: Log, file: str = "Dockerfile", *, anew: bool = False) -> None:
        """
        Build an image from a folder, and name it by its key.

        file: the Dockerfile, by its path in the folder; anew: without layers of earlier builds. Raises
        EnvironmentBuildError with the last lines of what was said.
        """
        self.storage.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=SECRETS, dir=self.storage) as folder:
            hidden = [f"--secret=id={name},src={path}" for name, path in secrets(Path(folder)).items()]
            text = (context / file).read_text(encoding="utf-8", errors="replace")
            registries = {parse_reference(base.name, "FROM").registry for base in bases(text, file).named}
            # The option is for all registries of a build: with one of another machine among them it is left out.
            plain = ["--tls-verify=false"] if registries and all(map(_tls, registries)) else []
            # chroot: needs neither root nor namespaces of the kernel that a container may not make.
            options = ["--isolation", "chroot", "--layers", "--format", "oci", *plain, *hidden]
            options += ["--no-cache"] if anew else []
            log(f"building with {self.program}")
            try:
                with signed_in(sorted(registries)) as login:
                    argv = self._argv(
                        "bud" if self.program == "buildah" else "build",
                        *login,
                        *options,
                        "--tag",
                        name_of(key),
                        "--file",
                        file,
                        ".",
                    )
                    self._run(argv, context, log, f"image {key}")
            finally:
                # Of a build that failed or was ended: its container stays mounted otherwise.
                self._end_containers()

    def push(self, key: str, place: Place, log: Log) -> str:
        """The digest of an image in the registry that it was pushed to; layers that are there are not sent."""
        file = self.storage / f"digest-{key}"
        options = [*_tls(str(place)), "--digestfile", str(file)]
        if self.program == "buildah":
            options += RETRIES
        log(f"pushing image {key} to {place}")
        with signed_in([place.registry], push=True) as login:
            argv = self._argv("push", *login, *options, name_of(key), f"docker://{place}")
            finished = command.run(argv, cwd=self.storage, log=log, merged=True)
        if finished.code != 0:
            raise EnvironmentBuildError(
                f"image {key}: registry `{place.registry}` did not take it; {self.program} says:\n"
                + "\n".join([line for line in finished.talk if line.strip()][-_SAID:]),
                hint="what is built stays here, and another try sends it; a registry that answers with 500 or 507 "
                "may have a full disk: its log says",
            )
        digest = file.read_text(encoding="ascii").strip()
        file.unlink()
        return digest

    def export(self, key: str, folder: Path, log: Log) -> Path:
        """A new folder with an image in the OCI layout."""
        argv = self._argv("push", "--quiet", name_of(key), f"oci:{folder}:{key}")
        self._run(argv, self.storage, log, f"image {key}", folder.parent)
        return OciFolder(folder).folder

    def has(self, key: str) -> bool:
        """Whether an image was built here."""
        return command.run(self._argv("inspect", "--type", "image", name_of(key)), cwd=self.storage).code == 0

    def forget(self, keys: Sequence[str]) -> None:
        """Remove images, and the layers that no other image has."""
        for key in keys:
            command.run(self._argv("rmi", name_of(key)), cwd=self.storage)
        prune = ("rmi", "--prune") if self.program == "buildah" else ("image", "prune", "--force")
        command.run(self._argv(*prune), cwd=self.storage)

    def keep_only(self, keys: Collection[str]) -> None:
        """Remove all images but these, and the layers that only those had."""
        argv = self._argv("images", "--filter", f"reference={name_of('')[:-1]}", "--format", "{{.Tag}}")
        self.forget([key for key in command.run(argv, cwd=self.storage).stdout.split() if key not in keys])

    def clear(self) -> None:
        """End and remove what builders have left that were killed; none is at work now."""
        command.end_orphans()
        self._end_containers()
        for folder in self.storage.glob(f"{SECRETS}*"):
            shutil.rmtree(folder)

    def _end_containers(self) -> None:
        if self.program == "buildah":
            command.run(self._argv("rm", "--all"), cwd=self.storage)
            return
        # To podman those of builds are external, which its `rm --all` passes over.
        listed = command.run(self._argv("ps", "--all", "--external", "--quiet"), cwd=self.storage)
        if found := listed.stdout.split():
            command.run(self._argv("rm", "--force", *found), cwd=self.storage)

    def _argv(self, verb: str, *arguments: str) -> list[str]:
        self.storage.mkdir(parents=True, exist_ok=True)
        places = ["--root", str(self.storage / "storage"), "--runroot", str(runroot(self.storage))]
        if self.program == "podman" and os.geteuid() == 0:
            # Else it leaves its storage mounted onto itself.
            places += ["--storage-opt", "overlay.skip_mount_home=true"]
        return [self.program, *places, verb, *arguments]

    def _run(self, argv: Sequence[str], cwd: Path, log: Log, what: str, disk: Path | None = None) -> None:
        finished = command.run(argv, cwd=cwd, log=log, merged=True)
        if _is_mute(finished.talk):
            # On a busy machine buildah may end before it has passed on what a step said last: seen with 1.28.
            log("the step's output was lost: running it once more")
            finished = command.run(argv, cwd=cwd, log=log, merged=True)
        checked(finished, what, self.program, disk or self.storage)


def checked(finished: command.Finished, what: str, program: str, storage: Path) -> None:
    """Raises EnvironmentBuildError with what was said last where a program failed; of a full disk DiskFullError."""
    if finished.code == 0:
        return
    lines = [line for line in finished.talk if line.strip()]
    # What a compiler says can be longer than that; uv's line above it names the package.
    named = [line for line in lines[:-_SAID] if "Failed to build" in line]
    said = [*named[-1:], *lines[-_SAID:]]
    if any(is_full(line) for line in said):
        raise disk_full(what, storage)
    raise EnvironmentBuildError(f"{what}: {program} failed; it says:\n" + "\n".join(said))


def is_full(said: object) -> bool:
    """Whether somebody says that the disk is: shutil's errors of many files have no number, but the words."""
    return any(os.strerror(number).lower() in str(said).lower() for number in (errno.ENOSPC, errno.EDQUOT))


def disk_full(what: str, storage: Path) -> DiskFullError:
    return DiskFullError(
        f"{what}: the disk of {storage} is full, {size(shutil.disk_usage(storage).free)} are free",
        hint="run `tyard env prune --yes`, or set TYARD_CACHE to a folder on a larger disk",
    )


def runroot(storage: Path) -> Path:
    """
    Where what is mounted now is noted, the same for every process that uses a storage.

    podman takes no path of more than 50 characters for it. Raises EnvironmentBuildError when a folder of that name in
    /tmp is somebody else's.
    """
    inside = storage / "run"
    if len(str(inside)) <= _LONGEST_RUNROOT:
        return inside
    folder = Path("/tmp", f"tyard-{hashlib.sha256(str(storage).encode()).hexdigest()[:16]}")  # noqa: S108 see above
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.is_symlink() or folder.stat().st_uid != os.geteuid():
        raise EnvironmentBuildError(
            f"runtime: {folder}, which is for builds in {storage}, belongs to somebody else",
            hint="set TYARD_CACHE to a folder of your own with a shorter path",
        )
    return folder


def _is_mute(talk: Sequence[str]) -> bool:
    """Whether a step failed of which nothing is known but that it did."""
    if not any(_EXITED.search(line) for line in talk):
        return False
    last = max((number for number, line in enumerate(talk) if line.startswith("STEP ")), default=0)
    return all(
        line.startswith(("subprocess exited", "Error: ", "error ")) for line in talk[last + 1 :] if line.strip()
    )


def name_of(key: str) -> str:
    return f"localhost/tensoryard/environments:{key}"


def _tls(reference: str) -> list[str]:
    """A registry of this very machine speaks HTTP."""
    return ["--tls-verify=false"] if Place(reference.partition("/")[0], "", "").is_local else []
