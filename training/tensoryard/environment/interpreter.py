"""The Python an environment is made from: found by its version, described by what its packages depend on."""

import os
import platform
import sys
from pathlib import Path

import msgspec

from tensoryard.environment import Log, command
from tensoryard.errors import EnvironmentBuildError

_DESCRIBE = """
import json, platform, sys, sysconfig
print(json.dumps({"version": platform.python_version(), "abi": str(sysconfig.get_config_var("SOABI")),
                  "platform": sysconfig.get_platform(), "libc": "-".join(platform.libc_ver())}))
"""


class Interpreter(msgspec.Struct, frozen=True, kw_only=True):
    """version: "3.11.7"; abi: "cpython-311-x86_64-linux-gnu"; platform: "linux-x86_64"; libc: "glibc-2.36"."""

    version: str
    abi: str
    platform: str
    libc: str


def this_platform() -> str:
    """What decides which wheels fit this machine, such as "linux-x86_64-glibc 2.36"; takes microseconds."""
    libc = ""
    if sys.platform == "linux":
        try:
            libc = os.confstr("CS_GNU_LIBC_VERSION") or ""
        except (ValueError, OSError):
            libc = "musl"  # it has no such name
    return f"{sys.platform}-{platform.machine()}-{libc}"


def describe(python: Path) -> Interpreter:
    """What an interpreter says about itself. Raises EnvironmentBuildError when it does not run."""
    finished = command.run([str(python), "-I", "-c", _DESCRIBE], cwd=python.parent)
    if finished.code != 0:
        raise EnvironmentBuildError(f"{python} does not run: {' '.join(finished.talk)[-300:]}")
    return msgspec.json.decode(finished.stdout, type=Interpreter)


def find(version: str, cwd: Path, log: Log) -> Path:
    """
    The absolute path of a Python of this version ("3.11" or "3.11.7"), this client's own if it is one.

    Otherwise the first that uv knows, and if there is none uv fetches one.
    Raises EnvironmentBuildError when there is none to be had.
    """
    own = Path(getattr(sys, "_base_executable", sys.executable))
    if f"{platform.python_version()}.".startswith(f"{version}.") and own.is_absolute() and own.exists():
        return own
    for _ in range(2):
        found = command.run(command.uv("python", "find", "--no-project", "--system", version), cwd=cwd)
        path = Path(found.stdout.strip())
        if found.code == 0 and path.is_absolute():
            return path
        log(f"Python {version} is not on this machine, asking uv for it")
        fetched = command.run(command.uv("python", "install", version), cwd=cwd, log=log)
        if fetched.code != 0:
            break
    raise EnvironmentBuildError(
        f"python_version: there is no Python {version} on this machine, and uv could not fetch one",
        hint=f"install Python {version}, or set `python_version` to {platform.python_version().rpartition('.')[0]}",
    )
