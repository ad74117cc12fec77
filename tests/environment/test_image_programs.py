"""The programs that build images: the rendered folder is enough for each, and podman does where buildah is not."""

import hashlib
import json
import subprocess
from pathlib import Path

import pytest

from services.images import SIX, left_behind
from tensoryard.environment import Environment, ImageSpec
from tensoryard.environment.build_secrets import secrets
from tensoryard.environment.buildah import PROGRAMS, runroot
from tensoryard.environment.image_builder import ImageBuilder
from tensoryard.environment.image_folders import files_of
from tensoryard.environment.image_layers import Layers
from tensoryard.environment.spec import Recipe
from tensoryard.environment.venv import VenvBuilder
from tensoryard.errors import EnvironmentBuildError

pytestmark = pytest.mark.xdist_group("images")  # one worker makes what they share
# They have the time of the build in them; devices are the machine's.
PASSED_OVER = ("var/log/", "var/cache/apt/", "var/cache/ldconfig/", "dev/")


def contents(files: Layers) -> dict[str, tuple[int, str]]:
    """Mode and SHA-256 (of a link, its target) of every path of an image, without what has times in it."""
    found = {}
    for inside, place in files.walk():
        path, name = Path(place), inside[1:]
        if name.startswith(PASSED_OVER) or name.endswith(".pyc"):
            continue
        content = ""
        if path.is_symlink():
            content = str(path.readlink())
        elif path.is_file():
            content = hashlib.sha256(path.read_bytes()).hexdigest()
        # Rights of other users than the run's own go when an image is unpacked.
        found[name] = (path.lstat().st_mode & ~0o7700, content)
    return found


@pytest.fixture(scope="module")
def of_six(six_image: Environment) -> dict[str, tuple[int, str]]:
    return contents(files_of(Path(six_image.unpacked)))


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_build_of_the_rendered_folder_by_hand_makes_the_same_image(
    images: ImageBuilder,
    six_image: Environment,
    of_six: dict[str, tuple[int, str]],
    base_image: str,
    tmp_path: Path,
    program: str,
) -> None:
    """What `tyard render --image --out` writes, and nothing else of ours."""
    spec = ImageSpec(base=base_image, system_packages=("tyard-greeting",))
    images.write_context(images.inputs(SIX, spec, print), tmp_path / "context", print)
    hidden = [f"--secret=id={name},src={path}" for name, path in secrets(tmp_path).items()]
    storage = images.cache / "buildah"  # the base is in it
    places = ["--root", str(storage / "storage"), "--runroot", str(runroot(storage))]
    places += ["--storage-opt", "overlay.skip_mount_home=true"]
    options = ["--isolation", "chroot", "--no-cache", "--tls-verify=false", *hidden, "--tag", f"by-hand-{program}"]

    def said(program: str, *arguments: str) -> str:
        done = subprocess.run([program, *places, *arguments], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout.strip()

    said(program, "bud" if program == "buildah" else "build", *options, str(tmp_path / "context"))
    (config,) = json.loads(said("podman", "image", "inspect", f"by-hand-{program}"))
    found = contents(Layers([said("podman", "image", "mount", f"by-hand-{program}")]))
    said("podman", "image", "unmount", f"by-hand-{program}")

    assert of_six == found
    assert config["Config"]["User"] == "1000:1000"
    assert config["Config"]["Labels"]["org.tensoryard.key"] == six_image.hash


def test_podman_builds_where_buildah_is_not(
    images: ImageBuilder, base_image: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tensoryard.environment.image_programs.PROGRAMS", ("podman",))
    said: list[str] = []
    wanted = Recipe(name="by-podman", python="3.11", requirements=("six==1.13.0",))
    made = images.ensure_recipe(wanted, ImageSpec(base=base_image), said.append)
    assert "building with podman" in said
    assert files_of(Path(made.unpacked)).find("/opt/environment/lib/python3.11/site-packages/six.py")
    assert left_behind(images) == []


def test_a_build_by_podman_that_fails_or_is_ended_leaves_nothing(
    images: ImageBuilder, base_image: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class EndedError(Exception):
        pass

    def end(line: str) -> None:
        if line.startswith("Unpacking"):
            raise EndedError

    monkeypatch.setattr("tensoryard.environment.image_programs.PROGRAMS", ("podman",))
    bare = Recipe(name="bare", python="3.11")
    with pytest.raises(EnvironmentBuildError, match=r"podman failed; it says:\n(.*\n)*.*Unable to locate package"):
        images.ensure_recipe(bare, ImageSpec(base=base_image, system_packages=("no-such-package",)), print)
    with pytest.raises(EndedError):
        images.ensure_recipe(bare, ImageSpec(base=base_image, system_packages=("openmpi-bin",)), end)
    assert left_behind(images) == []


def test_a_machine_without_a_builder_is_told_what_to_install(
    images: ImageBuilder, base_image: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tensoryard.environment.image_programs.PROGRAMS", ("no-such-program",))
    with pytest.raises(
        EnvironmentBuildError, match="`buildah`, `podman` or `docker`, and none of them is on PATH"
    ) as raised:
        ImageBuilder(VenvBuilder(tmp_path)).ensure_recipe(
            Recipe(name="bare", python="3.11"), ImageSpec(base=base_image), print
        )
    assert raised.value.hint == "sudo apt-get install buildah, or set `runtime: venv`"
