"""Which C library an image has, found in its registry: what was compiled for a newer one cannot be loaded there."""

import http.client
import re
import tarfile

from tensoryard.environment import interruption
from tensoryard.environment.image_unpack import ImageSource, described
from tensoryard.errors import EnvironmentBuildError

_STATUS = "var/lib/dpkg/status"
_LIBC = re.compile(rb"^Package: libc6\n(?:.+\n)*?Version: (\d+\.\d+)", re.MULTILINE)


def check_base_libc(source: ImageSource, digest: str, name: str, ours: str) -> None:
    """
    Raises EnvironmentBuildError when a base's glibc is older than the one that Horovod is compiled for.

    name: of the base; ours: "glibc-2.36", as an interpreter says it.
    """
    kind, _, release = ours.partition("-")
    theirs = base_libc(source, digest)
    if kind == "glibc" and theirs and _numbers(theirs) < _numbers(release):
        raise EnvironmentBuildError(
            f"base_image: `{name}` has glibc {theirs}, and Horovod, which this machine compiles for its own glibc "
            f"{release}, cannot be loaded there",
            hint=f"set `base_image` to one with glibc {release} or newer, as this machine's release has it, or build "
            f"on a machine with glibc {theirs} or older",
        )


def base_libc(source: ImageSource, digest: str) -> str:
    """
    The glibc of an image on Debian or Ubuntu, such as "2.36", or "" where no package says it.

    Read of the lowest layer that has packages: those above may be gigabytes, and are of the same release.
    """
    for layer in described(source, digest).layers:
        try:
            with (
                source.open_blob(layer.digest) as file,
                tarfile.open(fileobj=file, mode="r|*", bufsize=1 << 20) as archive,
            ):
                for member in archive:
                    interruption.look()
                    if member.name.removeprefix("./") == _STATUS and (status := archive.extractfile(member)):
                        found = _LIBC.search(status.read())
                        return found[1].decode() if found else ""
        except (tarfile.TarError, EOFError, OSError, http.client.HTTPException):
            return ""  # the build itself says what is wrong with a layer
    return ""


def _numbers(release: str) -> tuple[int, ...]:
    return tuple(map(int, release.split(".")))
