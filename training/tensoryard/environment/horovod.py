"""
Horovod's wheel, compiled here against one TensorFlow and kept under a key made of everything it depends on.

uv keys a wheel it builds by the source archive alone, so it would hand the wheel of one TensorFlow to an
environment with another, where it cannot be imported. Hence an own cache, and an install from its file.
Source: https://horovod.readthedocs.io/en/stable/install.html for the HOROVOD_* variables.
"""

import hashlib
import os
import re
import shutil
import sys
import tempfile
from pathlib import Path

import msgspec

from tensoryard.environment import Log, command, locking
from tensoryard.environment.interpreter import Interpreter
from tensoryard.environment.spec import HOROVOD, HOROVOD_NEEDS
from tensoryard.errors import EnvironmentBuildError

_SDIST_SHA256 = {"0.28.1": "92a43f5a94c43907a56805bad15f19700c62ffc83b7ca483f9e104e229f67ef0"}
_APT = {
    "cmake": "cmake",
    "g++": "g++",
    "make": "make",
    "mpicxx": "libopenmpi-dev openmpi-bin",
}
# Its setup.py builds with debug information: a quarter of the time, and a wheel of 17 MB in place of one of 1 MB.
_TOOLCHAIN = "".join(
    f'set(CMAKE_{name}_FLAGS_RELWITHDEBINFO "-O2 -DNDEBUG" CACHE STRING "")\n' for name in ("C", "CXX", "CUDA")
)
_CHECK = """
import horovod.tensorflow as hvd
assert hvd.gloo_built()
assert hvd.mpi_built() == {mpi}
"""


class WheelInputs(msgspec.Struct, frozen=True, kw_only=True):
    """All that the compiled wheel depends on. mpi: "mpirun Open MPI 4.1.4", or None for Gloo only."""

    horovod: str
    distribution: str
    tensorflow: str
    abi: str
    platform: str
    libc: str
    mpi: str | None
    flags: tuple[str, ...]

    @property
    def key(self) -> str:
        """16 hex digits that name the wheel's folder in the cache."""
        return hashlib.sha256(msgspec.json.encode(self)).hexdigest()[:16]


class Wheel(msgspec.Struct, frozen=True, kw_only=True):
    """A published wheel: its file's name in the folder of its key, and the SHA-256 of its bytes."""

    inputs: WheelInputs
    file: str
    sha256: str


def wheel_inputs(distribution: str, tensorflow: str, interpreter: Interpreter, use_gpu: bool) -> WheelInputs:
    """
    What a wheel for this machine is built from: MPI if its compiler is here, NCCL if asked for and CUDA is here.

    distribution, tensorflow: "tensorflow-cpu" and its exact release.
    """
    mpi, flags = _chosen(use_gpu)
    return WheelInputs(
        horovod=HOROVOD,
        distribution=distribution,
        tensorflow=tensorflow,
        abi=interpreter.abi,
        platform=interpreter.platform,
        libc=interpreter.libc,
        mpi=mpi,
        flags=flags,
    )


def compiled_with(use_gpu: bool) -> str:
    """
    16 hex digits over what a wheel made here now is compiled with, besides TensorFlow and Python: MPI and CUDA.

    An environment that was built here before may have a wheel for another MPI than the one that is on PATH now.
    """
    return hashlib.sha256(msgspec.json.encode([HOROVOD, *_chosen(use_gpu)])).hexdigest()[:16]


def stored_wheel(cache: Path, inputs: WheelInputs) -> Wheel | None:
    """The published wheel of these inputs, or None."""
    try:
        return msgspec.json.decode((_folder(cache, inputs) / "wheel.json").read_bytes(), type=Wheel)
    except (FileNotFoundError, msgspec.DecodeError):
        return None


def wheel_path(cache: Path, wheel: Wheel) -> Path:
    """
    The file of a published wheel, its bytes checked against the digest that was stored.

    Raises EnvironmentBuildError when they differ.
    """
    path = _folder(cache, wheel.inputs) / wheel.file
    if _sha256(path) != wheel.sha256:
        raise EnvironmentBuildError(
            f"{path}: its bytes are not the ones that were built", hint=f"remove the folder {path.parent}"
        )
    return path


