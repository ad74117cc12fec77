"""What happens to images when something breaks: it is said, nothing is left, and the next try works."""

import functools
import http.server
import io
import multiprocessing
import os
import signal
import subprocess
import tarfile
import threading
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from launching import StoreThat, all_processes
from services.base_image import push_image
from services.cutting import Cutting
from services.faulty import Faulty
from services.images import SIX, host, left_behind, variant
from tensoryard.environment import ImageSpec, command, locking
from tensoryard.environment.buildah import Buildah
from tensoryard.environment.image_builder import ImageBuilder
from tensoryard.environment.image_folders import files_of
from tensoryard.environment.spec import Recipe
from tensoryard.environment.venv import VenvBuilder
from tensoryard.errors import EnvironmentBuildError, NotFoundError, StoreError
from tensoryard.registry.oci_client import Client
from tensoryard.registry.oci_manifest import parse_place
from tensoryard.store.file import FileStore

pytestmark = pytest.mark.xdist_group("images")  # one worker makes what they share


def machine(folder: Path, registry: str, store: FileStore) -> ImageBuilder:
    return ImageBuilder(VenvBuilder(folder), registry, store)


def test_what_others_built_is_found_by_one_request_and_found_again_by_none(
    faulty: Faulty, image_registry: str, tmp_path: Path
) -> None:
    store = FileStore(tmp_path / "store")
    base = ImageSpec(base=f"{image_registry}/faults/base:1")
    push_image(base.base, variant([], b"base\n"))
    one = machine(tmp_path / "one", host(faulty), store)
    inputs = one.inputs(Recipe(name="bare", python="3.11"), base, print)
    push_image(f"{image_registry}/tensoryard/environments:{inputs.key}", variant([], b"built\n"))
    asked: list[int] = []

    def log(line: str) -> None:
        if line.endswith("reused"):
            asked.append(len(faulty.seen))

    calls: list[str] = []
    counted = StoreThat(store, lambda name, _: calls.append(name))
    for folder in ("one", "other"):  # the second knows the digest from the store
        faulty.again(lambda _: None)
        builder = machine(tmp_path / folder, host(faulty), counted)  # type: ignore[arg-type]
        builder.ensure_recipe(Recipe(name="bare", python="3.11"), base, log)
    assert asked == [1, 1]
    faulty.again(lambda _: "request lost")
    calls.clear()
    assert builder.find_recipe(Recipe(name="bare", python="3.11"), base)
    assert (faulty.seen, calls) == ([], ["children"])


