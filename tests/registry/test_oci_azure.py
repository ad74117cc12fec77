"""Azure's registry lets in whoever Azure knows here: no password, and nothing that others can read."""

import base64
import gzip
import io
import json
import os
import re
import stat
import sys
import tarfile
import threading
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from services.azure_sign_in import Identity, token
from services.azures_registry import AUDIENCE, AzuresRegistry, claims_of
from services.base_image import push_image
from tensoryard.environment import ImageSpec, command
from tensoryard.environment.buildah import Buildah
from tensoryard.environment.image_builder import ImageBuilder
from tensoryard.environment.image_folders import ImageFolders
from tensoryard.environment.spec import Recipe
from tensoryard.environment.venv import VenvBuilder
from tensoryard.errors import StoreError
from tensoryard.registry import oci_azure
from tensoryard.registry.oci_client import Client
from tensoryard.registry.oci_manifest import Place
from tensoryard.store.file import FileStore

TENANT = "33333333-3333-3333-3333-333333333333"


@pytest.fixture(scope="module")
def _registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AzuresRegistry]:
    registry = AzuresRegistry(tmp_path_factory.mktemp("azures"))
    yield registry
    registry.close()


@pytest.fixture
def azures(_registry: AzuresRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[AzuresRegistry]:
    """A registry that this process takes for one of Azure's, on a machine with a managed identity."""
    identity = Identity(TENANT)
    for name, value in {**identity.environ, "AZURE_TOKEN_CREDENTIALS": "ManagedIdentityCredential"}.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "docker").mkdir()
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    monkeypatch.setattr(oci_azure, "_AZURES", re.compile(re.escape(_registry.host)))
    monkeypatch.setattr(oci_azure, "_kept", {})
    monkeypatch.setattr(oci_azure, "_credentials", [])
    _registry.rights, _registry.good_for_s, _registry.refresh_for_s = {"pull", "push"}, 3600, 10800
    _registry.refused.clear()
    _registry.paths()
    yield _registry
    identity.close()


def a_layer(name: str = "greeting") -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        member = tarfile.TarInfo(name)
        member.size = 5
        archive.addfile(member, io.BytesIO(b"hello"))
    return gzip.compress(made.getvalue(), mtime=0)


def client(azures: AzuresRegistry, push: bool = False) -> Client:
    return Client(Place(azures.host, "base", "1"), push)


def test_a_managed_identity_pushes_and_pulls(azures: AzuresRegistry, tmp_path: Path) -> None:
    digest = push_image(f"{azures.host}/base:1", [a_layer()])
    assert client(azures).tagged() == digest
    folder = ImageFolders(tmp_path, lambda name: tmp_path / "flocks" / name).unpack(client(azures), digest, print)
    assert (folder / "layers" / "0" / "greeting").read_text() == "hello"

    exchanges = [form for path, form in azures.asked if path == "/oauth2/exchange"]
    assert len(exchanges) == 1  # kept for all that this process does
    assert claims_of(exchanges[0]["access_token"])["aud"] == AUDIENCE
    scopes = [form["scope"] for path, form in azures.asked if path == "/oauth2/token"]
    assert scopes == ["repository:base:pull,push", "repository:base:pull", "repository:base:pull"]
    assert azures.refused == []


def test_a_token_that_ended_is_asked_for_again(azures: AzuresRegistry) -> None:
    push_image(f"{azures.host}/base:1", [a_layer()])
    one = client(azures)
    assert one.tagged()
    azures.paths()
    azures.good_for_s = -120  # the registry gives clocks a minute
    one._authorization = f"Bearer {azures.token('repository', 'base', ['pull'])}"
    azures.good_for_s = 3600
    assert one.tagged()
    assert azures.paths() == ["token"]


def test_a_login_that_ended_is_exchanged_for_anew(azures: AzuresRegistry) -> None:
    push_image(f"{azures.host}/base:1", [a_layer()])
    azures.paths()
    azures.exchanged.clear()
    assert client(azures).tagged()
    assert azures.paths() == ["token", "exchange", "token"]

    azures.refresh_for_s = 60  # it will have ended when it is needed
    oci_azure._kept.clear()
    assert client(azures).tagged()
    assert client(azures).tagged()
    assert azures.paths() == ["exchange", "token", "exchange", "token"]


def test_the_role_that_is_missing_is_named(azures: AzuresRegistry) -> None:
    azures.rights = {"pull"}
    with pytest.raises(
        StoreError, match=r"refused \(401\); `base` needs a login with the role AcrPush there"
    ) as caught:
        push_image(f"{azures.host}/base:1", [a_layer("another")])
    assert caught.value.hint is not None
    assert "az role assignment create --role AcrPush" in caught.value.hint
    azures.rights = set()
    with pytest.raises(StoreError, match=r"gave no token \(401\); `base` needs a login with the role AcrPull there"):
        client(azures).tagged()


