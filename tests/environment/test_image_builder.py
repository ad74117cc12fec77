"""Images of environments: built once by the real buildah, found again in a real registry, pinned by digest."""

import contextlib
import hashlib
import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from services.base_image import push_image
from services.images import SIX, left_behind, variant
from services.oci_registry import OciRegistry
from tensoryard.cli.env import env
from tensoryard.environment import Environment, ImageSpec
from tensoryard.environment.image_builder import ImageBuilder
from tensoryard.environment.image_folders import files_of
from tensoryard.environment.spec import Recipe
from tensoryard.environment.venv import VenvBuilder
from tensoryard.errors import EnvironmentBuildError, NotFoundError, StoreError, VerificationError
from tensoryard.registry.oci_client import Client
from tensoryard.registry.oci_manifest import Place

pytestmark = pytest.mark.xdist_group("images")  # one worker makes what they share


def text(environment: Environment, path: str) -> str:
    """A file of an image."""
    return Path(files_of(Path(environment.unpacked)).find(path) or "/no/such/file").read_text()


def tyard_env(*arguments: str) -> str:
    """What a command prints; what it raises is raised."""
    return CliRunner().invoke(env, arguments, catch_exceptions=False, standalone_mode=False).stdout


@pytest.fixture
def lines() -> list[str]:
    return []


def test_an_image_has_the_locked_packages_and_those_of_the_system(
    six_image: Environment, images: ImageBuilder
) -> None:
    packages = {(package.name, package.version) for package in six_image.packages}
    assert packages == {("six", "1.16.0")}
    assert "six==1.16.0" in images.lock(six_image)
    files = files_of(Path(six_image.unpacked))
    assert files.find("/opt/environment/lib/python3.11/site-packages/__pycache__/six.cpython-311.pyc")
    assert text(six_image, "/usr/share/tyard-greeting/greeting") == "from tyard-greeting\n"
    assert text(six_image, "/etc/this-is") == "the base\n"
    assert files.find("/usr/local/bin/uv") is None or Path(files.find("/usr/local/bin/uv") or "").stat().st_size == 0
    assert left_behind(images) == []


def test_nothing_of_this_machine_is_in_an_image(six_image: Environment) -> None:
    """Certificates and settings of the package index are mounted for a step, and in no layer."""
    secrets = [Path(place) for _, place in files_of(Path(six_image.unpacked)).walk("/run")]
    assert [path for path in secrets if path.is_file() and path.stat().st_size] == []


def test_an_image_in_the_registry_says_what_it_is(six_image: Environment, image_registry: str) -> None:
    place = Place(image_registry, "tensoryard/environments", six_image.hash)
    digest = Client(place).tagged()
    assert six_image.image == f"{image_registry}/tensoryard/environments@{digest}"
    assert digest is not None
    manifest = msgspec.json.decode(Client(place).manifest(digest))
    with Client(place).open_blob(manifest["config"]["digest"]) as file:
        config = msgspec.json.decode(file.read())["config"]
    assert config["User"] == "1000:1000"
    assert config["Labels"]["org.tensoryard.key"] == six_image.hash
    assert config["Labels"]["org.tensoryard.lock"] == f"sha256:{six_image.lock_sha256}"


def test_what_was_built_is_found_without_a_build(
    six_image: Environment, images: ImageBuilder, base_image: str, lines: list[str]
) -> None:
    image = ImageSpec(base=base_image, system_packages=("tyard-greeting",))
    assert images.find_recipe(SIX, image) == six_image
    assert images.ensure_recipe(SIX, image, lines.append) == six_image
    assert lines == []


def test_another_machine_takes_it_from_the_registry(
    six_image: Environment, image_registry: str, base_image: str, tmp_path: Path, lines: list[str]
) -> None:
    # Whose nodes pull it: that it is unpacked where it runs, other tests see.
    elsewhere = ImageBuilder(VenvBuilder(tmp_path), image_registry, on_nodes=True)
    found = elsewhere.ensure_recipe(
        SIX, ImageSpec(base=base_image, system_packages=("tyard-greeting",)), lines.append
    )
    assert found.image == six_image.image
    assert f"image {six_image.image.rpartition(':')[2][:12]} in {image_registry}: reused" in lines
    assert not (tmp_path / "buildah").exists()


