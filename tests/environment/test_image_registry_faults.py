"""Registries that are slow, full, unwilling, or wrong for a moment: what becomes of an image."""

import http.server
import json
import os
import re
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from services.base_image import push_image
from services.cutting import Cutting
from services.faulty import Asked, Faulty, Said
from services.images import SIX, host, left_behind, variant
from services.oci_registry import OciRegistry
from tensoryard.environment import ImageSpec
from tensoryard.environment.buildah import Buildah
from tensoryard.environment.image_builder import ImageBuilder
from tensoryard.environment.image_folders import files_of
from tensoryard.environment.image_push import push
from tensoryard.environment.image_unpack import OciFolder
from tensoryard.environment.spec import Recipe
from tensoryard.environment.venv import VenvBuilder
from tensoryard.errors import EnvironmentBuildError, StoreError
from tensoryard.registry import oci_azure
from tensoryard.registry.oci_manifest import Place
from tensoryard.store.file import FileStore

pytestmark = pytest.mark.xdist_group("images")  # one worker makes what they share
BARE = Recipe(name="", python="")


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("registry.oci_client", "registry.oci", "environment.image_folders"):
        monkeypatch.setattr(f"tensoryard.{module}.wait", lambda *_: None)


def own(folder: Path, size_bytes: int) -> ImageSpec:
    """An image of a file that nobody has, on no base."""
    folder.mkdir()
    (folder / "data").write_bytes(os.urandom(size_bytes))
    (folder / "Dockerfile").write_text("FROM scratch\nCOPY data /data\n")
    return ImageSpec(dockerfile="Dockerfile", context=folder.name, folder=str(folder))


def first_of_each(fault: str | Said) -> Callable[[Asked], str | Said | None]:
    """A plan by which each kind of request fails once."""
    met: set[tuple[str, str]] = set()

    def plan(asked: Asked) -> str | Said | None:
        kind = asked.method, re.sub(r"sha256:\w+|uploads/.+", "", asked.path.partition("?")[0])
        known = kind in met
        met.add(kind)
        return None if known else fault

    return plan


def test_a_registry_that_is_slow_is_asked_again_and_named_when_it_stays_so(
    faulty: Faulty, image_registry: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tensoryard.registry.oci_client._TIMEOUT_S", 0.5)
    push_image(f"{image_registry}/slow:1", variant([], b"slow\n"))
    builder = ImageBuilder(VenvBuilder(tmp_path))
    faulty.again(first_of_each("answer late"))
    made = builder.ensure_recipe(SIX, ImageSpec(existing=f"{host(faulty)}/slow:1"), print)
    assert files_of(Path(made.unpacked)).find("/etc/this-is")
    faulty.again(lambda _: "answer late")
    with pytest.raises(StoreError, match=f"registry `{host(faulty)}`: does not answer: timed out"):
        builder.ensure_recipe(SIX, ImageSpec(existing=f"{host(faulty)}/slow:2"), print)
    assert left_behind(builder) == []


def test_a_registry_that_fails_for_a_moment_is_asked_again(
    faulty: Faulty, image_registry: str, tmp_path: Path
) -> None:
    """A push as those of jobs and of docker are, then a pull."""
    image = own(tmp_path / "own", 1 << 20)
    buildah = Buildah(tmp_path / "buildah")
    buildah.build("1" * 16, Path(image.folder), print)
    folder = OciFolder(buildah.export("1" * 16, tmp_path / "oci", print))
    faulty.again(first_of_each(Said(500)))
    push(folder, folder.newest(), Place(host(faulty), "moment", "1"))
    assert {asked.method for asked in faulty.seen} == {"HEAD", "POST", "PUT"}
    faulty.again(first_of_each(Said(500)))
    builder = ImageBuilder(VenvBuilder(tmp_path / "cache"))
    made = builder.ensure_recipe(SIX, ImageSpec(existing=f"{host(faulty)}/moment:1"), print)
    assert made.image.endswith(folder.newest())
    assert files_of(Path(made.unpacked)).find("/data")


def test_a_registry_that_is_full_is_not_taken_for_this_machine_s_disk(
    tmp_path: Path, small_disk: Callable[[int], Path]
) -> None:
    registry = OciRegistry(small_disk(2 << 20))
    builder = ImageBuilder(VenvBuilder(tmp_path / "cache"), registry.host, FileStore(tmp_path / "store"))
    with pytest.raises(EnvironmentBuildError, match=f"registry `{registry.host}` did not take it") as raised:
        builder.ensure_recipe(BARE, own(tmp_path / "own", 4 << 20), print)
    registry.close()
    assert "may have a full disk" in (raised.value.hint or "")
    assert left_behind(builder) == []


class _Refuses(http.server.BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = json.dumps({"errors": [{"code": "DENIED", "message": "client with IP '10.0.0.4' is not allowed"}]})
        self.send_response(403)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def do_HEAD(self) -> None:
        self.send_response(404)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


def test_a_refusal_has_the_role_and_the_registry_s_words_before_anything_is_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Refuses) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        at = f"127.0.0.1:{server.server_port}"
        monkeypatch.setattr(oci_azure, "_AZURES", re.compile(re.escape(at)))
        builder = ImageBuilder(VenvBuilder(tmp_path / "cache"), at, FileStore(tmp_path / "store"))
        said: list[str] = []
        with pytest.raises(StoreError) as raised:
            builder.ensure_recipe(BARE, own(tmp_path / "own", 1), said.append)
        server.shutdown()
    assert raised.value.message == (
        f"registry `{at}`: refused (403 DENIED: client with IP '10.0.0.4' is not allowed); "
        "`tensoryard/environments` needs a login with the role AcrPush there"
    )
    assert not any(line.startswith("building") for line in said)


def test_only_layers_that_the_registry_lacks_are_sent(image_registry: str, tmp_path: Path) -> None:
    way = Cutting(image_registry)
    image = own(tmp_path / "own", 1 << 20)
    Path(image.folder, "Dockerfile").write_text("FROM scratch\nCOPY data /data\nCOPY changed /changed\n")
    builder = ImageBuilder(VenvBuilder(tmp_path / "cache"), way.host, FileStore(tmp_path / "store"))

    def sent(changed: str) -> int:
        Path(image.folder, "changed").write_text(changed)
        way.left = before = 1 << 40
        wanted = ImageSpec(dockerfile=image.dockerfile, context=changed, folder=image.folder)
        builder.ensure_recipe(BARE, wanted, print)
        return before - way.left

    assert sent("first") > 1 << 20
    assert sent("second") < 100 << 10
    way.close()
