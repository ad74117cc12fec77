"""From what a job says to an environment spec, and from a spec to what gets installed (no file built, no network)."""

import platform
import re
import sys
from pathlib import Path
from typing import Literal

import msgspec

from tensoryard.environment import EnvironmentSpec, ImageSpec
from tensoryard.errors import JobError

Way = Literal["single", "mpi", "parameter_server", "multi_worker_mirrored"]

HOROVOD = "0.28.1"  # its last release
HOROVOD_NEEDS = ("cloudpickle", "psutil", "pyyaml", "packaging")  # its own dependencies; the wheel goes in alone

# The newest release that fully supports the way of running. TensorFlow 2.15 is the last with Keras 2, which
# Horovod's callbacks and Keras fit under parameter servers need.
CURATED: dict[Way, str] = {
    "single": "2.21",
    "mpi": "2.15",
    "parameter_server": "2.15",
    "multi_worker_mirrored": "2.15",
}

# Oldest and newest Python 3 that each release has wheels for. Source: the wheels of tensorflow-cpu on the index.
_PYTHONS: dict[int, tuple[int, int]] = {
    12: (8, 11),
    13: (8, 11),
    14: (9, 11),
    15: (9, 11),
    16: (9, 12),
    17: (9, 12),
    18: (9, 12),
    19: (9, 12),
    20: (9, 13),
    21: (10, 13),
}
_TENSORFLOW_NAMES = {
    "tensorflow",
    "tensorflow-cpu",
    "tensorflow-gpu",
    "tensorflow-intel",
    "tf-nightly",
    "tf-nightly-cpu",
}
_NAME = re.compile(r"\s*([A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)\s*(.*)")
_AFTER_NAME = re.compile(r"(\[[^\]]*\]\s*)?(@\s*\S.*|\(?\s*(===|~=|==|!=|<=|>=|<|>)\s*[^=<>!~].*|;.*|)")
_GIB = 1024**3


class Recipe(msgspec.Struct, frozen=True, kw_only=True):
    """
    What to install, one layer below TensorFlow: the builder knows nothing else.

    base, requirements: what is locked together, ours and the entries of the job; excluded: distributions that
    must not come in, whoever depends on them; horovod_for: the distribution that Horovod is compiled against,
    or None for no Horovod;
    free_bytes: disk space to have before the build starts.
    """

    name: str
    python: str
    base: tuple[str, ...] = ()
    requirements: tuple[str, ...] = ()
    excluded: tuple[str, ...] = ()
    use_gpu: bool = False
    horovod_for: str | None = None
    conda_packages: tuple[str, ...] = ()
    conda_channels: tuple[str, ...] = ()
    free_bytes: int = 200 * 1024**2


def environment_spec(
    *,
    way: Way,
    framework_version: str | None = None,
    python_version: str | None = None,
    use_gpu: bool = False,
    pip_packages: tuple[str, ...] = (),
    conda_packages: tuple[str, ...] = (),
    conda_channels: tuple[str, ...] = ("conda-forge",),
    image: ImageSpec | None = None,
) -> EnvironmentSpec:
    """
    The environment for a way of running, with the curated TensorFlow where the job names none.

    framework_version: "2.15" or "2.15.1"; python_version: "3.11" or "3.11.7";
    pip_packages: lines of a requirements file.
    Raises JobError for a pair that is known not to work; it names the field, what was given and what is allowed.
    """
    tensorflow = framework_version or CURATED[way]
    minor = _tensorflow_minor(tensorflow)
    horovod = way == "mpi"
    packages = []
    for entry in pip_packages:
        name = requirement_name(entry)
        if name in _TENSORFLOW_NAMES:
            raise JobError(
                f"pip_packages: got `{entry}`, but TensorFlow comes from `framework_version`, here {tensorflow}",
                hint="leave this entry out, or set `framework_version` to the release it names",
            )
        if name == "horovod":
            _check_horovod_entry(entry)
            horovod = True
        else:
            packages.append(entry)
    if horovod and minor > 15:
        raise JobError(
            f"framework_version: got {tensorflow}, but Horovod {HOROVOD}, its last release, works up to "
            "TensorFlow 2.15: later ones lack a header it is compiled with, and its callbacks need Keras 2",
            hint="leave `framework_version` out for 2.15, or use `distributed_training: multi_worker_mirrored`",
        )
    if python_version is not None:
        _check_python(python_version, tensorflow, minor)
    return EnvironmentSpec(
        tensorflow=tensorflow,
        python=python_version or default_python(tensorflow),
        use_gpu=use_gpu,
        horovod=horovod,
        pip_packages=tuple(packages),
        conda_packages=conda_packages,
        conda_channels=conda_channels,
        image=image,
    )


