"""A job's own Dockerfile: what it is built on is pinned by digest, and moved only when somebody asks for it."""

import json
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from services.base_image import push_image
from services.images import SIX, variant
from tensoryard.cli.env import env
from tensoryard.environment import ImageSpec
from tensoryard.environment.image_builder import ImageBuilder
from tensoryard.environment.image_folders import files_of
from tensoryard.environment.venv import VenvBuilder
from tensoryard.errors import JobError, NotFoundError
from tensoryard.registry.oci_client import Client
from tensoryard.registry.oci_manifest import parse_place
from tensoryard.store.file import FileStore

pytestmark = pytest.mark.xdist_group("images")  # one worker makes what they share
TWO_STAGES = """
ARG BASE={0}/own/tools:1
FROM ${{BASE}} AS tools
FROM scratch AS nothing
COPY --from={0}/own/data:1 /etc/this-is /data
FROM tools
COPY --from=nothing /data /data
"""


def described(folder: Path, text: str, context: str = "c") -> ImageSpec:
    folder.mkdir(exist_ok=True)
    (folder / "Dockerfile").write_text(text)
    return ImageSpec(dockerfile="Dockerfile", context=context, folder=str(folder))


def read(unpacked: str, path: str) -> str:
    return Path(files_of(Path(unpacked)).find(path) or "/no/such/file").read_text()


def test_bases_stay_as_they_were_until_they_are_moved(
    images: ImageBuilder, image_registry: str, tmp_path: Path
) -> None:
    store = FileStore(tmp_path / "store")
    one = ImageBuilder(images.venvs, f"{image_registry}/own-dockerfile", store)
    tools = push_image(f"{image_registry}/own/tools:1", variant([], b"tools\n"))
    push_image(f"{image_registry}/own/data:1", variant([], b"data\n"))
    image = described(tmp_path / "source", TWO_STAGES.format(image_registry))
    said: list[str] = []
    made = one.ensure_recipe(SIX, image, said.append)
    assert f"{image_registry}/own/tools:1 is {image_registry}/own/tools@{tools}" in said
    assert made.base == f"{image_registry}/own/tools@{tools}"
    assert (read(made.unpacked, "/etc/this-is"), read(made.unpacked, "/data")) == ("tools\n", "data\n")
    assert "${BASE}" in (tmp_path / "source" / "Dockerfile").read_text()  # the run's own is not touched

    push_image(f"{image_registry}/own/tools:1", variant([], b"newer tools\n"))
    # The source has changed, and a machine of its own builds: what it is built on is the same.
    other = ImageBuilder(VenvBuilder(tmp_path / "other"), f"{image_registry}/own-dockerfile", store)
    edited = described(tmp_path / "source", TWO_STAGES.format(image_registry) + "LABEL edited=1\n", "edited")
    assert read(other.ensure_recipe(SIX, edited, print).unpacked, "/etc/this-is") == "tools\n"
    assert one.find_recipe(SIX, image) == made

    newer = one.ensure_recipe(SIX, image, print, rebuild=True)
    assert read(newer.unpacked, "/etc/this-is") == "newer tools\n"
    assert newer.hash != made.hash
    assert other.find_recipe(SIX, edited) is None


def test_the_command_moves_what_a_dockerfile_is_built_on(
    image_registry: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("TYARD_CACHE", "TYARD_WORKSPACE"):
        monkeypatch.setenv(name, str(tmp_path / name))
    names = [f"{image_registry}/own/moving:{number}" for number in (1, 2)]
    first, second = (push_image(name, variant([], name.encode())) for name in names)
    described(tmp_path, f"FROM {names[0]}\nFROM {names[1]}\nFROM {names[0]}@{first}\nFROM scratch\n")
    (tmp_path / "train.py").write_text("")
    job = {"experiment": "e", "entry_script": "train.py", "dockerfile": "Dockerfile"}
    (tmp_path / "job.yaml").write_bytes(msgspec.json.encode(job))

    def update(*options: str) -> str:
        arguments = ["update", str(tmp_path / "job.yaml"), *options]
        return CliRunner().invoke(env, arguments, catch_exceptions=False, standalone_mode=False).stdout

    assert update() == f"{names[0]}: (not there) -> {first}\n{names[1]}: (not there) -> {second}\n"
    assert update() == ""
    moved = push_image(names[1], variant([], b"moved"))
    assert json.loads(update("--json")) == [{"what": names[1], "before": second, "after": moved}]


def test_a_base_that_is_not_there_is_named_with_its_line(
    images: ImageBuilder, image_registry: str, tmp_path: Path
) -> None:
    nowhere = described(tmp_path / "source", f"\nFROM {image_registry}/own/nowhere:1\n")
    with pytest.raises(
        NotFoundError, match=f"Dockerfile:2: FROM: registry `{image_registry}` has no `own/nowhere:1`"
    ):
        images.ensure_recipe(SIX, nowhere, print)
    name = f"{image_registry}/own/gone:1"
    digest = push_image(name, variant([], b"to be removed\n"))
    gone = described(tmp_path / "source", f"FROM {name}\nCOPY Dockerfile /\n", "gone")
    builder = ImageBuilder(images.venvs, store=FileStore(tmp_path / "store"))
    builder.ensure_recipe(SIX, gone, print)
    client = Client(parse_place(name, "1"))
    assert client.ask("DELETE", f"http://{image_registry}/v2/own/gone/manifests/{digest}").status == 202
    edited = msgspec.structs.replace(gone, context="edited")
    assert builder.ensure_recipe(SIX, edited, print).base == f"{image_registry}/own/gone@{digest}"  # it is here still
    elsewhere = ImageBuilder(VenvBuilder(tmp_path / "elsewhere"), store=FileStore(tmp_path / "store"))
    with pytest.raises(NotFoundError, match=f"Dockerfile:1: FROM: .* has no `own/gone@{digest}` any more") as raised:
        elsewhere.ensure_recipe(SIX, edited, print)
    assert "`tyard env update job.yaml`" in str(raised.value.hint)


def test_a_dockerfile_that_is_not_there_is_named(images: ImageBuilder, tmp_path: Path) -> None:
    image = ImageSpec(dockerfile="docker/gpu", context="none", folder=str(tmp_path))
    with pytest.raises(JobError, match="dockerfile: `docker/gpu` cannot be read in the job's source: No such file"):
        images.ensure_recipe(SIX, image, print)