def test_nobody_signed_in_is_said(azures: AzuresRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_TOKEN_CREDENTIALS", "EnvironmentCredential")
    with pytest.raises(StoreError, match="nobody is signed in to Azure on this machine") as caught:
        client(azures).tagged()
    assert caught.value.hint == "`az login`"


def test_a_node_without_azures_library_asks_its_machine(
    azures: AzuresRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "azure.identity", None)
    monkeypatch.setattr(oci_azure.time, "sleep", lambda seconds: None)
    monkeypatch.setattr(oci_azure, "METADATA", "http://127.0.0.1:1")
    with pytest.raises(StoreError, match=r"`azure\.identity`, which signs in there, is missing"):
        client(azures).tagged()

    azures.refused.clear()
    asked: list[tuple[str, str | None]] = []

    class Metadata(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append((self.path, self.headers["Metadata"]))
            query = parse_qs(urlsplit(self.path).query)
            body = json.dumps({"access_token": token(TENANT, query["resource"][0])}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    digest = "sha256:" + "0" * 64
    with ThreadingHTTPServer(("127.0.0.1", 0), Metadata) as metadata:
        threading.Thread(target=metadata.serve_forever, args=(0.02,), daemon=True).start()
        monkeypatch.setattr(oci_azure, "METADATA", f"http://127.0.0.1:{metadata.server_port}")
        assert not client(azures).has_blob(digest)
        metadata.shutdown()
    assert asked == [
        (
            "/metadata/identity/oauth2/token?api-version=2018-02-01&resource=https%3A%2F%2Fcontainerregistry.azure.net",
            "true",
        )
    ]
    assert azures.refused == []


def test_a_login_of_docker_comes_first(azures: AzuresRegistry) -> None:
    entry = {"auth": base64.b64encode(b"user:secret").decode()}
    config = Path(os.environ["DOCKER_CONFIG"]) / "config.json"
    config.write_text(json.dumps({"auths": {azures.host: entry}}))
    with pytest.raises(StoreError, match="gave no token"):
        client(azures).tagged()
    assert "exchange" not in azures.paths()


@pytest.mark.parametrize(
    ("registry", "azures_own"),
    [
        ("myregistry.azurecr.io", True),
        ("myregistry-with-hash.azurecr.cn", True),
        ("azurecr.io", False),
        ("myregistry.azurecr.io.example.org", False),
        ("example.org:443", False),
        ("myregistry.azurecr.io:8443", False),
        ("a.b.azurecr.io", False),
        ("docker.io", False),
    ],
)
def test_only_azures_registries_are_given_a_token_of_azure(registry: str, azures_own: bool) -> None:
    assert oci_azure.is_azures(registry) is azures_own


def test_buildah_signs_in_without_a_secret_that_others_see(
    azures: AzuresRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    push_image(f"{azures.host}/base:1", [a_layer()])
    ran: list[Sequence[str]] = []
    files: list[Path] = []
    plain = command.run

    def watched(argv: Sequence[str], **others: Any) -> command.Finished:
        ran.append(argv)
        if "--authfile" in argv:
            files.append(Path(argv[argv.index("--authfile") + 1]))
            assert stat.S_IMODE(files[-1].stat().st_mode) == 0o600
            assert stat.S_IMODE(files[-1].parent.stat().st_mode) == 0o700
        return plain(argv, **others)

    monkeypatch.setattr(command, "run", watched)
    said: list[str] = []
    (tmp_path / "Dockerfile").write_text(f"FROM {azures.host}/base:1\nCOPY Dockerfile /made-from\n")
    buildah = Buildah(tmp_path / "buildah")
    buildah.build("0123456789abcdef", tmp_path, said.append)
    pushed = buildah.push("0123456789abcdef", Place(azures.host, "made", "1"), said.append)

    assert Client(Place(azures.host, "made", "1")).tagged() == pushed
    assert len(files) == 2
    assert not any(file.parent.exists() for file in files)
    seen = "\n".join([*said, *(" ".join(argv) for argv in ran)])
    assert not any(refresh in seen for refresh in azures.exchanged)
    assert azures.refused == []


def test_that_the_right_to_push_is_missing_is_known_before_anything_is_built(
    azures: AzuresRegistry, tmp_path: Path
) -> None:
    azures.rights = {"pull"}
    (tmp_path / "Dockerfile").write_text("FROM scratch\nCOPY Dockerfile /\n")
    builder = ImageBuilder(VenvBuilder(tmp_path / "cache"), azures.host, FileStore(tmp_path / "store"))
    said: list[str] = []
    with pytest.raises(StoreError, match="needs a login with the role AcrPush there"):
        builder.ensure_recipe(
            Recipe(name="", python=""), ImageSpec(dockerfile="Dockerfile", folder=str(tmp_path)), said.append
        )
    assert not any(line.startswith("building") for line in said)
