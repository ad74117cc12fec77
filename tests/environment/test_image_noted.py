"""A head whose nodes pull their images for themselves: what it knows of an image that the registry may have lost."""

import json
import os
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from launching import Yard, in_a_folder
from services.base_image import push_image
from services.cutting import Cutting
from services.images import SIX, variant
from tensoryard.cli.env import env
from tensoryard.environment import Environment, ImageSpec
from tensoryard.environment.image_builder import ImageBuilder
from tensoryard.environment.image_programs import program
from tensoryard.environment.spec import Recipe
from tensoryard.environment.venv import VenvBuilder
from tensoryard.registry.oci_client import Client
from tensoryard.registry.oci_manifest import Place
from tensoryard.store.file import FileStore
from tensoryard.submit import submit

pytestmark = pytest.mark.xdist_group("images")  # one worker makes what they share
BARE = Recipe(name="", python="")


@pytest.fixture
def own(tmp_path: Path) -> ImageSpec:
    """An image of a second's work: without a base."""
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "Dockerfile").write_text(f"FROM scratch\nCOPY Dockerfile /srv/\nLABEL of={tmp_path.name}\n")
    return ImageSpec(dockerfile="Dockerfile", context=tmp_path.name, folder=str(tmp_path / "own"))


@pytest.fixture
def head(image_registry: str, tmp_path: Path) -> ImageBuilder:
    return ImageBuilder(VenvBuilder(tmp_path / "cache"), image_registry, FileStore(tmp_path / "store"), on_nodes=True)


def in_registry(environment: Environment) -> Client:
    name, _, digest = environment.image.partition("@")
    host, _, repository = name.partition("/")
    return Client(Place(host, repository, digest))


def lose(environment: Environment) -> None:
    """As whoever tidies a registry up does."""
    client = in_registry(environment)
    url = f"{client.place.url}{client.place.repository}/manifests/{client.place.tag}"
    assert client.ask("DELETE", url).status == 202


def test_an_image_that_the_registry_has_lost_is_built_again(head: ImageBuilder, own: ImageSpec) -> None:
    first = head.ensure_recipe(BARE, own, print)
    assert head.find_recipe(BARE, own) == first
    lose(first)
    assert head.find_recipe(BARE, own) is None
    said: list[str] = []
    again = head.ensure_recipe(BARE, own, said.append)
    assert f"image {first.image.rpartition(':')[2][:12]} is not in {head.registry} any more" in said
    assert in_registry(again).tagged()
    assert head.find_recipe(BARE, own) == again


def test_while_the_registry_is_away_what_was_there_counts_as_there(
    image_registry: str, own: ImageSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nodes may have it."""
    monkeypatch.setattr("tensoryard.registry.oci_client.wait", lambda *_: pytest.fail("asked twice"))
    way = Cutting(image_registry)
    head = ImageBuilder(VenvBuilder(tmp_path / "cache"), way.host, FileStore(tmp_path / "store"), on_nodes=True)
    made = head.ensure_recipe(BARE, own, print)
    way.close()
    assert head.find_recipe(BARE, own) == made


@in_a_folder
def test_a_rerun_whose_image_the_registry_has_lost_is_told_so_before_any_node_starts(
    yard: Yard, head: ImageBuilder, own: ImageSpec
) -> None:
    made = head.ensure_recipe(BARE, own, print)
    first = yard.submit("", image=made.image)
    rerun = submit(yard.workspace, first.job, print, taken=first.snapshot(), image=made)
    lose(made)
    yard.controller(builder=head).serve()
    (end,) = [event for event in rerun.events()[0] if event.stage == "Failed"]
    assert (end.reason or "").endswith(
        f"pinned to an image that is gone: registry `{head.registry}` has no image `{made.image}`"
    )
    assert "--rebuild" in end.data["hint"]


def test_an_image_that_is_pruned_on_a_head_frees_what_built_it(
    head: ImageBuilder, own: ImageSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TYARD_CACHE", str(head.cache))
    made = head.ensure_recipe(BARE, own, print)
    (Path(own.folder) / "Other").write_text("FROM scratch\nCOPY Other /srv/\n")
    kept = head.ensure_recipe(BARE, msgspec.structs.replace(own, dockerfile="Other"), print)
    os.utime(Path(made.unpacked) / "used", (0, 0))

    def pruned(*options: str) -> list[str]:
        arguments = ["prune", "--json", *options]
        said = CliRunner().invoke(env, arguments, catch_exceptions=False, standalone_mode=False).stdout
        return [one["hash"] for one in json.loads(said) if one["own_bytes"]]

    storage = program(head.cache / "buildah")
    assert pruned() == [made.hash]
    assert storage.has(made.hash)
    assert pruned("--yes") == [made.hash]
    assert (storage.has(made.hash), storage.has(kept.hash)) == (False, True)
    assert not Path(made.unpacked).exists()
    assert head.list() == [kept]
    # What is in the registry is no more to build than before.
    assert head.ensure_recipe(BARE, own, print).image == made.image


def test_the_lock_of_an_image_that_only_nodes_have_is_known(head: ImageBuilder, image_registry: str) -> None:
    base = ImageSpec(base=f"{image_registry}/noted/base:1")
    push_image(base.base, variant([], b"base\n"))
    inputs = head.inputs(SIX, base, print)
    # In the place of the one that is built of it.
    push_image(f"{image_registry}/tensoryard/environments:{inputs.key}", variant([], b"built\n"))
    made = head.ensure_recipe(SIX, base, print)
    assert made.hash == inputs.key
    assert head.lock(made) == inputs.requirements
    assert "six==1.16.0" in head.lock(made)