def ensure_wheel(cache: Path, inputs: WheelInputs, python: Path, use_gpu: bool, log: Log) -> Wheel:
    """
    The wheel of these inputs, compiled if it is not there: two to three minutes on two cores.

    python: the interpreter it is for. One is compiled at a time on a machine, as its build takes every core.
    Raises EnvironmentBuildError when a compiler is missing or the build fails.
    """
    if (wheel := stored_wheel(cache, inputs)) is not None:
        return wheel
    check_tools(inputs, use_gpu, log)
    with locking.held(cache / "flocks" / "horovod", "the build of a Horovod wheel", log):
        if (wheel := stored_wheel(cache, inputs)) is not None:
            return wheel
        root = _folder(cache, inputs).parent
        root.mkdir(parents=True, exist_ok=True)
        command.end_orphans()
        for dead in root.glob(".building-*"):
            shutil.rmtree(dead, ignore_errors=True)  # the lock is ours, so whoever left it is gone
        with tempfile.TemporaryDirectory(prefix=".building-", dir=root, ignore_cleanup_errors=True) as work:
            return _build(Path(work), _folder(cache, inputs), inputs, python, log)


def missing_tools() -> list[str]:
    """What compiles Horovod and is not on PATH."""
    return [tool for tool in ("cmake", "g++", "make") if shutil.which(tool) is None]


def locked() -> str:
    """Horovod's sources as a line of a lock: its release with the digest of its archive."""
    return f"horovod=={HOROVOD} --hash=sha256:{_SDIST_SHA256[HOROVOD]}"


def check_tools(inputs: WheelInputs, use_gpu: bool, log: Log) -> None:
    """Raises EnvironmentBuildError with what to install when a compiler is missing; logs what is left out."""
    if missing := missing_tools():
        packages = " ".join(_APT[tool] for tool in missing)
        raise EnvironmentBuildError(
            f"Horovod is compiled on this machine, and {', '.join(f'`{tool}`' for tool in missing)} "
            f"{'is' if len(missing) == 1 else 'are'} not on PATH",
            hint=f"sudo apt-get install {packages} {_APT['mpicxx']}"
            if sys.platform == "linux"
            else "brew install cmake",
        )
    if inputs.mpi is None:
        log(f"no MPI compiler on PATH, so Horovod gets Gloo only (for MPI: sudo apt-get install {_APT['mpicxx']})")
    if use_gpu and "HOROVOD_GPU=CUDA" not in inputs.flags:
        log("no CUDA toolkit with NCCL's header on this machine, so Horovod reduces through the CPU")


