"""A private base, package index and certificate: builds use them, and no image keeps any of it."""

import base64
import gzip
import hashlib
import json
import ssl
import subprocess
import threading
import time
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import msgspec
import pytest

from services.base_image import push_image
from services.oci_registry import OciRegistry
from tensoryard.environment import ImageSpec
from tensoryard.environment.image_builder import ImageBuilder
from tensoryard.environment.image_folders import files_of
from tensoryard.environment.spec import Recipe
from tensoryard.environment.venv import VenvBuilder
from tensoryard.registry.oci_client import Client
from tensoryard.registry.oci_manifest import parse_place
from tensoryard.store.file import FileStore

pytestmark = pytest.mark.xdist_group("images")  # one worker makes what they share
USER, PASSWORD = "tyard-reader", "a-password-of-the-index"
# As `htpasswd -nbB user secret` prints it
HTPASSWD = "user:$2y$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a"
OF_THE_PROXY = "a-password-of-the-proxy"
WHEEL = "tyard_private-1.0-py3-none-any.whl"


class Index:
    """An index of one package, over HTTPS with a certificate that only `ca` vouches for, for one user."""

    def __init__(self, folder: Path) -> None:
        signer = ["-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial"]
        self.ca, certificate, key = folder / "ca.pem", folder / "server.pem", folder / "server.key"
        for argv in (
            [
                "req",
                "-x509",
                "-newkey",
                "rsa:2048",
                "-nodes",
                "-keyout",
                "ca.key",
                "-out",
                self.ca,
                "-subj",
                "/CN=ours",
            ],
            ["req", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", "server.csr", "-subj", "/CN=127.0.0.1"],
            ["x509", "-req", "-in", "server.csr", "-out", certificate, "-extfile", "names", *signer],
        ):
            (folder / "names").write_text("subjectAltName=IP:127.0.0.1\n")
            subprocess.run(["openssl", *argv], cwd=folder, check=True, capture_output=True)
        wheel = folder / WHEEL
        self.module = f"NUMBER = {time.time_ns()}\n"  # of nobody else: no layer of an earlier build will do
        with zipfile.ZipFile(wheel, "w") as archive:
            info = "tyard_private-1.0.dist-info"
            archive.writestr("tyard_private.py", self.module)
            archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: tyard-private\nVersion: 1.0\n")
            archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
            archive.writestr(
                f"{info}/RECORD", f"tyard_private.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n"
            )
        sha256 = hashlib.sha256(wheel.read_bytes()).hexdigest()
        page = f'<a href="/files/{WHEEL}#sha256={sha256}">{WHEEL}</a>'.encode()
        pages = {"/simple/tyard-private/": page, f"/files/{WHEEL}": wheel.read_bytes()}
        allowed = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                known = self.headers.get("Authorization") == allowed
                body = pages.get(self.path, b"") if known else b""
                self.send_response((200 if self.path in pages else 404) if known else 401)
                self.send_header("Content-Type", "text/html" if self.path.endswith("/") else "application/zip")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def do_HEAD(self) -> None:
                self.do_GET()

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.host = f"127.0.0.1:{self._server.server_port}"
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    folder = tmp_path / "index"
    folder.mkdir()
    index = Index(folder)
    yield index
    index.close()


@pytest.fixture(params=["variables", "uv.toml"])
def told(request: pytest.FixtureRequest, index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The machine knows the index, in one of the ways in which people say so."""
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_DIR", "UV_INDEX_URL", "UV_EXTRA_INDEX_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SSL_CERT_FILE", str(index.ca))
    url = f"https://{USER}:{PASSWORD}@{index.host}/simple"
    # To be passed by, but known to every step.
    monkeypatch.setenv("HTTPS_PROXY", f"http://someone:{OF_THE_PROXY}@127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    if request.param == "variables":
        monkeypatch.setenv("UV_DEFAULT_INDEX", url)
    else:
        monkeypatch.delenv("UV_DEFAULT_INDEX", raising=False)
        (tmp_path / "uv.toml").write_text(f'index-url = "{url}"\n')
        monkeypatch.setenv("UV_CONFIG_FILE", str(tmp_path / "uv.toml"))
    return str(request.param)


def test_a_private_index_and_its_certificate_are_used_and_kept_nowhere(
    told: str, index: Index, images: ImageBuilder, base_image: str, image_registry: str, tmp_path: Path
) -> None:
    """In no layer, not even below a later one; not in the configuration, the workspace, or what was logged."""
    store = FileStore(tmp_path / "store")
    builder = ImageBuilder(VenvBuilder(images.cache), f"{image_registry}/{told.replace('.', '-')}", store)
    requirement = {"variables": "tyard-private==1.0", "uv.toml": "tyard-private>=1"}[told]  # a lock for each
    wanted = Recipe(name="private", python="3.11", requirements=(requirement,))
    lines: list[str] = []
    made = builder.ensure_recipe(wanted, ImageSpec(base=base_image), lines.append)

    module = files_of(Path(made.unpacked)).find("/opt/environment/lib/python3.11/site-packages/tyard_private.py")
    assert module
    assert Path(module).read_text() == index.module
    place, _, digest = made.image.partition("@")
    client = Client(parse_place(place, "latest"))
    manifest = client.manifest(digest)
    described = msgspec.json.decode(manifest)
    with client.open_blob(described["config"]["digest"]) as file:
        kept = {"manifest": manifest, "config": file.read(), "log": "\n".join(lines).encode()}
    for layer in described["layers"]:
        with client.open_blob(layer["digest"]) as file:
            kept[layer["digest"]] = gzip.decompress(file.read())
    kept |= {str(path): path.read_bytes() for path in store.root.rglob("*") if path.is_file()}
    of_the_ca = index.ca.read_bytes().splitlines()[5]
    for secret in (PASSWORD.encode(), USER.encode(), OF_THE_PROXY.encode(), index.host.encode(), of_the_ca):
        assert [where for where, data in kept.items() if secret in data] == []


@pytest.mark.parametrize("place", ["DOCKER_CONFIG", "HOME"])
def test_a_private_base_is_read_and_the_image_written_with_the_login_of_docker(
    images: ImageBuilder, base_layers: list[bytes], tmp_path: Path, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "htpasswd").write_text(f"{HTPASSWD}\n")
    (tmp_path / "registry").mkdir()
    guarded = OciRegistry(tmp_path / "registry", tmp_path / "htpasswd")
    folder = tmp_path / "docker" if place == "DOCKER_CONFIG" else tmp_path / ".docker"
    folder.mkdir()
    login = {"auth": base64.b64encode(b"user:secret").decode()}
    (folder / "config.json").write_text(json.dumps({"auths": {guarded.host: login}}))
    monkeypatch.delenv("DOCKER_CONFIG", raising=False)
    monkeypatch.setenv(place, str(folder if place == "DOCKER_CONFIG" else tmp_path))
    push_image(f"{guarded.host}/team/base:12", base_layers)
    builder = ImageBuilder(VenvBuilder(images.cache), guarded.host, FileStore(tmp_path / "store"))
    wanted = Recipe(name="guarded", python="3.11")
    made = builder.ensure_recipe(wanted, ImageSpec(base=f"{guarded.host}/team/base:12"), print)
    assert made.image.startswith(f"{guarded.host}/tensoryard/environments@sha256:")
    guarded.close()
