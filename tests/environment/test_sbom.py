"""The SBOM of an environment: a valid CycloneDX document of exactly what a look inside finds."""

import json
import sys
from importlib import resources
from pathlib import Path
from typing import Any

import fastjsonschema
import pytest
from click.testing import CliRunner
from packageurl import PackageURL

from launching import Yard
from services.images import SIX, OneImage
from tensoryard.cli.env import env
from tensoryard.environment import Environment, ImageSpec
from tensoryard.environment.image_builder import ImageBuilder
from tensoryard.environment.sbom import bill_of_materials
from tensoryard.environment.spec import Recipe
from tensoryard.environment.venv import VenvBuilder
from tensoryard.errors import NotFoundError, UsageError

OWN = f"{sys.version_info.major}.{sys.version_info.minor}"
LOOK_INSIDE = """
import json, subprocess, sys
say = "import importlib.metadata as m, json; print(json.dumps([(d.name, d.version) for d in m.distributions()]))"
pythons = [sys.executable, "/usr/bin/python3"]
packages = [one for python in pythons for one in json.loads(subprocess.check_output([python, "-c", say]))]
query = ["dpkg-query", "--show", "--showformat", "${db:Status-Status} ${Package} ${Version} ${Architecture}\\n"]
lines = [line.split() for line in subprocess.check_output(query, text=True).splitlines()]
debs = [line[1:] for line in lines if line[0] == "installed"]
json.dump({"pypi": packages, "deb": debs}, open("outputs/inside.json", "w"))
"""


def schema(uri: str) -> Any:
    """CycloneDX's own, out of its library: nothing is fetched."""
    name = uri.rpartition("/")[2].replace(".SNAPSHOT", "").replace(".schema.json", ".SNAPSHOT.schema.json")
    return json.loads(resources.files("cyclonedx.schema").joinpath("_res", name).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def check() -> Any:
    return fastjsonschema.compile(schema("bom-1.6.schema.json"), handlers={"http": schema}, use_default=False)


def of_kind(document: dict[str, Any], kind: str) -> set[tuple[str, ...]]:
    found = [PackageURL.from_string(one["purl"]) for one in document["components"]]
    return {
        (one.name, one.version or "", *([one.qualifiers["arch"]] if kind == "deb" else []))
        for one in found
        if one.type == kind
    }


@pytest.mark.xdist_group("images")
@pytest.mark.parametrize("yard", ["folder"], indirect=True)
def test_the_sbom_of_an_image_is_what_a_look_inside_finds(
    yard: Yard, six_image: Environment, images: ImageBuilder, check: Any
) -> None:
    run = yard.submit(LOOK_INSIDE, runtime="image")
    yard.controller(builder=OneImage(six_image)).serve()
    inside = yard.record(run, "outputs/inside.json")

    document = bill_of_materials(six_image, images.lock(six_image), "1")

    check(document)
    assert {tuple(one) for one in inside["deb"]} == of_kind(document, "deb")
    assert {tuple(one) for one in inside["pypi"]} == of_kind(document, "pypi")
    assert {("six", "1.16.0")} == of_kind(document, "pypi")
    assert ("tyard-greeting", "1.0", "all") in of_kind(document, "deb")
    assert document["metadata"]["component"]["version"] == six_image.image.partition("@")[2]
    assert document == bill_of_materials(six_image, images.lock(six_image), "1")


@pytest.mark.xdist_group("images")
def test_every_package_url_is_written_as_its_standard_does(six_image: Environment, images: ImageBuilder) -> None:
    document = bill_of_materials(six_image, images.lock(six_image), "1")
    for one in [document["metadata"]["component"], *document["components"]]:
        assert PackageURL.from_string(one["purl"]).to_string() == one["purl"]


@pytest.mark.xdist_group("images")
def test_digests_are_those_of_the_lock(six_image: Environment, images: ImageBuilder) -> None:
    document = bill_of_materials(six_image, images.lock(six_image), "1")
    (six,) = [one for one in document["components"] if one["name"] == "six"]
    assert len(six["hashes"]) == images.lock(six_image).count("--hash=sha256:") > 0
    assert all(f"sha256:{one['content']}" in images.lock(six_image) for one in six["hashes"])


def test_the_command_prints_that_of_a_virtual_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, check: Any
) -> None:
    monkeypatch.setenv("TYARD_CACHE", str(tmp_path / "cache"))
    # setuptools has copies of other packages inside.
    wanted = Recipe(name="two", python=OWN, requirements=("jinja2==3.1.6", "setuptools==80.9.0"))
    built = VenvBuilder().ensure_recipe(wanted, print)

    done = CliRunner().invoke(env, ["show", "two", "--sbom"], catch_exceptions=False)
    document = json.loads(done.stdout)

    check(document)
    assert {(one.name.lower(), one.version) for one in built.packages} == of_kind(document, "pypi")
    assert {("python", built.python_version)} == of_kind(document, "generic")
    assert all(one["hashes"] for one in document["components"] if one["name"] != "python")


def test_a_job_file_names_its_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TYARD_CACHE", str(tmp_path / "cache"))
    (tmp_path / "train.py").touch()
    job = tmp_path / "job.yaml"
    job.write_text("experiment: digits\nentry_script: train.py\n")

    def show(*options: str) -> None:
        CliRunner().invoke(env, ["show", str(job), *options], catch_exceptions=False, standalone_mode=False)

    with pytest.raises(NotFoundError, match="is not on this machine") as raised:
        show("--sbom")
    assert raised.value.hint == f"`tyard env build {job}` builds it"
    with pytest.raises(UsageError, match="give one of"):
        show("--sbom", "--json")


@pytest.mark.xdist_group("images")
def test_what_is_in_an_image_of_others_is_found_without_a_lock(
    images: ImageBuilder, base_image: str, check: Any
) -> None:
    theirs = images.ensure_recipe(SIX, ImageSpec(existing=base_image), print)
    document = bill_of_materials(theirs, images.lock(theirs), "1")
    check(document)
    assert set() == of_kind(document, "pypi")
    assert "python3" in {name for name, *_ in of_kind(document, "deb")}