def test_a_layer_that_is_cut_off_on_its_way_is_asked_for_again(
    faulty: Faulty, image_registry: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tensoryard.environment.image_folders.wait", lambda attempt: None)
    push_image(f"{image_registry}/faults/cut:1", variant([], os.urandom(1 << 20)))
    gets: list[str] = []

    def plan(asked: object) -> str | None:
        path = getattr(asked, "path", "")
        if getattr(asked, "method", "") == "GET" and "/blobs/" in path:
            gets.append(path)
            return "answer torn" if len(gets) == 2 else None  # the first is the configuration
        return None

    faulty.again(plan)
    said: list[str] = []
    builder = ImageBuilder(VenvBuilder(tmp_path))
    made = builder.ensure_recipe(SIX, ImageSpec(existing=f"{host(faulty)}/faults/cut:1"), said.append)
    assert (len(gets), sum(line.endswith("trying again") for line in said)) == (3, 1)
    assert files_of(Path(made.unpacked)).find("/etc/this-is")
    assert left_behind(builder) == []


def test_a_push_that_is_cut_half_way_is_said_and_the_next_one_sends_the_rest(
    images: ImageBuilder, image_registry: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An image of a megabyte: to another host buildah packs all layers again."""
    monkeypatch.setattr("tensoryard.environment.buildah.RETRIES", ("--retry=1", "--retry-delay=10ms"))
    way = Cutting(image_registry)
    builder = ImageBuilder(images.venvs, f"{way.host}/cut", FileStore(tmp_path / "store"))
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "data").write_bytes(os.urandom(1 << 20))
    (tmp_path / "source" / "Dockerfile").write_text("FROM scratch\nCOPY data /data\n")
    wanted = ImageSpec(dockerfile="Dockerfile", context="cut", folder=str(tmp_path / "source"))
    bare = Recipe(name="", python="")

    def cut(line: str) -> None:
        if line.startswith("pushing"):
            way.left = 300 << 10

    with pytest.raises(EnvironmentBuildError, match=f"registry `{way.host}` did not take it; buildah says"):
        builder.ensure_recipe(bare, wanted, cut)
    assert way.cuts
    assert left_behind(builder) == []
    assert builder.find_recipe(bare, wanted) is None
    way.left = None
    made = builder.ensure_recipe(bare, wanted, print)
    assert made.image.startswith(f"{way.host}/cut/")
    assert Path(files_of(Path(made.unpacked)).find("/data") or "").stat().st_size == 1 << 20
    assert left_behind(builder) == []
    way.close()


@pytest.mark.parametrize("stage", ["building image", "STEP 5", "pushing image", "unpacking"])
def test_after_a_builder_was_killed_another_goes_on(
    images: ImageBuilder, base_image: str, tmp_path: Path, image_registry: str, stage: str
) -> None:
    builder = ImageBuilder(images.venvs, f"{image_registry}/killed", FileStore(tmp_path / "store"))
    name = f"six=={dict(zip(('b', 'S', 'p', 'u'), ('1.11.0', '1.10.0', '1.9.0', '1.8.0'), strict=True))[stage[0]]}"
    wanted = Recipe(name="killed", python="3.11", requirements=(name,))

    def log(line: str) -> None:
        if line.startswith(stage):
            os.kill(os.getpid(), signal.SIGKILL)

    def build() -> None:
        builder.ensure_recipe(wanted, ImageSpec(base=base_image), log)

    child = multiprocessing.get_context("fork").Process(target=build)
    child.start()
    child.join()
    assert child.exitcode == -signal.SIGKILL
    assert builder.find_recipe(wanted, ImageSpec(base=base_image)) is None
    made = builder.ensure_recipe(wanted, ImageSpec(base=base_image), print)
    assert files_of(Path(made.unpacked)).find("/opt/environment/lib/python3.11/site-packages/six.py")
    assert left_behind(builder) == []


def test_what_a_killed_builder_left_of_another_image_goes_with_the_next_build(
    images: ImageBuilder, tmp_path: Path
) -> None:
    left = images.cache / "images" / f".building-{'ab' * 8}-left"
    left.mkdir(parents=True)
    (tmp_path / "Dockerfile").write_text("FROM scratch\nCOPY Dockerfile /left\n")
    wanted = ImageSpec(dockerfile="Dockerfile", context="left", folder=str(tmp_path))
    with locking.held(images.cache / "flocks" / f"image-build-{'ab' * 8}", "a test", print):
        images.ensure_recipe(SIX, wanted, print)
        assert left.exists()  # somebody builds it
    images.ensure_recipe(SIX, msgspec.structs.replace(wanted, context="left too"), print)
    assert left_behind(images) == []


def test_a_build_whose_buildah_is_killed_fails_and_the_next_one_works(images: ImageBuilder, base_image: str) -> None:
    wanted = Recipe(name="killed", python="3.11", requirements=("six==1.7.3",))
    killed: list[int] = []

    def log(line: str) -> None:
        if line.startswith("STEP 5") and not killed:
            mark = str(images.cache)
            killed.extend(pid for pid, command, _ in all_processes() if " bud " in command and mark in command)
            for pid in killed:
                os.kill(pid, signal.SIGKILL)

    with pytest.raises(EnvironmentBuildError, match="failed"):
        images.ensure_recipe(wanted, ImageSpec(base=base_image), log)
    assert killed
    assert left_behind(images) == []
    assert images.ensure_recipe(wanted, ImageSpec(base=base_image), print).packages


def test_a_build_in_a_container_is_not_taken_for_one_that_a_killed_builder_left() -> None:
    """There its builder has a number that may be nobody's here."""
    program = "echo started; exec sleep 600"
    argv = ["unshare", "--pid", "--fork", "--kill-child", "env", "TYARD_BUILDER=4194303", "sh", "-c", program]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as build:
        assert build.stdout is not None
        assert build.stdout.readline() == b"started\n"
        command.end_orphans()
        assert [pid for pid, line, _ in all_processes() if line == "sleep 600 " and is_child(pid, build.pid)]
        build.kill()


def is_child(pid: int, parent: int) -> bool:
    return str(pid) in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()


def test_what_is_unpacked_here_needs_no_registry(image_registry: str, tmp_path: Path) -> None:
    way = Cutting(image_registry)
    push_image(f"{image_registry}/faults/away:1", variant([], b"here\n"))
    builder = ImageBuilder(VenvBuilder(tmp_path))
    wanted = ImageSpec(existing=f"{way.host}/faults/away:1")
    made = builder.ensure_recipe(SIX, wanted, print)
    way.close()
    assert builder.ensure_recipe(SIX, wanted, print) == made
    (tmp_path / "images" / "asked").rename(tmp_path / "lost")  # all but the image itself
    assert builder.ensure_recipe(SIX, wanted, print).unpacked == made.unpacked


@pytest.mark.parametrize("large", ["base", "source"])
def test_a_build_on_a_full_disk_is_said_to_be_so(
    image_registry: str, tmp_path: Path, small_disk: Callable[[int], Path], large: str
) -> None:
    name = f"{image_registry}/faults/{large}:1"
    push_image(name, variant([], bytes(24 << 20) if large == "base" else b"small\n"))
    source = tmp_path / "source"
    source.mkdir()
    (source / "Dockerfile").write_text(f"FROM {name}\nCOPY Dockerfile /\n")
    (source / "data").write_bytes(bytes(24 << 20) if large == "source" else b"")
    builder = ImageBuilder(VenvBuilder(small_disk(16 << 20)))
    said: list[str] = []
    with pytest.raises(EnvironmentBuildError, match=r"image \w+: the disk of .* is full, .* are free") as raised:
        builder.ensure_recipe(SIX, ImageSpec(dockerfile="Dockerfile", folder=str(source)), said.append)
    assert raised.value.hint
    assert "; it needs more than " in raised.value.message
    assert ("what it is built on is " if large == "base" else "its source is 25.2 MB") in raised.value.message
    assert any("removed images that nobody uses" in line for line in said)
    assert [line for line in left_behind(builder) if not line.startswith("tyard-test ")] == []


def test_a_registry_that_is_away_is_said_to_be_so_where_it_is_needed(
    image_registry: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tensoryard.registry.oci_client.wait", lambda *_: None)
    way = Cutting(image_registry)
    push_image(f"{image_registry}/faults/away:2", variant([], b"there\n"))
    builder = ImageBuilder(VenvBuilder(tmp_path))
    pinned = builder.update(SIX, ImageSpec(existing=f"{way.host}/faults/away:2"), print)[1]
    way.close()
    with pytest.raises(StoreError, match=f"registry `{way.host}`: does not answer"):
        builder.ensure_recipe(SIX, ImageSpec(existing=f"{way.host}/faults/away:2@{pinned.digest}"), print)
    assert left_behind(builder) == []


def test_a_base_that_is_gone_is_named_and_how_to_move_on(
    images: ImageBuilder, image_registry: str, tmp_path: Path
) -> None:
    name = f"{image_registry}/faults/gone:1"
    digest = push_image(name, variant([], b"soon gone\n"))
    builder = ImageBuilder(images.venvs, "", FileStore(tmp_path / "store"))
    bare = Recipe(name="bare", python="3.11")
    builder.inputs(bare, ImageSpec(base=name), print)
    client = Client(parse_place(name, "1"))
    assert client.ask("DELETE", f"http://{image_registry}/v2/faults/gone/manifests/{digest}").status == 202
    with pytest.raises(NotFoundError, match=f"`{image_registry}` has no `faults/gone@{digest}` any more") as raised:
        builder.ensure_recipe(bare, ImageSpec(base=name), print)
    assert "tyard env update" in (raised.value.hint or "")
    assert left_behind(builder) == []


BACKEND = """
def prepare_metadata_for_build_wheel(folder, settings=None):
    import pathlib
    info = pathlib.Path(folder, "broken-1.0.dist-info")
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\\nName: broken\\nVersion: 1.0\\n")
    return info.name

def build_wheel(folder, settings=None, metadata=None):
    print("\\n".join(f"compiling line {number}" for number in range(40)))
    raise SystemExit("broken.c:1:1: error: no such thing")
"""


def test_a_package_that_cannot_be_compiled_is_named_with_the_line_of_the_job(
    images: ImageBuilder, base_image: str, tmp_path: Path
) -> None:
    project = {
        "broken-1.0/pyproject.toml": '[build-system]\nrequires = []\nbuild-backend = "own"\nbackend-path = ["."]\n'
        '[project]\nname = "broken"\nversion = "1.0"\n',
        "broken-1.0/own.py": BACKEND,
        "broken-1.0/PKG-INFO": "Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n",
    }
    with tarfile.open(tmp_path / "broken-1.0.tar.gz", "w:gz") as archive:
        for name, text in project.items():
            member = tarfile.TarInfo(name)
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text.encode()))
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=tmp_path)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        entry = f"broken @ http://127.0.0.1:{server.server_address[1]}/broken-1.0.tar.gz"
        wanted = Recipe(name="broken", python="3.11", requirements=("six==1.16.0", entry))
        with pytest.raises(EnvironmentBuildError) as raised:
            images.ensure_recipe(wanted, ImageSpec(base=base_image), print)
        server.shutdown()
    assert raised.value.message.startswith(f"pip_packages: `{entry}`: image ")
    assert "broken.c:1:1: error: no such thing" in raised.value.message
    assert left_behind(images) == []


def test_a_step_that_failed_without_a_word_is_run_once_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As buildah 1.28 loses the last words of a step when the machine is busy; here one that always does at first."""
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "buildah"
    program.write_text(
        f"""#!/bin/sh
case "$*" in *" bud "*) ;; *) exit 0 ;; esac
echo 'STEP 1/2: FROM base'
echo 'STEP 2/2: RUN make'
[ -e {tmp_path}/again ] && echo 'make: no rule'
touch {tmp_path}/again
echo 'subprocess exited with status 2'
echo 'Error: building at STEP "RUN make": exit status 2'
exit 2
"""
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=":")
    (tmp_path / "Dockerfile").write_text("FROM base\n")
    with pytest.raises(EnvironmentBuildError, match="make: no rule"):
        Buildah(tmp_path / "storage").build("key", tmp_path, lambda line: None)
