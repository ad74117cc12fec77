"""A private base, package index and certificate: builds use them, and no image keeps any of it."""

import base64
import gzip
import json
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from services.base_image import push_image
from services.certificates import authority_files
from services.images import SIX, variant
from services.oci_registry import OciRegistry
from services.package_index import PackageIndex
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
MODULE = f"NUMBER = {time.time_ns()}\n"  # of nobody else: no layer of an earlier build will do


@pytest.fixture
def ca(tmp_path: Path) -> Path:
    """The authority that alone vouches for the index."""
    return authority_files(tmp_path)[0]


@pytest.fixture
def index(tmp_path: Path, ca: Path) -> Iterator[PackageIndex]:
    """An index of one package, over HTTPS and for one user."""
    tls = ca.with_name("server.pem"), ca.with_name("server.key")
    index = PackageIndex({"tyard-private": "1.0"}, MODULE, f"{USER}:{PASSWORD}", tls)
    yield index
    index.close()


@pytest.fixture(params=["variables", "uv.toml"])
def told(
    request: pytest.FixtureRequest, index: PackageIndex, ca: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> str:
    """The machine knows the index, in one of the ways in which people say so."""
    for name in (
        "REQUESTS_CA_BUNDLE",
        "CURL_CA_BUNDLE",
        "SSL_CERT_DIR",
        "UV_INDEX_URL",
        "UV_EXTRA_INDEX_URL",
        "UV_INDEX",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SSL_CERT_FILE", str(ca))
    # To be passed by, but known to every step.
    monkeypatch.setenv("HTTPS_PROXY", f"http://someone:{OF_THE_PROXY}@127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    if request.param == "variables":
        monkeypatch.setenv("UV_DEFAULT_INDEX", index.url)
    else:
        monkeypatch.delenv("UV_DEFAULT_INDEX", raising=False)
        (tmp_path / "uv.toml").write_text(f'index-url = "{index.url}"\n')
        monkeypatch.setenv("UV_CONFIG_FILE", str(tmp_path / "uv.toml"))
    return str(request.param)


def test_a_private_index_and_its_certificate_are_used_and_kept_nowhere(
    told: str,
    index: PackageIndex,
    ca: Path,
    images: ImageBuilder,
    base_image: str,
    image_registry: str,
    tmp_path: Path,
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
    assert Path(module).read_text() == MODULE
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
    of_the_ca = ca.read_bytes().splitlines()[5]
    for secret in (PASSWORD.encode(), USER.encode(), OF_THE_PROXY.encode(), index.host.encode(), of_the_ca):
        assert [where for where, data in kept.items() if secret in data] == []


@pytest.mark.parametrize("place", ["DOCKER_CONFIG", "HOME"])
def test_a_private_base_is_read_and_the_image_written_with_the_login_of_docker(
    images: ImageBuilder, tmp_path: Path, place: str, monkeypatch: pytest.MonkeyPatch
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
    push_image(f"{guarded.host}/team/base:12", variant([], b"the base\n"))
    builder = ImageBuilder(VenvBuilder(images.cache), guarded.host, FileStore(tmp_path / "store"))
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "Dockerfile").write_text(f"FROM {guarded.host}/team/base:12\nCOPY Dockerfile /\n")
    image = ImageSpec(dockerfile="Dockerfile", context=place, folder=str(tmp_path / "source"))
    made = builder.ensure_recipe(SIX, image, print)
    assert made.image.startswith(f"{guarded.host}/tensoryard/environments@sha256:")
    assert files_of(Path(made.unpacked)).find("/etc/this-is")
    guarded.close()