def _build(work: Path, target: Path, inputs: WheelInputs, python: Path, log: Log) -> Wheel:
    venv = work / "venv"
    built_with = venv / "bin" / "python"
    against = f"{inputs.distribution}=={inputs.tensorflow}"
    log(f"compiling Horovod {inputs.horovod} against {against}, {inputs.mpi or 'Gloo only'}: several minutes, once")

    compiled = 0

    def progress(line: str) -> None:
        # A thousand lines of compilers say no more than cmake's "[ 57%] Building CXX object ..." now and then.
        nonlocal compiled
        found = re.match(r"\[ *(\d+)%\]", line)
        if found and int(found[1]) >= compiled + 10:
            compiled = int(found[1])
            log(f"compiled {compiled}%")

    def step(argv: list[str], environ: dict[str, str] | None = None, log: Log = log) -> None:
        finished = command.run(argv, cwd=work, log=log, environ=environ)
        if finished.code != 0:
            said = "\n".join(line[:400] for line in [*finished.stdout.splitlines(), *finished.talk][-25:])
            raise EnvironmentBuildError(
                f"Horovod {inputs.horovod} could not be built against {against}; the last lines were:\n"
                f"{command.without_addresses(said)}"
            )

    step(command.uv("venv", "--no-project", "--python", python, venv))
    # Horovod's setup.py asks its own environment for TensorFlow, and setuptools 70 dropped what it imports.
    tools = ["setuptools<70", "wheel", "pip", *HOROVOD_NEEDS]
    step(command.uv("pip", "install", "--python", built_with, against, *tools))
    release = work / "horovod.txt"
    release.write_text(f"horovod=={inputs.horovod} --hash=sha256:{_SDIST_SHA256[inputs.horovod]}\n")
    download = [str(built_with), "-m", "pip", "download", "--quiet", "--no-deps", "--no-build-isolation"]
    step([*download, "--no-binary", ":all:", "--dest", str(work / "sdist"), "-r", str(release)])
    (sdist,) = (work / "sdist").glob("horovod-*")
    out = work / "out"
    toolchain = work / "toolchain.cmake"
    toolchain.write_text(_TOOLCHAIN)
    step(
        command.uv("build", "--wheel", "--no-build-isolation", "--python", built_with, "--out-dir", out, sdist),
        {
            **dict(flag.split("=", 1) for flag in inputs.flags),
            "CMAKE_TOOLCHAIN_FILE": os.environ.get("CMAKE_TOOLCHAIN_FILE", str(toolchain)),
            "PATH": f"{built_with.parent}{os.pathsep}{os.environ['PATH']}",
        },
        progress,
    )
    (built,) = out.glob("*.whl")
    step(command.uv("pip", "install", "--python", built_with, "--no-deps", "--no-cache", built))
    log("importing horovod.tensorflow once")
    step([str(built_with), "-c", _CHECK.format(mpi=inputs.mpi is not None)])
    for other in out.iterdir():
        if other != built:
            other.unlink()  # uv leaves a .gitignore there
    wheel = Wheel(inputs=inputs, file=built.name, sha256=_sha256(built))
    (out / "wheel.json").write_bytes(msgspec.json.encode(wheel))
    shutil.rmtree(target, ignore_errors=True)
    out.rename(target)
    return wheel


def _folder(cache: Path, inputs: WheelInputs) -> Path:
    return cache / "wheels" / "horovod" / inputs.key


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _chosen(use_gpu: bool) -> tuple[str | None, tuple[str, ...]]:
    """The MPI that a wheel is compiled against here, or None, and the HOROVOD_* variables for it."""
    mpi = _mpi_version()
    flags = {
        "HOROVOD_WITH_TENSORFLOW": "1",
        "HOROVOD_WITHOUT_PYTORCH": "1",
        "HOROVOD_WITHOUT_MXNET": "1",
        "HOROVOD_WITH_GLOO": "1",
        "HOROVOD_WITH_MPI" if mpi else "HOROVOD_WITHOUT_MPI": "1",
    }
    cuda = _cuda_home() if use_gpu else None
    if cuda is not None:
        flags |= {"HOROVOD_GPU": "CUDA", "HOROVOD_GPU_OPERATIONS": "NCCL", "HOROVOD_CUDA_HOME": str(cuda)}
    return mpi, tuple(f"{name}={value}" for name, value in sorted(flags.items()))


def _mpi_version() -> str | None:
    if shutil.which("mpicxx") is None or (mpirun := shutil.which("mpirun")) is None:
        return None
    lines = command.run([mpirun, "--version"], cwd=Path("/")).stdout.splitlines()
    return re.sub(r"[()]", "", lines[0]).strip() if lines else None


def _cuda_home() -> Path | None:
    """The CUDA toolkit with NCCL's header, which a build of Horovod's GPU operations needs."""
    nvcc = shutil.which("nvcc")
    homes = [os.environ.get("CUDA_HOME"), Path(nvcc).resolve().parents[1] if nvcc else None, "/usr/local/cuda"]
    for home in homes:
        if home and (Path(home) / "bin" / "nvcc").exists():
            headers = (Path(home) / "include" / "nccl.h", Path("/usr/include/nccl.h"))
            return Path(home) if any(header.exists() for header in headers) else None
    return None
