"""What a job may ask of its environment, and how it is told when it may not."""

import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tensoryard.environment import EnvironmentSpec
from tensoryard.environment.spec import (
    Way,
    default_python,
    environment_spec,
    in_words,
    recipe,
    requirement_name,
    requirements_file,
    without_comment,
)
from tensoryard.errors import JobError


@pytest.mark.parametrize(
    ("way", "tensorflow", "horovod"),
    [
        ("single", "2.21", False),
        ("mpi", "2.15", True),
        ("parameter_server", "2.15", False),
        ("multi_worker_mirrored", "2.15", False),
    ],
)
def test_each_way_of_running_has_its_curated_tensorflow(way: Way, tensorflow: str, horovod: bool) -> None:
    spec = environment_spec(way=way)

    assert (tensorflow, horovod) == (spec.tensorflow, spec.horovod)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"way": "mpi", "framework_version": "2.16"}, ["framework_version: got 2.16", "Horovod 0.28.1", "2.15"]),
        ({"way": "single", "framework_version": "1.13"}, ["framework_version: got 1.13", "2.12 to 2.21"]),
        ({"way": "single", "framework_version": "2.22"}, ["framework_version: got 2.22", "2.12 to 2.21"]),
        ({"way": "single", "framework_version": "2.15; x"}, ["framework_version: got 2.15; x"]),
        (
            {"way": "single", "framework_version": "2.15", "python_version": "3.12"},
            ["python_version: got 3.12", "TensorFlow 2.15", "3.9 to 3.11"],
        ),
        ({"way": "single", "python_version": "3.9"}, ["python_version: got 3.9", "3.10 to 3.13"]),
        ({"way": "single", "python_version": "3"}, ["python_version: got 3,"]),
        ({"way": "single", "pip_packages": ("tensorflow==2.14",)}, ["pip_packages: got `tensorflow==2.14`"]),
        ({"way": "single", "pip_packages": ("TensorFlow_CPU",)}, ["pip_packages: got `TensorFlow_CPU`"]),
        ({"way": "mpi", "pip_packages": ("horovod==0.27",)}, ["pip_packages: got `horovod==0.27`", "0.28.1"]),
        ({"way": "single", "pip_packages": ("horovod",)}, ["framework_version: got 2.21", "Horovod"]),
        ({"way": "single", "pip_packages": ("numpy=>1",)}, ["pip_packages: got `numpy=>1`"]),
        ({"way": "single", "pip_packages": ("-e .",)}, ["pip_packages: got `-e .`"]),
        ({"way": "single", "pip_packages": ("x @ git+https://host/x",)}, ["no digest to pin"]),
    ],
)
def test_what_cannot_work_is_refused_with_the_field_and_the_rule(fields: dict[str, object], said: list[str]) -> None:
    with pytest.raises(JobError) as refused:
        environment_spec(**fields)  # type: ignore[arg-type]

    assert [part for part in said if part not in refused.value.message] == []


def test_horovod_among_the_packages_asks_for_ours() -> None:
    spec = environment_spec(
        way="single", framework_version="2.15", pip_packages=("horovod[tensorflow]==0.28.1", "tqdm")
    )

    assert (spec.horovod, spec.pip_packages) == (True, ("tqdm",))


def test_the_python_is_our_own_where_tensorflow_has_wheels_for_it() -> None:
    own = sys.version_info.minor

    assert f"3.{own if own <= 13 else 13}" == default_python("2.21")
    assert f"3.{own if own <= 11 else 11}" == default_python("2.15.1")


def test_the_order_of_packages_does_not_matter() -> None:
    first = environment_spec(way="single", pip_packages=("tqdm", "attrs"))
    second = environment_spec(way="single", pip_packages=("attrs", "tqdm", "attrs"))

    assert recipe(first) == recipe(second)


@pytest.mark.parametrize(
    ("system", "machine", "use_gpu", "requirement", "excluded"),
    [
        ("linux", "x86_64", False, "tensorflow-cpu==2.15.1", ("tensorflow",)),
        ("linux", "aarch64", False, "tensorflow==2.15.1", ()),
        ("darwin", "arm64", False, "tensorflow==2.15.1", ()),
        ("linux", "x86_64", True, "tensorflow[and-cuda]==2.15.1", ()),
    ],
)
def test_the_distribution_of_tensorflow_follows_the_machine(
    monkeypatch: pytest.MonkeyPatch,
    system: str,
    machine: str,
    use_gpu: bool,
    requirement: str,
    excluded: tuple[str, ...],
) -> None:
    monkeypatch.setattr("sys.platform", system)
    monkeypatch.setattr("platform.machine", lambda: machine)

    made = recipe(EnvironmentSpec(tensorflow="2.15.1", python="3.11", use_gpu=use_gpu))

    assert (requirement, excluded) == (made.base[0], made.excluded)


def test_a_requirements_file_is_read_with_its_lines(tmp_path: Path) -> None:
    file = tmp_path / "requirements.txt"
    file.write_text(
        "# training\nnumpy>=1.23 # arrays\n\nscikit-learn \\\n  ==1.5.2\npillow ; python_version < '3.12'\n"
    )

    entries = requirements_file(file)

    assert entries == (
        "numpy>=1.23  # requirements.txt line 2",
        "scikit-learn   ==1.5.2  # requirements.txt line 4",
        "pillow ; python_version < '3.12'  # requirements.txt line 6",
    )
    assert [requirement_name(entry) for entry in entries] == ["numpy", "scikit-learn", "pillow"]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("-r more.txt", "another file is not followed"),
        ("--requirement=more.txt", "another file is not followed"),
        ("-c bounds.txt", "constraints are not supported"),
        ("-e ./mine", "editable"),
        ("--index-url https://host/simple", "set by uv's own settings"),
        ("six==1.17.0 --hash=sha256:00", "digests are not read"),
        ("./mine", "allowed is one requirement"),
    ],
)
def test_a_line_that_is_not_supported_is_named_with_its_place(tmp_path: Path, line: str, said: str) -> None:
    file = tmp_path / "requirements.txt"
    file.write_text(f"six\n{line}\n")

    with pytest.raises(JobError) as refused:
        requirements_file(file)

    assert refused.value.message.startswith(f"{file}:2: got `{line}`")
    assert said in refused.value.message


def test_a_requirements_file_that_is_not_there_is_a_job_error(tmp_path: Path) -> None:
    with pytest.raises(JobError, match="pip_requirements_file: cannot read"):
        requirements_file(tmp_path / "absent.txt")


@given(st.text())
def test_any_text_is_a_requirement_or_refused(text: str) -> None:
    try:
        name = requirement_name(text)
    except JobError:
        return

    assert name == name.lower()
    assert len(without_comment(text).splitlines()) == 1


def test_an_environment_is_told_in_words() -> None:
    made = environment_spec(
        way="mpi", python_version="3.11", pip_packages=("numpy  # r.txt line 1",), conda_packages=("zlib",)
    )
    assert in_words(made) == "tensorflow-2.15+horovod for Python 3.11 with numpy and zlib from conda-forge"
