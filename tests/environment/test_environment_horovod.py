"""Horovod's wheel goes by what it was compiled against, and never comes from uv's own cache."""

import hashlib
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import msgspec
import pytest

from tensoryard.environment import Environment, horovod
from tensoryard.environment.interpreter import Interpreter, describe, find
from tensoryard.environment.spec import Recipe
from tensoryard.environment.venv import VenvBuilder
from tensoryard.errors import EnvironmentBuildError

OWN = f"{sys.version_info.major}.{sys.version_info.minor}"
LINUX = Interpreter(version="3.11.7", abi="cpython-311-x86_64-linux-gnu", platform="linux-x86_64", libc="glibc-2.36")


def publish(cache: Path, against: str, interpreter: Interpreter) -> horovod.Wheel:
    """A stand-in for a compiled wheel, which knows what it was compiled against; six plays TensorFlow."""
    inputs = horovod.wheel_inputs("six", against, interpreter, use_gpu=False)
    folder = cache / "wheels" / "horovod" / inputs.key
    folder.mkdir(parents=True)
    file = folder / "horovod-0.28.1-py3-none-any.whl"
    with zipfile.ZipFile(file, "w") as wheel:
        wheel.writestr("horovod/__init__.py", f"AGAINST = {against!r}\n")
        info = "horovod-0.28.1.dist-info"
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: horovod\nVersion: 0.28.1\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(
            f"{info}/RECORD", f"horovod/__init__.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n"
        )
    record = horovod.Wheel(inputs=inputs, file=file.name, sha256=hashlib.sha256(file.read_bytes()).hexdigest())
    (folder / "wheel.json").write_bytes(msgspec.json.encode(record))
    return record


def recipe(against: str) -> Recipe:
    return Recipe(name="h", python=OWN, requirements=(f"six=={against}",), horovod_for="six")


def run(environment: Environment, code: str) -> str:
    argv = [environment.python, "-c", code]
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout.strip()


def test_each_input_makes_another_key(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def key(distribution: str = "tensorflow-cpu", release: str = "2.15.1", interpreter: Interpreter = LINUX) -> str:
        return horovod.wheel_inputs(distribution, release, interpreter, use_gpu=False).key

    keys = [
        key(),
        key(release="2.14.1"),
        key(distribution="tensorflow"),
        key(interpreter=msgspec.structs.replace(LINUX, abi="cpython-310-x86_64-linux-gnu")),
        key(interpreter=msgspec.structs.replace(LINUX, libc="glibc-2.31")),
    ]
    monkeypatch.setenv("PATH", str(tmp_path))
    without_mpi = key()

    assert len({*keys, without_mpi}) == 6
    assert without_mpi == key(interpreter=msgspec.structs.replace(LINUX, version="3.11.9"))


def test_two_tensorflows_get_their_own_wheels_from_our_files(tmp_path: Path) -> None:
    """uv would hand the wheel it installed first to the second, as name and release are the same."""
    interpreter = describe(find(OWN, tmp_path, lambda line: None))
    wheels = {against: publish(tmp_path, against, interpreter) for against in ("1.16.0", "1.17.0")}
    builder = VenvBuilder(tmp_path)

    built = {against: builder.ensure_recipe(recipe(against), lambda line: None) for against in wheels}

    source = "import importlib.metadata as m; print(m.distribution('horovod').read_text('direct_url.json'))"
    for against, environment in built.items():
        assert run(environment, "import horovod; print(horovod.AGAINST)") == against
        assert json.loads(run(environment, source))["url"].endswith(
            f"/wheels/horovod/{wheels[against].inputs.key}/horovod-0.28.1-py3-none-any.whl"
        )
    assert wheels["1.16.0"].inputs.key != wheels["1.17.0"].inputs.key
    assert built["1.16.0"].hash != built["1.17.0"].hash
    assert built["1.16.0"].horovod == "0.28.1"


def test_another_mpi_on_the_path_gets_an_environment_of_its_own(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What was compiled for one MPI does not start under another's mpirun."""
    path = os.environ["PATH"]

    def load(mpi: str) -> None:
        monkeypatch.setenv("PATH", f"{tmp_path / mpi}{os.pathsep}{path}")

    interpreter = describe(find(OWN, tmp_path, lambda line: None))
    builder, wanted, built = VenvBuilder(tmp_path), recipe("1.16.0"), {}
    for mpi in ("4.1.4", "5.0.1"):
        (tmp_path / mpi).mkdir()
        for tool in ("mpicxx", "mpirun"):
            (tmp_path / mpi / tool).write_text(f"#!/bin/sh\necho 'mpirun (Open MPI) {mpi}'\n")
            (tmp_path / mpi / tool).chmod(0o755)
        load(mpi)
        publish(tmp_path, "1.16.0", interpreter)

        assert builder.find_recipe(wanted) is None

        built[mpi] = builder.ensure_recipe(wanted, lambda line: None)

    for mpi, environment in built.items():
        load(mpi)
        assert builder.find_recipe(wanted) == environment
        assert environment.mpi == f"mpirun Open MPI {mpi}"
    assert built["4.1.4"].lock_sha256 == built["5.0.1"].lock_sha256
    builder.update(wanted, lambda line: None)
    assert builder.find_recipe(wanted) == built["5.0.1"]


def test_a_wheel_with_other_bytes_than_were_built_is_refused(tmp_path: Path) -> None:
    wheel = publish(tmp_path, "1.16.0", describe(find(OWN, tmp_path, lambda line: None)))
    with (tmp_path / "wheels" / "horovod" / wheel.inputs.key / wheel.file).open("ab") as file:
        file.write(b"more")

    with pytest.raises(EnvironmentBuildError, match="not the ones that were built"):
        VenvBuilder(tmp_path).ensure_recipe(recipe("1.16.0"), lambda line: None)


def test_a_missing_compiler_is_told_with_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    inputs = horovod.wheel_inputs("tensorflow-cpu", "2.15.1", LINUX, use_gpu=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("sys.platform", "linux")

    with pytest.raises(EnvironmentBuildError, match=r"`cmake`, `g\+\+`, `make` are not on PATH") as refused:
        horovod.ensure_wheel(tmp_path, inputs, Path(sys.executable), use_gpu=False, log=lambda line: None)

    assert refused.value.hint == "sudo apt-get install cmake g++ make libopenmpi-dev openmpi-bin"


def test_no_mpi_compiler_means_gloo_alone_and_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for tool in ("cmake", "g++", "make"):
        (tmp_path / tool).write_text("#!/bin/false\n")
        (tmp_path / tool).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    inputs = horovod.wheel_inputs("tensorflow-cpu", "2.15.1", LINUX, use_gpu=True)
    lines: list[str] = []

    horovod.check_tools(inputs, use_gpu=True, log=lines.append)

    assert inputs.mpi is None
    assert {"HOROVOD_WITHOUT_MPI=1", "HOROVOD_WITH_GLOO=1"} < {*inputs.flags}
    assert lines[0].startswith("no MPI compiler on PATH, so Horovod gets Gloo only")
    assert lines[1].startswith("no CUDA toolkit with NCCL's header on this machine")