def in_words(spec: EnvironmentSpec) -> str:
    """ "tensorflow-2.15+horovod for Python 3.11 with numpy, pillow", as one line for people."""
    if spec.image and spec.image.existing:
        return f"image {spec.image.existing}"
    if spec.image and spec.image.dockerfile:
        return f"image of {spec.image.dockerfile}"
    wanted = recipe(spec)
    packages = [without_comment(entry) for entry in spec.pip_packages]
    conda = f"{', '.join(spec.conda_packages)} from {', '.join(spec.conda_channels)}" if spec.conda_packages else ""
    extra = " and ".join(text for text in (", ".join(packages), conda) if text)
    named = f"{wanted.name} for Python {wanted.python}" + (f" with {extra}" if extra else "")
    return f"{named} as an image" if spec.image else named


def default_python(tensorflow: str) -> str:
    """This client's own Python ("3.11") if the release has wheels for it, otherwise the newest that it has."""
    oldest, newest = _PYTHONS[_tensorflow_minor(tensorflow)]
    return f"3.{sys.version_info.minor if oldest <= sys.version_info.minor <= newest else newest}"


def requirement_name(entry: str) -> str:
    """
    The normalised name ("scikit-learn") that a line of a requirements file begins with.

    Raises JobError when the line is not one requirement, saying what is allowed.
    """
    text = without_comment(entry)
    found = _NAME.fullmatch(text)
    if "git+" in text or "hg+" in text:
        raise JobError(
            f"pip_packages: got `{entry}`, but a repository has no digest to pin; allowed are releases, "
            "such as `numpy>=1.26`, and addresses of wheels, such as `name @ https://host/name-1.0-py3-none-any.whl`",
            hint="build a wheel from it with `uv build --wheel` and name the wheel",
        )
    if found is None or len(text.splitlines()) > 1 or not _AFTER_NAME.fullmatch(found[2]):
        raise JobError(
            f"pip_packages: got `{entry}`, allowed is one requirement, such as `numpy`, `numpy>=1.26,<3`, "
            "`pillow[extra]==11.0` or `name @ https://host/name-1.0-py3-none-any.whl`",
            hint=_meant(text),
        )
    return re.sub(r"[-_.]+", "-", found[1]).lower()


def _meant(text: str) -> str | None:
    """A hint for conda's way to write a version, `numpy=1.10`."""
    single = re.fullmatch(r"([A-Za-z0-9._-]+(?:\[[^\]]*\])?)\s*=\s*([\w.*+!-]+)", text)
    return f"did you mean `{single[1]}=={single[2]}`?" if single else None


def without_comment(entry: str) -> str:
    """A requirement without the comment that says where it stands."""
    return re.sub(r"(^|\s)#.*$", "", entry).strip()


