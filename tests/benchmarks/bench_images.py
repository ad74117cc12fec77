"""
What images cost beside the tools that people build, push, pull and start them with: buildah, skopeo, a venv.

    python tests/benchmarks/bench_images.py            # all of it, about eight minutes on two cores
    python tests/benchmarks/bench_images.py horovod    # a part: builds, horovod or runs

Linux, as root. It needs what the tests of images need, and installs skopeo; the registry is Debian's, on this
machine, plain HTTP. Rounds alternate between the two sides; the figure is the least of each, as
other work only ever adds. Downloads of packages are cached before. Storage, caches and registries lie in a new folder
that goes at the end.
"""

import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1]))

from services.base_image import base_layer, push_image
from services.kept_registry import mpi_layers
from services.oci_registry import OciRegistry
from tensoryard import in_image
from tensoryard.environment import Environment, EnvironmentSpec, ImageSpec
from tensoryard.environment.build_secrets import secrets
from tensoryard.environment.buildah import Buildah
from tensoryard.environment.image_builder import ImageBuilder
from tensoryard.environment.image_environment import REPOSITORY
from tensoryard.environment.image_folders import ImageFolders
from tensoryard.environment.spec import Recipe, environment_spec, recipe
from tensoryard.environment.venv import VenvBuilder
from tensoryard.registry.oci_client import Client
from tensoryard.registry.oci_manifest import Place
from tensoryard.store.file import FileStore
from tensoryard.text import size

ROUNDS = 4
STARTS = 15
FRAMEWORK = ("numpy==2.2.6",)
PYTHON = "3.11"  # of Debian 12
UNMOUNTED = "overlay.skip_mount_home=true"  # else its storage stays mounted onto itself
STEPS = """
import os, time, sys
began = time.perf_counter()
import tensorflow as tf
imported = time.perf_counter() - began
tf.config.threading.set_intra_op_parallelism_threads(1)
a = tf.random.stateless_normal((512, 512), (1, 2))
step = tf.function(lambda x: tf.matmul(x, a) / 23)
x = step(step(a))
best = [9e9, 9e9]
for _ in range(40):
    began = time.perf_counter(), time.process_time()
    for _ in range(10):
        x = step(x)
    x.numpy()
    best = [min(best[0], time.perf_counter() - began[0]), min(best[1], time.process_time() - began[1])]
print(imported, best[0] / 10, best[1] / 10)
"""


