"""
What an environment costs, beside `python -m venv` and `pip install` of the same packages.

Run it as a script; it prints one line a case. Both sides have their download caches warm. It works in a new
folder below the one given as first argument (default: the temporary folder) and removes it.
"""

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tensoryard.environment.spec import Recipe, environment_spec
from tensoryard.environment.venv import VenvBuilder

OWN = f"{sys.version_info.major}.{sys.version_info.minor}"
SMALL = ("click==8.1.8", "jinja2==3.1.6", "requests==2.32.3", "pyyaml==6.0.2", "tqdm==4.67.1")


def seconds(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def quiet(line: str) -> None:
    pass


def plain(folder: Path, packages: tuple[str, ...]) -> None:
    """What people do by hand; in a folder that is there already, only the install."""
    if not folder.exists():
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    pip = [folder / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *packages]
    subprocess.run(pip, check=True)


def small(scratch: Path) -> None:
    builder = VenvBuilder(scratch / "cache")
    first = Recipe(name="small", python=OWN, requirements=SMALL)
    more = Recipe(name="small", python=OWN, requirements=(*SMALL, "iniconfig==2.0.0"))
    plain(scratch / "warm-up", SMALL)
    VenvBuilder(scratch / "warm-up-cache").ensure_recipe(more, quiet)

    def report(case: str, ours: float, theirs: float) -> None:
        print(f"{case:<42} tyard {ours:8.4f} s   venv + pip {theirs:8.4f} s   {theirs / ours:8.1f} x")

    theirs = seconds(lambda: plain(scratch / "plain", SMALL))
    report("5 packages, first time (locked, built)", seconds(lambda: builder.ensure_recipe(first, quiet)), theirs)
    theirs = seconds(lambda: plain(scratch / "plain", SMALL))
    report("the same again", seconds(lambda: builder.ensure_recipe(first, quiet)), theirs)
    theirs = seconds(lambda: plain(scratch / "plain-more", (*SMALL, "iniconfig==2.0.0")))
    report("one more package", seconds(lambda: builder.ensure_recipe(more, quiet)), theirs)


def tensorflow(scratch: Path) -> None:
    builder = VenvBuilder(scratch / "cache")
    spec = environment_spec(way="parameter_server")
    more = environment_spec(way="parameter_server", pip_packages=("iniconfig==2.0.0",))

    def start() -> None:
        built = builder.ensure(more, quiet)
        subprocess.run([built.python, "-c", "import tensorflow"], check=True, stderr=subprocess.DEVNULL)

    cases: dict[str, Callable[[], object]] = {
        "TensorFlow 2.15, downloads cached": lambda: builder.ensure(spec, quiet),
        "the same again": lambda: builder.ensure(spec, quiet),
        "one more package": lambda: builder.ensure(more, quiet),
        "the first import of tensorflow in it": start,
    }
    for case, action in cases.items():
        print(f"{case:<42} tyard {seconds(action):8.4f} s")


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="tyard-bench-", dir=sys.argv[1] if len(sys.argv) > 1 else None) as folder:
        small(Path(folder))
        tensorflow(Path(folder))


if __name__ == "__main__":
    main()
