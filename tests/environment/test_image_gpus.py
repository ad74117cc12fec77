"""What of a machine's GPUs a run sees in an image: the driver's libraries, and what CDI files say."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from entering import run_folder, said_in
from services.nvidia_cdi import STAND_INS, UUIDS, cdi_file, ldconfig
from tensoryard import image_gpus
from tensoryard.environment import Environment
from tensoryard.image_gpus import DRIVER, driver_libraries, picked
from tensoryard.preparing import lay_out_yaml

pytestmark = pytest.mark.xdist_group("images")  # one worker makes what they share
Said = Callable[..., tuple[str, str]]


def test_the_driver_of_the_machine_is_found_among_its_libraries() -> None:
    listing = """610 libs found in cache `/etc/ld.so.cache'
	libnvidia-ml.so.1 (libc6,x86-64) => /lib/x86_64-linux-gnu/libnvidia-ml.so.1
	libcuda.so.1 (libc6,x86-64) => /lib/x86_64-linux-gnu/libcuda.so.1
	libcuda.so.1 (libc6) => /lib/i386-linux-gnu/libcuda.so.1
	libcudart.so.12 (libc6,x86-64) => /usr/local/cuda/lib64/libcudart.so.12
	libz.so.1 (libc6,x86-64) => /lib/x86_64-linux-gnu/libz.so.1
"""
    assert driver_libraries(listing) == {
        f"{DRIVER}/libnvidia-ml.so.1": "/lib/x86_64-linux-gnu/libnvidia-ml.so.1",
        f"{DRIVER}/libcuda.so.1": "/lib/x86_64-linux-gnu/libcuda.so.1",
    }


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, ["all"]),
        (
            {"SLURM_STEP_GPUS": "1", "CUDA_VISIBLE_DEVICES": "0"},
            ["1", UUIDS[1]],
        ),  # CUDA counts what the cgroup lets in
        ({"SLURM_JOB_GPUS": "0,1"}, ["0", UUIDS[0], "1", UUIDS[1]]),
        ({"CUDA_VISIBLE_DEVICES": UUIDS[0][:12]}, [UUIDS[0]]),
        ({"CUDA_VISIBLE_DEVICES": "0,7"}, ["all"]),
        ({"CUDA_VISIBLE_DEVICES": "MIG-of-nobody"}, ["all"]),
    ],
)
def test_the_devices_are_those_that_the_process_was_given(
    environ: dict[str, str], expected: list[str], tmp_path: Path
) -> None:
    devices = yaml.safe_load(cdi_file(tmp_path))["devices"]
    assert [one["name"] for one in picked(devices, environ)] == expected


@pytest.fixture
def machine(six_image: Environment) -> Iterator[Path]:
    """The folder of a run on it; below that its driver, and CDI files in etc-cdi and run-cdi."""
    with run_folder(six_image, use_gpu=True) as folder:
        for name in ("etc-cdi", "run-cdi", "devices"):
            (folder / name).mkdir()
        program = Path(image_gpus.__file__).read_text().replace('"/sbin/ldconfig"', f'"{ldconfig(folder)}"')
        for place, name in (("/etc/cdi", "etc-cdi"), ("/var/run/cdi", "run-cdi")):
            program = program.replace(f'"{place}"', f'"{folder / name}"')
        (folder / "launch" / "image_gpus.py").write_text(program)
        lay_out_yaml(folder)
        yield folder


@pytest.fixture
def said(machine: Path, six_image: Environment) -> Said:
    """What a line of Python says in the image of a run with `use_gpu` on that machine."""

    def said(shows: str, plain: bool = False, **environ: str) -> tuple[str, str]:
        return said_in(six_image, machine, shows, plain, STAND_INS, DEVICES=f"{machine}/devices", **environ)

    return said


def test_the_driver_of_the_machine_is_seen_in_the_image_and_cannot_be_written_to(said: Said, machine: Path) -> None:
    cdi_file(machine)
    shows = "path = os.environ['LD_LIBRARY_PATH']; print(path, open(path + '/libcuda.so.1').read())"
    assert said(shows) == (f"{DRIVER} the driver\n", "")
    assert "Read-only file system" in said(f"open('{DRIVER}/libcuda.so.1', 'w')")[1]


SHOWS = """
flags = os.statvfs('/usr/bin/nvidia-smi').f_flag, os.statvfs('/run/nvidia-persistenced/socket').f_flag
print(open('/usr/bin/nvidia-smi').read(), os.environ['NVIDIA_VISIBLE_DEVICES'], [flag & 15 for flag in flags])
# /lib is a link in the image; libraries come by the names that they are loaded by.
print(os.path.exists('/lib/firmware'), os.path.exists('/usr/lib/x86_64-linux-gnu/libcuda.so.550.54.15'))
with open('/dev/nvidia1', 'rb') as device: print(device.read(1))
"""


@pytest.mark.parametrize(("form", "plain"), [("json", False), ("yaml", True)])
def test_what_a_file_of_the_container_toolkit_says_is_there(
    said: Said, machine: Path, form: str, plain: bool
) -> None:
    """For root, and for one who has mounts only in a user namespace."""
    text = cdi_file(machine)
    if form == "json":
        (machine / "etc-cdi" / "nvidia.yaml").write_text("is not read: there is JSON")
        text = json.dumps(yaml.safe_load(text))
    (machine / "etc-cdi" / f"nvidia.{form}").write_text(text)
    assert said(SHOWS, plain) == ("a program void [7, 15]\nFalse False\nb'\\x00'\n", "")


def spec(machine: Path) -> Any:
    return yaml.safe_load(cdi_file(machine))


def test_a_device_that_is_not_there_is_named_and_only_where_it_is_the_run_s(said: Said, machine: Path) -> None:
    (machine / "etc-cdi" / "nvidia.yaml").write_text(cdi_file(machine))
    (told, reason) = said("print('runs')", GONE="nvidia0")
    assert f"use_gpu is set, and `/dev/nvidia0`, which {machine}/etc-cdi/nvidia.yaml names, is not there" in reason
    assert told == ""
    assert said("print('runs')", GONE="nvidia0", SLURM_STEP_GPUS="1") == ("runs\n", "")


def test_the_later_folder_holds_a_job_s_variables_stay_and_devices_go_by_other_names(
    said: Said, machine: Path
) -> None:
    (machine / "etc-cdi" / "nvidia.yaml").write_text("of an old driver, and not read")
    made = spec(machine)
    made["containerEdits"]["env"] += ["OF_THE_JOB=theirs", "OF_CDI=a=b"]
    made["devices"][-1]["containerEdits"]["deviceNodes"] += [{"path": "/dev/nvidia1", "hostPath": "/dev/full"}]
    made["containerEdits"]["hooks"] += [
        {"hookName": "createRuntime", "path": "/opt/theirs", "args": ["theirs", "-x"]}
    ]
    (machine / "run-cdi" / "theirs.json").write_text(json.dumps(made))
    (machine / "run-cdi" / "other.yaml").write_text("kind: vendor.com/net\n")
    told, word = said(
        "print(os.environ['OF_THE_JOB'], os.environ['OF_CDI'], os.minor(os.stat('/dev/nvidia1').st_rdev))"
    )
    assert told == "mine a=b 7\n"
    assert word == f"in_image.py: {machine}/run-cdi/theirs.json has a hook that is not run: theirs theirs -x\n"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{}", "KeyError: 'kind'"),
        ("kind: [", "ValueError: while parsing a flow node"),
        ("kind: nvidia.com/gpu", "KeyError: 'devices'"),
        ("kind: nvidia.com/gpu\ndevices: [{name: '0', containerEdits: {env: [A]}}]", "ValueError: "),
    ],
)
def test_what_is_no_file_of_cdi_is_said_to_be_none(said: Said, machine: Path, text: str, problem: str) -> None:
    cdi_file(machine)
    (machine / "etc-cdi" / "nvidia.yaml").write_text(text)
    word = said("print('runs')")[1]
    assert word.startswith(
        f"in_image.py: the image cannot be run in: {machine}/etc-cdi/nvidia.yaml is not a valid CDI file: {problem}"
    )
    assert "Traceback" not in word
