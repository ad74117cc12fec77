"""
Byte code made at build time, and taken from an environment that has the same files already.

Without it the first import of TensorFlow in a new environment takes 9 to 12 s instead of 3. uv links each
file of a package from its cache, so the same file in two environments is the same inode: then its byte code
is the same too, and a link to it costs nothing. Compiling all of TensorFlow takes 5 s on two cores.
"""

import os
from pathlib import Path

from tensoryard.environment import Log, command


def compile_all(prefix: Path, donor: Path | None, log: Log) -> None:
    """
    Byte code for every module of a prefix, linked from a donor prefix of the same Python where the source is shared.

    Files that are no Python of this version (templates, tests of old syntax) stay without.
    """
    site_packages = _site_packages(prefix)
    shared = _link(site_packages, _site_packages(donor)) if donor is not None else 0
    python = prefix / "bin" / "python"
    # Workers start anew and re-read what is compiled already: not worth it for a handful of files.
    workers = ["-j", "0"] if shared == 0 else []
    command.run([str(python), "-I", "-m", "compileall", "-qq", *workers, str(site_packages)], cwd=prefix)
    log(f"compiled to byte code ({shared} files shared)" if shared else "compiled to byte code")


def _site_packages(prefix: Path) -> Path:
    return next((prefix / "lib").glob("python3*")) / "site-packages"


def _link(target: Path, donor: Path) -> int:
    """Link byte code from donor to target for each source that both share; returns how many files."""
    linked = 0
    for folder, _, names in os.walk(donor):
        if not folder.endswith("__pycache__"):
            continue
        source_folder = folder.removesuffix("__pycache__")
        target_folder = str(target) + source_folder[len(str(donor)) :]
        for name in names:
            module = name.partition(".")[0] + ".py"
            try:
                same = os.path.samefile(source_folder + module, target_folder + module)  # noqa: PTH121
            except FileNotFoundError:
                continue
            if not same:
                continue
            try:
                os.makedirs(target_folder + "__pycache__", exist_ok=True)  # noqa: PTH103
                os.link(f"{folder}/{name}", f"{target_folder}__pycache__/{name}")
            except OSError:  # there already, or a file system without links: compiled instead
                continue
            linked += 1
    return linked
