"""Horovod's wheel in an image: compiled by the first machine of a workspace that needs it, taken up by the others."""

import hashlib
from pathlib import Path
from typing import Any

import msgspec
import pytest

from services.base_image import push_image
from services.images import variant
from services.small_images import Image, layer
from tensoryard.environment import ImageSpec, horovod, shared_wheels
from tensoryard.environment.base_libc import base_libc, loads_in
from tensoryard.environment.horovod import Wheel, WheelInputs
from tensoryard.environment.image_builder import ImageBuilder
from tensoryard.environment.image_environment import of_inputs
from tensoryard.environment.interpreter import describe, find
from tensoryard.environment.spec import Recipe
from tensoryard.environment.venv import VenvBuilder
from tensoryard.errors import VerificationError
from tensoryard.store import Store, keys

pytestmark = pytest.mark.xdist_group("images")  # one worker makes what they share
COMPILED = b"compiled"
SHA256 = hashlib.sha256(COMPILED).hexdigest()
DPKG = b"""Package: libc-bin
Status: install ok installed
Version: 2.30-1

Package: libc6
Status: install ok installed
Architecture: amd64
Version: 2.36-9+deb12u10

"""
# What plays TensorFlow; its wheel is a file that nobody installs.
WANTED = Recipe(name="h", python="3.11", requirements=("six==1.16.0",), horovod_for="six")


def test_a_second_machine_makes_the_image_of_a_horovod_job_without_compiling(
    store: Store, image_registry: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where one died between its wheel and the record of it. The compiler is stood in for: it takes minutes."""
    base = ImageSpec(base=f"{image_registry}/wheels/bare:1")
    push_image(base.base, variant([], b"bare\n"))
    compiled: list[str] = []

    def build(work: Path, target: Path, inputs: WheelInputs, *_: object) -> Wheel:
        compiled.append(inputs.key)
        target.mkdir()
        (target / "horovod.whl").write_bytes(COMPILED)
        made = Wheel(inputs=inputs, file="horovod.whl", sha256=SHA256)
        (target / "wheel.json").write_bytes(msgspec.json.encode(made))
        return made

    monkeypatch.setattr(horovod, "_build", build)
    interpreter = describe(find("3.11", tmp_path, print))
    key = horovod.wheel_inputs("six", "1.16.0", interpreter, use_gpu=False).key
    store.put(keys.horovod_wheel(key, SHA256), COMPILED)

    one, other = (ImageBuilder(VenvBuilder(tmp_path / where), "", store) for where in ("one", "other"))
    inputs = one.inputs(WANTED, base, print)
    assert inputs == other.inputs(WANTED, base, print)
    other.write_context(inputs, tmp_path / "context", print)
    assert (tmp_path / "context" / inputs.wheel).read_bytes() == COMPILED
    other.update(WANTED, base, print)  # locks and looks for the wheel anew
    assert compiled == [key]


@pytest.mark.parametrize(
    ("changed", "value"),
    [
        ("describe", lambda python: msgspec.structs.replace(describe(python), libc="glibc-2.39")),
        ("horovod.missing_tools", lambda: ["cmake"]),
        ("horovod._mpi_version", lambda: None),
    ],
)
def test_horovod_is_compiled_on_the_base_where_this_machine_s_would_not_do(
    image_registry: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed: str, value: Any
) -> None:
    """Its C library is newer than the base's, or it has no compiler or no MPI, as the head of a cluster on Azure."""
    monkeypatch.setattr(horovod, "ensure_wheel", lambda *_: pytest.fail("it is compiled here"))
    monkeypatch.setattr(f"tensoryard.environment.{'image_inputs.' * (changed == 'describe')}{changed}", value)
    # With more on top, as in bases of gigabytes.
    name = f"{image_registry}/wheels/older:1"
    push_image(name, variant([layer(("var/lib", None), ("var/lib/dpkg/status", DPKG))], b"more\n"))
    builder = ImageBuilder(VenvBuilder(tmp_path / "cache"), "")
    inputs = builder.inputs(WANTED, ImageSpec(base=name), print)
    assert (inputs.wheel, inputs.mpi, inputs.horovod.partition(" ")[0]) == ("", True, "horovod==0.28.1")
    assert of_inputs(inputs).horovod == "0.28.1"
    builder.write_context(inputs, tmp_path / "context", print)
    assert "AS horovod\n" in (tmp_path / "context" / "Dockerfile").read_text()


@pytest.mark.parametrize(
    ("layers", "found"),
    [
        ([layer(("bin/sh", b"")), layer(("./var/lib/dpkg/status", DPKG))], "2.36"),
        ([layer(("var/lib/dpkg/status", b"Package: dpkg\nVersion: 1.21\n"))], ""),
        ([b"of another kind than tar"], ""),
    ],
)
def test_the_c_library_of_a_base_is_read_of_its_packages(layers: list[bytes], found: str) -> None:
    image = Image(*layers)
    assert base_libc(image, image.digest) == found
    assert [loads_in(ours, found) for ours in ("glibc-2.36", "glibc-2.39")] == [True, not found]


def test_a_wheel_that_was_changed_in_the_store_is_refused(store: Store, tmp_path: Path) -> None:
    made_from = WheelInputs(
        horovod="1", distribution="t", tensorflow="2", abi="a", platform="p", libc="l", mpi=None, flags=()
    )
    wheel = Wheel(inputs=made_from, file="horovod.whl", sha256=SHA256)
    store.put(keys.horovod_wheel(made_from.key, SHA256), b"changed!")
    store.put(keys.horovod_wheel(made_from.key, "wheel.json"), msgspec.json.encode(wheel))
    with pytest.raises(VerificationError):
        shared_wheels.bring(store, tmp_path / "cache", made_from.key, print)
    assert [path for path in tmp_path.rglob("*.whl") if path.is_file() and "cache" in path.parts] == []
