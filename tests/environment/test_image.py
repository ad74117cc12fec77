"""
The Dockerfile of an environment, and the names of images.

`tests/golden/image/<case>` holds the expected text of each; `pytest tests/environment/test_image.py --update-golden`
records them again and ends red.
"""

import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from tensoryard.environment.image import (
    ImageInputs,
    Reference,
    check_system_package,
    dockerfile,
    entries,
    parse_reference,
    shared_part,
)
from tensoryard.errors import JobError
from tensoryard.job import Job

GOLDEN = Path(__file__).parents[1] / "golden" / "image"
DIGEST = "sha256:" + "a1" * 32
TENSORFLOW = """\
tensorflow-cpu==2.15.1 \\
    --hash=sha256:01 \\
    --hash=sha256:02
wrapt==1.14.1 \\
    --hash=sha256:03
"""
PILLOW = "pillow==11.0.0 \\\n    --hash=sha256:04\n"
PLAIN = ImageInputs(
    name="tensorflow-2.15",
    python="3.11",
    base_name="docker.io/library/python:3.11-slim-bookworm",
    base=f"docker.io/library/python@{DIGEST}",
    requirements=TENSORFLOW,
    framework=TENSORFLOW,
)
CASES = {
    "plain": PLAIN,
    "packages": msgspec.structs.replace(
        PLAIN, requirements=PILLOW + TENSORFLOW, system_packages=("ffmpeg", "libgomp1=12.2.0-14")
    ),
    "packages-that-change-tensorflow": msgspec.structs.replace(PLAIN, requirements=PILLOW, framework=""),
    "horovod": msgspec.structs.replace(
        PLAIN,
        name="tensorflow-2.15+horovod",
        mpi=True,
        wheel="0bd3dcd5/horovod-0.28.1-cp311-cp311-linux_x86_64.whl",
        requirements=PILLOW + TENSORFLOW,
    ),
    "horovod-of-the-base": msgspec.structs.replace(
        PLAIN,
        name="tensorflow-2.15+horovod",
        mpi=True,
        horovod="horovod==0.28.1 --hash=sha256:05",
        requirements=PILLOW + TENSORFLOW,
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_dockerfiles_are_the_golden_ones(case: str, update_golden: bool) -> None:
    path, found = GOLDEN / f"{case}.Dockerfile", dockerfile(CASES[case])
    expected = path.read_text(encoding="utf-8") if path.exists() else ""
    if update_golden and expected != found:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(found, encoding="utf-8")
        print(f"recorded {path}")
    assert expected == found, "if that is meant: pytest tests/environment/test_image.py --update-golden"


def test_no_golden_is_left_unused() -> None:
    assert sorted(path.stem for path in GOLDEN.iterdir()) == sorted(CASES)


def test_every_dockerfile_is_what_hadolint_asks_for() -> None:
    files = [str(GOLDEN / f"{case}.Dockerfile") for case in CASES]
    program = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([program, *files], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_all_that_an_image_is_made_of_is_in_its_key() -> None:
    keys = {
        PLAIN.key,
        *(inputs.key for inputs in CASES.values()),
        msgspec.structs.replace(PLAIN, base=PLAIN.base.replace("a1", "b2")).key,
        msgspec.structs.replace(PLAIN, requirements=TENSORFLOW.replace("03", "05"), framework="").key,
        msgspec.structs.replace(CASES["horovod"], wheel="1/horovod-0.28.1-cp311-cp311-linux_x86_64.whl").key,
    }
    assert len(keys) == len(CASES) + 3
    assert msgspec.structs.replace(PLAIN).key == PLAIN.key


def test_the_lock_of_tensorflow_is_a_layer_that_other_jobs_share() -> None:
    inputs = CASES["packages"]
    assert [file.text for file in inputs.locks()] == [TENSORFLOW, PILLOW]
    assert inputs.locks()[0] == PLAIN.locks()[0]


def test_a_lock_that_needs_another_version_of_a_shared_package_is_one_layer() -> None:
    other = TENSORFLOW.replace("1.14.1", "1.14.0")
    assert shared_part(PILLOW + TENSORFLOW, TENSORFLOW) == TENSORFLOW
    assert shared_part(PILLOW + other, TENSORFLOW) == ""
    assert "".join(entries(PILLOW + other)) == PILLOW + other


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("python:3.11", Reference("docker.io", "library/python", "3.11", "")),
        ("bitnami/python", Reference("docker.io", "bitnami/python", "latest", "")),
        ("localhost:5000/base", Reference("localhost:5000", "base", "latest", "")),
        ("my.azurecr.io/team/base:2", Reference("my.azurecr.io", "team/base", "2", "")),
        (f"my.azurecr.io/base:2@{DIGEST}", Reference("my.azurecr.io", "base", "2", DIGEST)),
        (f"python@{DIGEST}", Reference("docker.io", "library/python", "", DIGEST)),
    ],
)
def test_an_image_is_named_as_docker_names_it(text: str, expected: Reference) -> None:
    assert expected == parse_reference(text, "image")


@pytest.mark.parametrize(
    "text", ["", "https://a.io/b", "Python", "a b", "a:b:c", "a@sha256:12", "a.io/b:c d", "$(x)/y", "a\nRUN b"]
)
def test_what_is_no_image_is_refused(text: str) -> None:
    with pytest.raises(JobError, match="base_image: got"):
        parse_reference(text, "base_image")


@pytest.mark.parametrize("name", ["", "-y", "ffmpeg && reboot", "ffmpeg\nRUN x", "FFmpeg", "a b"])
def test_what_is_no_debian_package_is_refused(name: str) -> None:
    with pytest.raises(JobError, match="system_packages: got"):
        check_system_package(name)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"runtime": "venv", "base_image": "python"}, "base_image: is for images, and `runtime: venv` asks for none"),
        ({"runtime": "venv", "system_packages": ("git",)}, "system_packages: is for images"),
        ({"image": "python", "pip_packages": ("six",)}, "pip_packages: `image` is given too"),
        ({"image": "python", "python_version": "3.11"}, "python_version: `image` is given too"),
        ({"image": "python", "base_image": "python"}, "base_image: `image` is given too"),
        ({"image": "Python"}, "image: got `Python`"),
        ({"image": "python", "dockerfile": "Dockerfile"}, "dockerfile: `image` is given too"),
        ({"dockerfile": "Dockerfile", "pip_packages": ("six",)}, "pip_packages: `dockerfile` is given too"),
        (
            {"dockerfile": "../Dockerfile"},
            "dockerfile: got `../Dockerfile`, it must be a path inside source_directory",
        ),
        ({"dockerfile": "Dockerfile", "runtime": "venv"}, "dockerfile: is for images"),
        ({"system_packages": ("a b",)}, "system_packages: got `a b`"),
        ({"runtime": "image", "conda_packages": ("numpy",)}, "conda_packages: images are built without conda"),
    ],
)
def test_fields_that_contradict_each_other_are_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises(JobError) as raised:
        Job(experiment="e", entry_script="train.py", **fields)  # type: ignore[arg-type]
    assert message in raised.value.message


def test_a_job_runs_in_an_image_where_it_describes_one() -> None:
    def job(**fields: object) -> Job:
        return Job(experiment="e", entry_script="train.py", **fields)  # type: ignore[arg-type]

    assert not job().in_image
    assert job().environment_spec().image is None
    assert job(runtime="image").in_image
    assert job(system_packages=("git",)).in_image
    described = job(base_image="python", system_packages=("git",)).environment_spec().image
    assert described is not None
    assert (described.base, described.system_packages, described.existing) == ("python", ("git",), "")
