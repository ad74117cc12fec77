"""What this machine has and lacks to build images and to run in them."""

import shutil
import subprocess
import sys

from tensoryard.cli.doctor import Finding

# The first steps into an image, by the program that takes them.
_ENTER = "import tensoryard.in_image as i; i.apart(); i.mount('none', '/', None, i.MS_REC | i.MS_PRIVATE)"
_ALLOW = (
    "sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0 (Ubuntu), kernel.unprivileged_userns_clone=1 "
    "(Debian) or user.max_user_namespaces=10000 (others)"
)


def examine_images() -> list[Finding]:
    """What builds images, and whether this user may go into one. Changes nothing."""
    if not sys.platform.startswith("linux"):
        fix = "there are none on this system: run such jobs on a machine with Linux"
        found = "built and run on Linux only"
        return [Finding(name="images", ok=False, found=found, needed_for="jobs with an image", fix=fix)]
    return [_builder(), _namespaces()]


def _builder() -> Finding:
    from tensoryard.environment.image_programs import PROGRAMS

    found = next((path for path in map(shutil.which, PROGRAMS) if path), None)
    fix = None if found else "sudo apt-get install buildah"
    if found and found.endswith("/docker") and subprocess.run([found, "version"], capture_output=True).returncode:
        found, fix = f"{found}, whose daemon does not answer", "start docker, or sudo apt-get install buildah"
    return Finding(
        name="buildah",
        ok=fix is None,
        found=found or "-",
        needed_for="building images; running needs none",
        fix=fix,
    )


def _namespaces() -> Finding:
    done = subprocess.run([sys.executable, "-c", _ENTER], capture_output=True, text=True, check=False)
    said = done.stderr.strip().splitlines()[-1:] or [""]
    return Finding(
        name="namespaces",
        ok=done.returncode == 0,
        found="may be made" if done.returncode == 0 else said[0].partition(": ")[2].partition(";")[0],
        needed_for="running in images",
        fix=None if done.returncode == 0 else _ALLOW,
    )
