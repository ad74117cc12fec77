"""Which C library an image has, found in its registry: what was compiled for a newer one cannot be loaded there."""

import http.client
import re
import tarfile

from tensoryard.environment import interruption
from tensoryard.environment.image_unpack import ImageSource, described

_STATUS = "var/lib/dpkg/status"
_LIBC = re.compile(rb"^Package: libc6\n(?:.+\n)*?Version: (\d+\.\d+)", re.MULTILINE)


def loads_in(ours: str, theirs: str) -> bool:
    """
    Whether what is compiled here can be loaded there, as far as is known.

    ours: "glibc-2.36", as an interpreter says it; theirs: as `base_libc` does.
    """
    kind, _, release = ours.partition("-")
    return kind != "glibc" or not theirs or _numbers(release) <= _numbers(theirs)


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
