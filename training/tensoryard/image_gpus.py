"""
What of the machine's NVIDIA GPUs belongs into an image: the driver's libraries, and what CDI files say.

Standard library only: it lies beside `in_image.py` on the node. There PyYAML lies too, as most CDI files are YAML.
Source: https://github.com/cncf-tags/container-device-interface/blob/main/SPEC.md,
https://docs.nvidia.com/datacenter/cloud-native/container-toolkit/latest/cdi-support.html
"""

from __future__ import annotations

import json
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Any

LDCONFIG = "/sbin/ldconfig"
DRIVER = "/opt/nvidia-of-the-machine"
# A later one holds over an earlier one, as CDI wants it; nodes of a workspace fill the last at every boot.
CDI = ("/etc/cdi", "/var/run/cdi", "/run/tensoryard/cdi")
KIND = "nvidia.com/gpu"
# Who says which GPUs are this process's. Slurm's numbers are those of /dev/nvidia<n>; CUDA's are from 0 in a cgroup.
PICKED_BY = ("SLURM_STEP_GPUS", "SLURM_JOB_GPUS", "CUDA_VISIBLE_DEVICES")
# The flags of mount(2) for what CDI's mounts ask; how they propagate is settled: by no way.
OPTIONS = {"ro": 1, "nosuid": 2, "nodev": 4, "noexec": 8}
READ_ONLY = OPTIONS["ro"] | OPTIONS["nosuid"] | OPTIONS["nodev"]
# NVIDIA's hooks that leave nothing to do: libraries are found by LD_LIBRARY_PATH, /dev and /proc are the machine's.
DONE_OTHERWISE = (
    "update-ldcache",
    "create-symlinks",
    "create-soname-symlinks",
    "chmod",
    "disable-device-node-modification",
    "enable-cuda-compat",  # not done at all: the machine's driver comes first, with what its own CUDA can do
)


class NoGpuError(OSError):
    """Why GPUs cannot be used in the image, in words."""


class Gpus:
    """
    What an image gets: (file of the machine, flags of mount) by the place in the image, and variables.

    libraries: of the driver; mounts: of CDI; devices: those of CDI that the machine has by another name.
    """

    def __init__(self, libraries: Mapping[str, str]) -> None:
        self.libraries = {place: (source, READ_ONLY) for place, source in libraries.items()}
        self.mounts: dict[str, tuple[str, int]] = {}
        self.devices: dict[str, tuple[str, int]] = {}
        self.variables: dict[str, str] = {}


def of_the_machine(environ: Mapping[str, str]) -> Gpus:
    """The GPUs of this process. Raises NoGpuError where the driver, or a device that is named, is not there."""
    import subprocess  # takes longer than all else here

    said = subprocess.run([LDCONFIG, "-p"], capture_output=True, text=True, check=False).stdout
    gpus = Gpus(driver_libraries(said))
    for name, spec in described(CDI):
        try:
            add(gpus, name, spec, environ)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise NoGpuError(f"{name} is not a valid CDI file: {type(error).__name__}: {error}") from None
    return gpus


def driver_libraries(listing: str) -> dict[str, str]:
    """
    The libraries of the NVIDIA driver, by their places in an image: a driver cannot be part of one.

    listing: what `ldconfig -p` prints. Those of 32 bits are left out: they come last and have the same names.
    """
    found: dict[str, str] = {}
    for line in listing.splitlines():
        name, arrow, path = line.strip().partition(" => ")
        name = name.partition(" ")[0]
        if arrow and name.startswith(("libcuda.so", "libcudadebugger.so", "libnvidia-", "libnvcuvid.so")):
            found.setdefault(f"{DRIVER}/{name}", path)
    if f"{DRIVER}/libcuda.so.1" not in found:
        # TensorFlow would train on the CPU and say so in one line of many.
        raise NoGpuError(f"use_gpu is set, and `{LDCONFIG} -p` has no libcuda.so.1")
    return found


def described(folders: Sequence[str]) -> list[tuple[str, Any]]:
    """The CDI files of NVIDIA's GPUs, by name: of the last folder that has any, and not in YAML where it has JSON."""
    for folder in reversed(folders):
        names = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
        for endings in ((".json",), (".yaml", ".yml")):
            paths = [os.path.join(folder, name) for name in names if name.endswith(endings)]
            found = [(path, spec) for path in paths if (spec := spec_of(path))["kind"] == KIND]
            if found:
                return found
    return []


def spec_of(name: str) -> Any:
    """What a CDI file says, at least of what kind it is."""
    try:
        with open(name, encoding="utf-8") as file:
            if name.endswith(".json"):
                spec = json.load(file)
            else:
                import yaml

                try:
                    spec = yaml.safe_load(file)
                except yaml.YAMLError as error:
                    raise ValueError(" ".join(str(error).split())) from None
        if not isinstance(spec["kind"], str):
            raise TypeError("its kind is no text")
    except (ValueError, KeyError, TypeError) as error:
        raise NoGpuError(f"{name} is not a valid CDI file: {type(error).__name__}: {error}") from None
    return spec


def add(gpus: Gpus, name: str, spec: Any, environ: Mapping[str, str]) -> None:
    """What a CDI file says of the GPUs of this process, and of all."""
    edits_of = [spec.get("containerEdits", {}), *(one["containerEdits"] for one in picked(spec["devices"], environ))]
    for edits in edits_of:
        for node in edits.get("deviceNodes", ()):
            place, source = os.path.normpath(node["path"]), node.get("hostPath") or node["path"]
            if not os.path.exists(source):
                raise NoGpuError(f"use_gpu is set, and `{source}`, which {name} names, is not there")
            if source != node["path"]:
                if place.startswith("/dev/") and not os.path.exists(place):  # /dev is the machine's own
                    raise NoGpuError(f"{name} wants `{source}` at `{place}`, where this machine has nothing")
                gpus.devices[place] = (source, 0)
        for one in edits.get("mounts", ()):
            # Libraries are there by the names that they are loaded by, whatever their files are called.
            if ".so" not in os.path.basename(one["hostPath"]) and os.path.exists(one["hostPath"]):
                flags = sum({OPTIONS.get(option, 0) for option in one.get("options", ())})
                gpus.mounts[os.path.normpath(one["containerPath"])] = (one["hostPath"], flags)
        for hook in edits.get("hooks", ()):
            words = [os.path.basename(hook["path"]), *hook.get("args", ())]
            if not any(word in DONE_OTHERWISE for word in words):
                print(f"in_image.py: {name} has a hook that is not run: {' '.join(words)}", file=sys.stderr)
        gpus.variables.update(line.split("=", 1) for line in edits.get("env", ()))


def picked(devices: Sequence[Any], environ: Mapping[str, str]) -> Sequence[Any]:
    """Of a file's devices those that are this process's; all, where nobody says or the file has other names."""
    words = next((environ[name].split(",") for name in PICKED_BY if environ.get(name)), [])
    found = [list(called(devices, word)) for word in words]
    if found and all(found):
        return [one for some in found for one in some]
    return [one for one in devices if one["name"] == "all"] or devices


def called(devices: Sequence[Any], word: str) -> Iterator[Any]:
    """The devices of a GPU, by the number of its /dev/nvidia<n> or by the beginning of its UUID, as CUDA takes it."""
    for one in devices:
        nodes = [node.get("path") for node in one["containerEdits"].get("deviceNodes", ())]
        if one["name"] == "all":
            continue
        if f"/dev/nvidia{word}" in nodes if word.isdigit() else one["name"].startswith(word):
            yield one
