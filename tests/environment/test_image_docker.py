"""Images built by Docker's daemon: the same as any other, once they are there."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from services.base_image import push_image
from services.docker_daemon import DockerDaemon
from services.images import SIX, variant
from tensoryard.environment import Environment, ImageSpec
from tensoryard.environment.image_builder import ImageBuilder
from tensoryard.environment.image_folders import files_of
from tensoryard.environment.spec import Recipe
from tensoryard.environment.venv import VenvBuilder
from tensoryard.errors import EnvironmentBuildError
from tensoryard.registry.oci_client import Client
from tensoryard.registry.oci_manifest import parse_place

pytestmark = pytest.mark.xdist_group("images")  # one worker makes what they share


@pytest.fixture(scope="module")
def _daemon() -> Iterator[DockerDaemon]:
    daemon = DockerDaemon()
    yield daemon
    daemon.close()


@pytest.fixture(autouse=True)
def daemon(_daemon: DockerDaemon, monkeypatch: pytest.MonkeyPatch) -> DockerDaemon:
    """A machine that has docker, and nothing else to build with."""
    for name, value in _daemon.environ.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("tensoryard.environment.image_programs.PROGRAMS", ("docker",))
    return _daemon


def layers(image: str) -> list[str]:
    place, _, digest = image.partition("@")
    return [layer["digest"] for layer in json.loads(Client(parse_place(place, "latest")).manifest(digest))["layers"]]


def contents(environment: Environment) -> dict[str, str]:
    """The files of an image by their digests, but for those that hold when they were made, and an empty cache's."""
    found = {}
    for inside, place in files_of(Path(environment.unpacked)).walk():
        path = Path(place)
        if inside.startswith(("/var/log/", "/var/cache/", "/root/.cache/uv/")) or not path.is_file():
            continue
        if path.stat().st_size:  # what was mounted for a step leaves nothing but its name
            timeless = inside.endswith(".pyc")
            found[inside] = "" if timeless else hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def test_an_image_built_by_docker_is_pushed_by_layers_and_found_by_others(
    six_image: Environment,
    base_image: str,
    image_registry: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "uv.toml").write_text("# of this machine\n")
    monkeypatch.setenv("UV_CONFIG_FILE", str(tmp_path / "uv.toml"))
    registry = f"{image_registry}/by-docker"
    builder = ImageBuilder(VenvBuilder(tmp_path / "cache"), registry)
    image = ImageSpec(base=base_image, system_packages=("tyard-greeting",))
    said: list[str] = []
    made = builder.ensure_recipe(SIX, image, said.append)
    assert "building with docker" in said
    files = files_of(Path(made.unpacked))
    assert Path(files.find("/usr/share/tyard-greeting/greeting") or "").read_text() == "from tyard-greeting\n"
    assert files.find("/opt/environment/lib/python3.11/site-packages/six.py")
    assert not [
        inside for inside, place in files.walk("/run") if Path(place).is_file() and Path(place).stat().st_size
    ]
    assert not list((builder.cache / "buildah").iterdir())
    assert contents(made) == contents(six_image)  # which buildah built

    # Whose nodes pull it: it is not unpacked again.
    other = ImageBuilder(VenvBuilder(tmp_path / "other"), registry, on_nodes=True)
    assert other.ensure_recipe(SIX, image, said.append).image == made.image
    assert f"image {made.image.rpartition(':')[2][:12]} in {registry}: reused" in said


def test_layers_that_stay_are_the_same_bytes_again(image_registry: str, tmp_path: Path) -> None:
    name = f"{image_registry}/by-docker/base:1"
    push_image(name, variant([], b"the base\n"))
    (tmp_path / "source").mkdir()
    image = ImageSpec(dockerfile="Dockerfile", folder=str(tmp_path / "source"))
    builder = ImageBuilder(VenvBuilder(tmp_path / "cache"), f"{image_registry}/by-docker")

    def built(context: str) -> list[str]:
        (tmp_path / "source" / "Dockerfile").write_text(f"FROM {name}\nCOPY kept /\nCOPY changed /\n")
        (tmp_path / "source" / "kept").write_text("kept")
        (tmp_path / "source" / "changed").write_text(context)
        return layers(builder.ensure_recipe(SIX, replace(image, context=context), print).image)

    first, second = built("first"), built("second")
    assert first[:2] == second[:2]
    assert first[2] != second[2]


def test_what_docker_says_of_a_build_that_fails_is_told(base_image: str, tmp_path: Path) -> None:
    builder = ImageBuilder(VenvBuilder(tmp_path / "cache"))
    image = ImageSpec(base=base_image, system_packages=("no-such-package",))
    with pytest.raises(EnvironmentBuildError, match=r"docker failed; it says:\n(.*\n)*.*no-such-package"):
        builder.ensure_recipe(Recipe(name="bare", python="3.11"), image, print)


def test_a_daemon_that_is_away_is_named(base_image: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/no-daemon")
    with pytest.raises(EnvironmentBuildError, match=r"[Cc]annot connect to the Docker daemon"):
        ImageBuilder(VenvBuilder(tmp_path)).ensure_recipe(
            Recipe(name="bare", python="3.11"), ImageSpec(base=base_image), print
        )
