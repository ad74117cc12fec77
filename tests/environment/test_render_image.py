"""`tyard render --image`: the Dockerfile of a job, and beside it what it is built with."""

from pathlib import Path

import pytest

from cli_runner import Tyard
from services.base_image import push_image
from services.images import variant
from services.package_index import PackageIndex
from tensoryard.environment.spec import environment_spec, recipe

pytestmark = pytest.mark.xdist_group("images")  # one worker makes what they share


def test_the_dockerfile_is_printed_or_written_with_all_that_it_is_built_with(
    cli: Tyard, image_registry: str, tmp_path: Path
) -> None:
    base = f"{image_registry}/render/base:1"
    digest = push_image(base, variant([], b"base\n"))
    (tensorflow,) = recipe(environment_spec(way="single")).base
    name, _, version = tensorflow.partition("==")
    index = PackageIndex({name: version.replace("*", "0")})
    cli.environ["UV_DEFAULT_INDEX"] = index.url
    cli.job("", base_image=base, python_version="3.11", framework_version="2.21", system_packages=["libgomp1"])
    printed = cli("render", "job.yaml", "--image")
    assert f"FROM {image_registry}/render/base@{digest}\n" in printed
    assert "      libgomp1 \\\n" in printed
    cli("render", "job.yaml", "--image", "--out", "written")
    written = {path.name: path.read_bytes() for path in (cli.folder / "written").iterdir()}
    assert written["Dockerfile"].decode() == printed
    assert sorted(written) == ["Dockerfile", "framework.lock", "uv"]
    assert f"{name}=={version.replace('*', '0')}" in written["framework.lock"].decode()
    _, said = cli.both("render", "job.yaml", "--image", "--out", "written", code=2)
    assert "is there and not empty" in said
    _, said = cli.both("render", "job.yaml", "--image", "--hosts", "a", code=2)
    assert "an image is the same wherever it runs" in said
    index.close()


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({}, "the job runs in a virtual environment"),
        ({"image": "reg.example.org/theirs:1"}, "the job runs in `reg.example.org/theirs:1` as it is"),
        ({"dockerfile": "Dockerfile"}, "the job's image is built from its own `Dockerfile`"),
    ],
)
def test_a_job_without_an_image_of_ours_is_refused(cli: Tyard, fields: dict[str, str], why: str) -> None:
    (cli.folder / "Dockerfile").write_text("FROM scratch\n")
    cli.job("", **fields)
    _, said = cli.both("render", "job.yaml", "--image", code=2)
    assert why in said