def test_of_two_that_want_an_image_at_once_one_builds_it(images: ImageBuilder, base_image: str) -> None:
    said: list[list[str]] = [[], []]
    made: list[Environment] = []
    wanted = Recipe(name="both", python="3.11", requirements=("six==1.15.0",))

    def ensure(number: int) -> None:
        made.append(images.ensure_recipe(wanted, ImageSpec(base=base_image), said[number].append))

    threads = [threading.Thread(target=ensure, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made[0] == made[1]
    assert sum(line.startswith("building image") for line in said[0] + said[1]) == 1
    assert left_behind(images) == []


def test_a_base_that_moved_under_its_tag_comes_in_when_it_is_asked_for(
    images: ImageBuilder, image_registry: str, lines: list[str]
) -> None:
    name = f"{image_registry}/moving:1"
    wanted = Recipe(name="bare", python="3.11")
    first = push_image(name, variant([], b"a base\n"))
    before = images.inputs(wanted, ImageSpec(base=name), lines.append)
    assert before.base == f"{image_registry}/moving@{first}"
    second = push_image(name, variant([], b"a newer base\n"))
    assert images.inputs(wanted, ImageSpec(base=name), lines.append) == before
    _, moved = images.update(wanted, ImageSpec(base=name), lines.append)
    after = images.inputs(wanted, ImageSpec(base=name), lines.append)
    assert moved.inputs == after
    assert after.base == f"{image_registry}/moving@{second}"
    assert after.key != before.key


def test_a_build_that_fails_says_what_failed(images: ImageBuilder, base_image: str, lines: list[str]) -> None:
    image = ImageSpec(base=base_image, system_packages=("no-such-package",))
    with pytest.raises(EnvironmentBuildError) as raised:
        images.ensure_recipe(Recipe(name="bare", python="3.11"), image, lines.append)
    assert "Unable to locate package no-such-package" in raised.value.message
    assert left_behind(images) == []


def test_a_build_that_is_ended_leaves_nothing(images: ImageBuilder, base_image: str) -> None:
    class EndedError(Exception):
        pass

    def log(line: str) -> None:
        if line.startswith("Unpacking"):
            raise EndedError

    image = ImageSpec(base=base_image, system_packages=("openmpi-bin",))
    with pytest.raises(EndedError):
        images.ensure_recipe(Recipe(name="bare", python="3.11"), image, log)
    assert left_behind(images) == []
    assert images.find_recipe(Recipe(name="bare", python="3.11"), image) is None


def test_an_image_that_is_there_is_taken_as_it_is(
    images: ImageBuilder, image_registry: str, lines: list[str]
) -> None:
    name = f"{image_registry}/theirs:1"
    digest = push_image(name, variant([], b"theirs\n"))
    found = images.ensure_recipe(SIX, ImageSpec(existing=name), lines.append)
    assert found.image == f"{image_registry}/theirs@{digest}"
    assert [path for path, _ in files_of(Path(found.unpacked)).walk()] == ["/etc", "/etc/this-is"]
    push_image(name, variant([], b"newer\n"))
    assert images.ensure_recipe(SIX, ImageSpec(existing=name), lines.append) == found
    newer = images.ensure_recipe(SIX, ImageSpec(existing=name), lines.append, rebuild=True)
    assert text(newer, "/etc/this-is") == "newer\n"


def test_an_image_that_is_not_there_is_named(images: ImageBuilder, image_registry: str, lines: list[str]) -> None:
    with pytest.raises(NotFoundError, match=f"base_image: registry `{image_registry}` has no `nowhere:1`"):
        images.ensure_recipe(SIX, ImageSpec(base=f"{image_registry}/nowhere:1"), lines.append)
    with pytest.raises(NotFoundError, match=f"image: registry `{image_registry}` has no `nowhere:1`"):
        images.ensure_recipe(SIX, ImageSpec(existing=f"{image_registry}/nowhere:1"), lines.append)


def test_a_registry_that_is_away_is_named(
    tmp_path: Path, free_port: int, lines: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tensoryard.registry.oci_client.wait", lambda *_: None)
    builder = ImageBuilder(VenvBuilder(tmp_path), f"localhost:{free_port}")
    with pytest.raises(StoreError, match=f"registry `localhost:{free_port}`: does not answer"):
        builder.ensure_recipe(SIX, ImageSpec(base=f"localhost:{free_port}/base"), lines.append)


def test_a_registry_that_asks_for_a_login_is_told_of_before_anything_is_built(
    images: ImageBuilder, base_image: str, tmp_path: Path, lines: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    (tmp_path / "htpasswd").write_text("")
    guarded = OciRegistry(tmp_path, tmp_path / "htpasswd")
    with pytest.raises(StoreError, match=f"registry `{guarded.host}`: wants to know who you are") as raised:
        ImageBuilder(images.venvs, guarded.host).ensure_recipe(
            Recipe(name="guarded", python="3.11"), ImageSpec(base=base_image), lines.append
        )
    guarded.close()
    assert raised.value.hint == f"`docker login {guarded.host}`"
    assert not any(line.startswith("building") for line in lines)


def test_a_layer_that_was_changed_in_the_registry_is_refused(tmp_path: Path, lines: list[str]) -> None:
    (tmp_path / "registry").mkdir()
    registry = OciRegistry(tmp_path / "registry")
    (layer,) = variant([], b"as it was\n")
    push_image(f"{registry.host}/theirs:1", [layer])
    (stored,) = (tmp_path / "registry").glob(f"blobs/**/{hashlib.sha256(layer).hexdigest()}/data")
    stored.write_bytes(variant([], b"otherwise\n")[0])
    builder = ImageBuilder(VenvBuilder(tmp_path / "cache"))
    with pytest.raises(VerificationError, match=f"the bytes of `sha256:{hashlib.sha256(layer).hexdigest()}`"):
        builder.ensure_recipe(SIX, ImageSpec(existing=f"{registry.host}/theirs:1"), lines.append)
    registry.close()
    assert left_behind(builder) == []


@pytest.fixture
def free_port() -> Iterator[int]:
    import socket

    with contextlib.closing(socket.socket()) as held:
        held.bind(("localhost", 0))  # and nobody listens
        yield held.getsockname()[1]


def test_without_a_registry_an_image_is_on_this_machine(images: ImageBuilder, tmp_path: Path) -> None:
    builder = ImageBuilder(images.venvs)
    (tmp_path / "Dockerfile").write_text("FROM scratch\nCOPY Dockerfile /srv/\n")
    image = ImageSpec(dockerfile="Dockerfile", context="of-nobody", folder=str(tmp_path))
    found = builder.ensure_recipe(SIX, image, print)
    assert found.image.startswith("localhost/tensoryard/environments@sha256:")
    assert text(found, "/srv/Dockerfile").startswith("FROM scratch")
    assert left_behind(builder) == []


def test_the_command_lists_shows_pushes_and_prunes_images(
    images: ImageBuilder, base_image: str, image_registry: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TYARD_CACHE", str(images.cache))
    made = images.ensure_recipe(
        Recipe(name="shown", python="3.11", requirements=("six==1.14.0",)), ImageSpec(base=base_image), print
    )
    assert made.hash in tyard_env("list")
    shown = tyard_env("show", "shown")
    assert made.image in shown
    assert "six      1.14.0" in shown
    assert tyard_env("show", "shown", "--lock") == images.lock(made)
    pushed = tyard_env("push", made.hash[:6], f"{image_registry}/elsewhere").strip()
    assert pushed == f"{image_registry}/elsewhere/tensoryard/environments@{made.image.rpartition('@')[2]}"
    os.utime(Path(made.unpacked) / "used", (0, 0))
    assert [one["hash"] for one in json.loads(tyard_env("prune", "--yes", "--json"))] == [made.hash]
    assert not Path(made.unpacked).exists()
    assert left_behind(images) == []