def requirements_file(path: Path) -> tuple[str, ...]:
    """
    The entries of a requirements file, each ending in a comment with its file and line, for later errors.

    Raises JobError when the file is not there, or for a line that is an option (`-r`, `-c`, `-e`, `--hash`, ...).
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise JobError(f"pip_requirements_file: cannot read `{path}`: {error}") from None
    entries, pending, first = [], "", 0
    for number, line in enumerate(text.splitlines(), start=1):
        first = first if pending else number
        pending += line.removesuffix("\\")
        if line.endswith("\\"):
            continue
        entry, pending = without_comment(pending), ""
        if not entry:
            continue
        _check_requirements_line(entry, path, first)
        entries.append(f"{entry}  # {path.name} line {first}")
    return tuple(entries)


def recipe(spec: EnvironmentSpec) -> Recipe:
    """What a spec installs on this platform: the same spec gives the same recipe, in whatever order its lists are."""
    distribution = _tensorflow_distribution(spec.use_gpu)
    exact = spec.tensorflow.count(".") == 2
    name = f"tensorflow-{spec.tensorflow}"
    base = [f"{distribution}=={spec.tensorflow}{'' if exact else '.*'}"]
    if _tensorflow_minor(spec.tensorflow) <= 20:
        base.append("setuptools<81")  # their TensorBoard imports pkg_resources, which later ones lack
    if spec.horovod:
        base += HOROVOD_NEEDS
    plain = distribution.partition("[")[0]
    extra = [label for label, on in (("gpu", spec.use_gpu), ("horovod", spec.horovod)) if on]
    return Recipe(
        name="+".join([name, *extra]),
        python=spec.python or default_python(spec.tensorflow),
        base=tuple(base),
        requirements=tuple(sorted(set(spec.pip_packages))),
        # Both distributions hold the same files: a package that depends on `tensorflow` must not bring it in
        # over `tensorflow-cpu`.
        excluded=("tensorflow",) if plain == "tensorflow-cpu" else (),
        use_gpu=spec.use_gpu,
        horovod_for=plain if spec.horovod else None,
        conda_packages=tuple(sorted(set(spec.conda_packages))),
        conda_channels=spec.conda_channels if spec.conda_packages else (),
        free_bytes=(12 if spec.use_gpu else 3) * _GIB,
    )


def _tensorflow_distribution(use_gpu: bool) -> str:
    if use_gpu:
        return "tensorflow[and-cuda]"
    linux_x86 = sys.platform == "linux" and platform.machine() == "x86_64"
    return "tensorflow-cpu" if linux_x86 else "tensorflow"


def _tensorflow_minor(version: str) -> int:
    found = re.fullmatch(r"2\.(\d+)(?:\.\d+)?", version)
    oldest, newest = min(_PYTHONS), max(_PYTHONS)
    if found is None or int(found[1]) not in _PYTHONS:
        raise JobError(
            f"framework_version: got {version}, allowed are TensorFlow 2.{oldest} to 2.{newest}, "
            "as a release (`2.15`) or with its fix (`2.15.1`)"
        )
    return int(found[1])


def _check_python(version: str, tensorflow: str, minor: int) -> None:
    oldest, newest = _PYTHONS[minor]
    found = re.fullmatch(r"3\.(\d+)(?:\.\d+)?", version)
    if found is None or not oldest <= int(found[1]) <= newest:
        raise JobError(
            f"python_version: got {version}, TensorFlow {tensorflow} has wheels for Python 3.{oldest} to 3.{newest}",
            hint=f"leave `python_version` out for {default_python(tensorflow)}",
        )


def _check_horovod_entry(entry: str) -> None:
    rest = re.sub(r"^\s*horovod\s*(\[[^\]]*\])?\s*", "", without_comment(entry), flags=re.IGNORECASE)
    if rest and rest != f"=={HOROVOD}":
        raise JobError(
            f"pip_packages: got `{entry}`, Horovod is built in release {HOROVOD} only",
            hint="leave this entry out: `distributed_training: mpi` brings Horovod",
        )


def _check_requirements_line(entry: str, path: Path, number: int) -> None:
    place = f"{path}:{number}"
    if entry.startswith("-"):
        option = re.split(r"[\s=]", entry)[0]
        reason = {
            "-r": "another file is not followed: put its lines here",
            "--requirement": "another file is not followed: put its lines here",
            "-c": "constraints are not supported: write the bound on the requirement itself",
            "--constraint": "constraints are not supported: write the bound on the requirement itself",
            "-e": "an editable package would change under a run: name a release or the address of a wheel",
            "--editable": "an editable package would change under a run: name a release or the address of a wheel",
        }.get(option, "options are not supported; the package index is set by uv's own settings")
        raise JobError(f"{place}: got `{entry}`, {reason}")
    if " --hash" in entry:
        raise JobError(f"{place}: got `{entry}`, digests are not read: the environment's own lock pins every digest")
    try:
        requirement_name(entry)
    except JobError as error:
        raise JobError(f"{place}: {error.message.removeprefix('pip_packages: ')}", hint=error.hint) from None