def seconds(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


class Took(NamedTuple):
    """Seconds by the wall, and of processors: by this process and the programs that it waited for."""

    wall: float
    cpu: float


def took(action: Callable[[], object]) -> Took:
    before = _processors()
    return Took(seconds(action), _processors() - before)


def _processors() -> float:
    # Not os.times, which counts in hundredths.
    used = [resource.getrusage(whose) for whose in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def in_turns(ours: Callable[[], Took], theirs: Callable[[], Took], rounds: int = ROUNDS) -> tuple[Took, Took]:
    """The least of each side."""
    pairs = [(ours(), theirs()) if at % 2 else (theirs(), ours())[::-1] for at in range(rounds)]
    one, other = ([pair[side] for pair in pairs] for side in (0, 1))
    return Took(*map(min, zip(*one, strict=True))), Took(*map(min, zip(*other, strict=True)))


def processors(ours: Took, theirs: Took) -> str:
    return f"{ours.cpu:.1f} s of processors beside {theirs.cpu:.1f} s"


def report(case: str, ours: float, rival: str = "", theirs: float | None = None, note: str = "") -> None:
    beside = f"{rival:<24}{theirs:9.3f} s   x{theirs / ours:6.2f}" if theirs is not None else f"{rival:<24}"
    print(f"{case:<52}{ours:9.3f} s   {beside}   {note}".rstrip(), flush=True)


def run(*argv: str | Path, cwd: Path | None = None) -> str:
    done = subprocess.run(argv, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{argv}: {done.stderr[-2000:]}"
    return done.stdout


def quiet(line: str) -> None:
    pass


class Machines:
    """A registry, a workspace's store, and machines with caches of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.registries = [self._registry(name) for name in ("one", "two")]
        self.host = self.registries[0].host
        self.base = f"{self.host}/base:12"
        push_image(self.base, [base_layer().read_bytes()])
        self.store = FileStore(folder / "store")
        self.one = self.machine("machine-one")

    def machine(self, name: str) -> ImageBuilder:
        return ImageBuilder(VenvBuilder(self.folder / name), self.host, self.store)

    def blobs(self) -> dict[str, int]:
        root = self.folder / "one" / "blobs"
        return {path.parent.name: path.stat().st_size for path in root.glob("**/blobs/sha256/*/*/data")}

    def _registry(self, name: str) -> OciRegistry:
        (self.folder / name).mkdir()
        return OciRegistry(self.folder / name)


@contextmanager
def counted() -> Iterator[list[str]]:
    """What is asked of registries meanwhile."""
    asked: list[str] = []
    once = Client._once

    def count(self: Client, *arguments: Any, **named: Any) -> Any:
        asked.append(" ".join(map(str, arguments[:2])))
        return once(self, *arguments, **named)

    Client._once = count  # type: ignore[method-assign]
    try:
        yield asked
    finally:
        Client._once = once  # type: ignore[method-assign]


def builds(machines: Machines) -> Environment:
    """First build, the same again, one more package, another machine. Returns the first image."""
    one, image = machines.one, ImageSpec(base=machines.base)
    first = Recipe(name="science", python=PYTHON, base=FRAMEWORK)
    more = Recipe(name="science", python=PYTHON, base=FRAMEWORK, requirements=("iniconfig==2.0.0",))
    made: list[Environment] = []
    spent = seconds(lambda: made.append(one.ensure_recipe(first, image, quiet)))
    report("first build, push and unpacking", spent, note=f"{size(made[0].size_bytes)} unpacked")
    spent = seconds(lambda: one.ensure_recipe(first, image, quiet))
    report("the same job again", spent)

    inputs = one.inputs(first, image, quiet)
    context, tool = machines.folder / "context", Buildah(one.cache / "buildah")
    one.write_context(inputs, context, quiet)
    hidden = [f"--secret=id={name},src={path}" for name, path in secrets(machines.folder).items()]
    places = ["--root", str(tool.storage / "storage"), "--runroot", str(tool.storage / "run")]
    bare = ["buildah", *places, "bud", "--isolation", "chroot", "--layers", "--tls-verify=false", *hidden, "."]
    ours, theirs = in_turns(
        lambda: took(lambda: tool.build(inputs.key, context, quiet)),
        lambda: took(lambda: run(*bare, cwd=context)),
    )
    report("a build of what is built", ours.wall, "buildah bud --layers", theirs.wall)

    decided: list[float] = []

    def log(line: str) -> None:
        if line.endswith(": reused"):
            decided.append(time.perf_counter() - began)
            asked_then.extend(asked)

    asked_then: list[str] = []
    with counted() as asked:
        other = machines.machine("machine-two")
        began = time.perf_counter()
        other.ensure_recipe(first, image, log)
        whole = time.perf_counter() - began
    report("another machine: that it is in the registry", decided[0], note=f"{len(asked_then)} request")
    report("another machine: until it is unpacked", whole, note=f"{len(asked)} requests")

    before = machines.blobs()
    spent = seconds(lambda: one.ensure_recipe(more, image, quiet))
    sent = {digest: bytes_ for digest, bytes_ in machines.blobs().items() if digest not in before}
    note = f"{size(sum(sent.values()))} sent, {size(sum(before.values()))} were there"
    report("one more pip package: locked, built, pushed, unpacked", spent, note=note)
    return made[0]


def transfers(machines: Machines, image: Environment) -> None:
    """Push to an empty repository and pull to an empty folder, beside skopeo, from one storage and one registry."""
    tool = Buildah(machines.one.cache / "buildah")
    storage = f"{tool.storage}/storage+{tool.storage}/run"
    local = f"containers-storage:[overlay@{storage}:{UNMOUNTED}]localhost/{REPOSITORY}:{image.hash}"
    numbers = iter(range(1000))
    plain = ["--dest-tls-verify=false", "--src-tls-verify=false"]

    def emptied() -> None:
        """The registry knows layers by their digests in any repository."""
        machines.registries[1].close()
        run("rm", "-rf", machines.folder / "two" / "blobs")
        machines.registries[1] = OciRegistry(machines.folder / "two")

    def push_ours() -> Took:
        emptied()
        place = Place(machines.registries[1].host, "bench/ours", "1")
        return took(lambda: tool.push(image.hash, place, quiet))

    def push_theirs() -> Took:
        emptied()
        target = f"docker://{machines.registries[1].host}/bench/theirs:1"
        return took(lambda: run("skopeo", "copy", *plain, local, target))

    ours, theirs = in_turns(push_ours, push_theirs)
    report("push", ours.wall, "skopeo copy", theirs.wall, processors(ours, theirs))

    digest = image.image.partition("@")[2]
    place = Place(machines.host, REPOSITORY, digest)

    def pull_ours() -> Took:
        folder = machines.folder / f"pulled-{next(numbers)}"
        folder.mkdir()
        images = ImageFolders(folder, lambda name: folder / f"{name}.lock")
        done = took(lambda: images.unpack(Client(place), digest, quiet))
        run("rm", "-rf", folder)
        return done

    def pull_theirs() -> Took:
        folder = machines.folder / f"pulled-{next(numbers)}"
        target = f"containers-storage:[overlay@{folder}/s+{folder}/r:{UNMOUNTED}]pulled:1"
        done = took(lambda: run("skopeo", "copy", *plain, f"docker://{machines.host}/{REPOSITORY}@{digest}", target))
        run("rm", "-rf", folder)
        return done

    ours, theirs = in_turns(pull_ours, pull_theirs)
    report("pull: fetched, checked, unpacked", ours.wall, "skopeo copy", theirs.wall, processors(ours, theirs))


def runs(machines: Machines) -> None:
    """Start of a script, import and step of TensorFlow: in an image, and in a virtual environment."""
    spec: EnvironmentSpec = environment_spec(way="single", python_version=PYTHON)
    venv = VenvBuilder().ensure(spec, quiet)
    image = machines.one.ensure(
        environment_spec(way="single", python_version=PYTHON, image=ImageSpec(base=machines.base)), quiet
    )
    folder = machines.folder / "run"
    (folder / "launch").mkdir(parents=True)
    (folder / "environment").symlink_to(image.unpacked)
    layout = {"use_gpu": False, "image": {"mounts": [], "variables": []}}
    (folder / "launch" / "layout.json").write_text(json.dumps(layout))
    environ = {"TYARD_RUN_DIR": str(folder), "PATH": "/usr/bin:/bin", "TF_CPP_MIN_LOG_LEVEL": "3"}
    enter = [f"{image.unpacked}/bin/python", "-I", "-S", str(in_image.__file__), "python"]

    def said(argv: list[str], script: str) -> list[float]:
        done = subprocess.run(
            [*argv, "-c", script], env=environ, cwd=folder, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr[-2000:]
        return [float(word) for word in done.stdout.split()]

    def start(argv: list[str]) -> Took:
        began = time.time()
        ends: list[float] = []
        whole = took(lambda: ends.extend(said(argv, "import time; print(time.time())")))
        return Took(ends[0] - began, whole.cpu)

    ours, theirs = in_turns(lambda: start(enter), lambda: start([venv.python]), STARTS)
    more = f"{(ours.wall - theirs.wall) * 1000:.0f} ms more, of processors {(ours.cpu - theirs.cpu) * 1000:.0f} ms"
    report("start of a script", ours.wall, "in a venv", theirs.wall, more)
    found: dict[str, list[list[float]]] = {"image": [], "venv": []}
    for at in range(ROUNDS + 1):
        sides = [("image", enter), ("venv", [venv.python])]
        for name, argv in sides if at % 2 else sides[::-1]:
            found[name].append(said(argv, STEPS))
    imports, *steps = ({name: min(one[at] for one in all_) for name, all_ in found.items()} for at in range(3))
    report("import tensorflow", imports["image"], "in a venv", imports["venv"])
    for what, best in zip(("one thread", "of processors"), steps, strict=True):
        more = f"{100 * (best['image'] / best['venv'] - 1):+.1f} %"
        note = f"{best['image'] * 1000:.3f} ms, in a venv {best['venv'] * 1000:.3f} ms"
        print(f"{f'a step: matmul of 512 x 512, {what}':<52}{note}   {more}")


def horovod(machines: Machines) -> None:
    """An image with Horovod on a machine that has nothing, in a workspace that has Horovod's wheel."""
    compiled = VenvBuilder()
    compiled.ensure(environment_spec(way="mpi", python_version=PYTHON), quiet)
    shutil.copytree(compiled.cache / "wheels", machines.one.cache / "wheels")
    base = f"{machines.host}/base:openmpi"
    push_image(base, mpi_layers())
    spec = environment_spec(way="mpi", python_version=PYTHON, image=ImageSpec(base=base))
    assert spec.image is not None
    machines.one.inputs(recipe(spec), spec.image, quiet)
    other = machines.machine("machine-three")
    began = time.perf_counter()
    at: list[float] = []

    def log(line: str) -> None:
        assert not line.startswith("compiling"), line
        if line.startswith(("taking Horovod's wheel", "building image")):
            at.append(time.perf_counter())

    other.ensure(spec, log)
    report("a machine with nothing: Horovod's image", time.perf_counter() - began)
    report("of that: its wheel, from the workspace", at[1] - at[0])


def main() -> None:
    if sys.platform != "linux":
        print("images: built and run on Linux only")
        return
    if os.geteuid():
        sys.exit("images: run this as root, since skopeo's side needs it")
    run(Path(__file__).parents[2] / "tools" / "apt-install", "buildah skopeo mmdebstrap", "measure images")
    parts = sys.argv[1:] or ["builds", "horovod", "runs"]
    with tempfile.TemporaryDirectory(prefix="tyard-bench-") as folder:
        machines = Machines(Path(folder))
        try:
            if "builds" in parts:
                transfers(machines, builds(machines))
            if "horovod" in parts:
                horovod(machines)
            if "runs" in parts:
                runs(machines)
        finally:
            for registry in machines.registries:
                registry.close()


if __name__ == "__main__":
    main()
