"""Pushes to an OCI registry: what arrives is ModelPack, with the stored digests, a broken push has no tag."""

import base64
import hashlib
import http.server
import json
import os
import stat
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from services.oci_registry import OciRegistry
from tensoryard.cli.models import models
from tensoryard.errors import NotFoundError, StoreError, TensoryardError, UsageError, VerificationError
from tensoryard.registry import ModelVersion, Registry
from tensoryard.registry import oci as oci_module
from tensoryard.registry.oci import push
from tensoryard.registry.oci_login import Login, find_login
from tensoryard.registry.oci_manifest import Place, parse_place
from tensoryard.store import Store
from tensoryard.store import transfer as transfer_module

FILES = {"saved_model.pb": b"graph" * 1000, "variables/index": b"index", "empty": b"", "same": b"index", "a b": b"-"}
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
# As `htpasswd -nbB user secret` prints it
USER = "user:$2y$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a"


@pytest.fixture(scope="module")
def oci(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OciRegistry]:
    registry = OciRegistry(tmp_path_factory.mktemp("oci"))
    yield registry
    registry.close()


@pytest.fixture(autouse=True)
def no_login(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Docker configuration of the test's own, empty."""
    folder = tmp_path / "docker"
    folder.mkdir()
    monkeypatch.setenv("DOCKER_CONFIG", str(folder))
    return folder


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> int:
    """So that a file of a few kilobytes goes in many chunks."""
    for module in (oci_module, transfer_module):
        monkeypatch.setattr(module, "CHUNK_BYTES", 1024)
    return 1024


def register(store: Store, tmp_path: Path, files: dict[str, bytes] = FILES) -> ModelVersion:
    for name, data in files.items():
        path = tmp_path / "exported" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return Registry(store).register_folder("digits", tmp_path / "exported")


def pull(host: str, repository: str, what: str) -> tuple[dict[str, str], bytes]:
    request = urllib.request.Request(f"http://{host}/v2/{repository}/{what}", headers={"Accept": MANIFEST})
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request) as response:
        return dict(response.headers), response.read()


def tag_is_there(place: Place) -> bool:
    try:
        pull(place.registry, place.repository, f"manifests/{place.tag}")
    except urllib.error.HTTPError as error:
        if error.code != 404:
            raise
        return False
    return True


def a_place(oci: OciRegistry, tmp_path: Path) -> Place:
    """A repository of the test's own."""
    return Place(oci.host, f"models/{hashlib.sha256(str(tmp_path).encode()).hexdigest()[:12]}", "1")


def test_what_is_pulled_is_the_version_in_modelpack_form(
    store: Store, tmp_path: Path, oci: OciRegistry, small_chunks: int
) -> None:
    version = register(store, tmp_path)
    place = a_place(oci, tmp_path)
    pushed = push(store, version, place)
    headers, body = pull(place.registry, place.repository, "manifests/1")
    manifest = json.loads(body)

    assert pushed.digest == headers["Docker-Content-Digest"] == f"sha256:{hashlib.sha256(body).hexdigest()}"
    assert (pushed.sent, pushed.there, pushed.replaced) == (4, 1, None)
    assert headers["Content-Type"] == manifest["mediaType"] == MANIFEST
    assert manifest["artifactType"] == "application/vnd.cncf.model.manifest.v1+json"
    assert manifest["layers"] == [
        {
            "mediaType": "application/vnd.cncf.model.weight.v1.raw",
            "digest": f"sha256:{file.sha256}",
            "size": file.size_bytes,
            "annotations": {"org.cncf.model.filepath": file.path},
        }
        for file in version.files
    ]
    pulled = {
        layer["annotations"]["org.cncf.model.filepath"]: pull(
            place.registry, place.repository, f"blobs/{layer['digest']}"
        )
        for layer in manifest["layers"]
    }
    assert {path: body for path, (_, body) in pulled.items()} == FILES
    assert manifest["config"]["mediaType"] == "application/vnd.cncf.model.config.v1+json"
    _, config = pull(place.registry, place.repository, f"blobs/{manifest['config']['digest']}")
    assert json.loads(config) == {
        "descriptor": {"createdAt": version.created_at, "name": "digits", "version": "1"},
        "config": {"format": "tensorflow"},
        "modelfs": {"type": "layers", "diffIds": [f"sha256:{file.sha256}" for file in version.files]},
    }


def test_only_what_the_registry_lacks_is_sent(store: Store, tmp_path: Path, oci: OciRegistry) -> None:
    place = a_place(oci, tmp_path)
    first = push(store, register(store, tmp_path), place)
    assert push(store, Registry(store).get("digits", 1), place) == first._replace(sent=0, there=5)

    second = push(store, register(store, tmp_path, {"new": b"new"}), place)
    assert (second.sent, second.there, second.replaced) == (1, 5, first.digest)


def test_bytes_that_changed_in_the_store_leave_no_tag(
    store: Store, tmp_path: Path, oci: OciRegistry, small_chunks: int
) -> None:
    version = register(store, tmp_path)
    place = a_place(oci, tmp_path)
    file = next(file for file in version.files if file.path == "saved_model.pb")
    store.put(file.key, b"graqh" * 1000, overwrite=True)

    with pytest.raises(VerificationError, match=r"`digits:1`: cannot be pushed: `saved_model\.pb`"):
        push(store, version, place)
    assert not tag_is_there(place)
    store.delete(file.key)
    with pytest.raises(NotFoundError, match="cannot be pushed"):
        push(store, version, place)
    store.put(file.key, FILES["saved_model.pb"])
    push(store, version, place)
    assert tag_is_there(place)


class Between(http.server.ThreadingHTTPServer):
    """
    Stands between a client and the registry and does to each request what `fault` says of it.

    fault: given (method, path, number of such requests before), returns "drop" (the registry never gets it), "lose"
    (its answer is lost), a status to answer with, or None.
    """

    daemon_threads = True

    def __init__(self, host: str, fault: Any) -> None:
        super().__init__(("127.0.0.1", 0), _Relay)
        self.registry, self.fault = host, fault
        self.seen: list[tuple[str, str]] = []
        self.largest = 0
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.server_port}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass


class _Relay(http.server.BaseHTTPRequestHandler):
    server: Between

    def _relay(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        asked = (self.command, self.path.partition("?")[0])
        fault = self.server.fault(*asked, sum(1 for method, _ in self.server.seen if method == self.command))
        self.server.seen.append(asked)
        self.server.largest = max(self.server.largest, len(body))
        if fault == "drop":
            self.close_connection = True
            return
        if isinstance(fault, int):
            self.send_response(fault)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        headers = {name: value for name, value in self.headers.items() if name != "Connection"}
        url = f"http://{self.server.registry}{self.path}"
        request = urllib.request.Request(url, body if body or self.command == "POST" else None, headers)
        request.method = self.command
        try:
            answer = urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request)
        except urllib.error.HTTPError as error:
            answer = error
        if fault == "lose":
            self.close_connection = True
            return
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(answer.read())

    do_GET = do_HEAD = do_POST = do_PATCH = do_PUT = _relay  # noqa: N815

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tries follow each other at once."""
    monkeypatch.setattr("tensoryard.registry.oci_client.time.sleep", lambda seconds: None)


@pytest.mark.parametrize("fault", ["drop", "lose", 503, 429])
@pytest.mark.parametrize("method", ["HEAD", "POST", "PATCH", "PUT"])
def test_a_push_outlives_each_kind_of_request_failing_once(
    store: Store, tmp_path: Path, oci: OciRegistry, small_chunks: int, quick: None, method: str, fault: object
) -> None:
    version = register(store, tmp_path)
    between = Between(oci.host, lambda asked, path, before: fault if asked == method and before == 1 else None)
    place = a_place(oci, tmp_path)
    push(store, version, place._replace(registry=between.host))
    between.shutdown()
    manifest = json.loads(pull(place.registry, place.repository, "manifests/1")[1])

    assert [layer["digest"] for layer in manifest["layers"]] == [f"sha256:{file.sha256}" for file in version.files]
    # No request held more than a chunk, but for the manifest.
    assert between.largest <= max(small_chunks, len(json.dumps(manifest)))


def test_a_registry_that_fails_for_good_is_named_and_has_no_tag(
    store: Store, tmp_path: Path, oci: OciRegistry, small_chunks: int, quick: None
) -> None:
    version = register(store, tmp_path)
    between = Between(oci.host, lambda method, path, before: 503 if method == "PATCH" else None)
    place = a_place(oci, tmp_path)
    with pytest.raises(StoreError, match=f"registry `{between.host}`: answered 503"):
        push(store, version, place._replace(registry=between.host))
    between.shutdown()

    assert not tag_is_there(place)
    assert ("PUT", f"/v2/{place.repository}/manifests/1") not in between.seen


def test_a_registry_that_does_not_answer_is_named(store: Store, tmp_path: Path, quick: None) -> None:
    with pytest.raises(StoreError, match="registry `localhost:1`: does not answer"):
        push(store, register(store, tmp_path), Place("localhost:1", "digits", "1"))


def write_config(folder: Path, config: object) -> None:
    (folder / "config.json").write_text(json.dumps(config))


@pytest.fixture
def htpasswd(tmp_path: Path) -> Path:
    path = tmp_path / "htpasswd"
    path.write_text(USER + "\n")
    return path


def test_a_registry_that_asks_is_told_the_login_of_docker(
    store: Store, tmp_path: Path, htpasswd: Path, no_login: Path
) -> None:
    (tmp_path / "guarded").mkdir()
    guarded = OciRegistry(tmp_path / "guarded", htpasswd)
    version = register(store, tmp_path)
    place = Place(guarded.host, "digits", "1")
    try:
        with pytest.raises(StoreError, match="wants to know who you are") as caught:
            push(store, version, place)
        assert caught.value.hint == f"`docker login {guarded.host}`"
        write_config(no_login, {"auths": {guarded.host: {"auth": base64.b64encode(b"user:wrong").decode()}}})
        with pytest.raises(StoreError, match="refused"):
            push(store, version, place)
        write_config(no_login, {"auths": {guarded.host: {"auth": base64.b64encode(b"user:secret").decode()}}})
        assert push(store, version, place).sent == 4
    finally:
        guarded.close()


class _Tokens(http.server.BaseHTTPRequestHandler):
    """A token service as Azure's registry has it, and the registry that asks for its tokens."""

    def do_POST(self) -> None:
        form = self.rfile.read(int(self.headers["Content-Length"])).decode()
        if self.path != "/oauth2/token":
            self._answer(500, {})
        elif "digits%3Apull&" in form and "grant_type=refresh_token&refresh_token=from-az&" in form:
            self._answer(200, {"access_token": "good"})
        else:
            self._answer(401, {})

    def do_GET(self) -> None:
        self._answer(
            200 if self.headers.get("Authorization") == Login("user", "secret").basic else 401, {"token": "good"}
        )

    def do_HEAD(self) -> None:
        if self.headers.get("Authorization") == "Bearer good":
            self._answer(200, {})
            return
        host = self.headers["Host"]
        self.send_response(401)
        self.send_header("WWW-Authenticate", f'Bearer realm="http://{host}/oauth2/token",service="{host}"')
        self.end_headers()

    def _answer(self, status: int, body: object) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Docker-Content-Digest", "sha256:1")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.mark.parametrize(
    "entry",
    [{"identitytoken": "from-az"}, {"auth": base64.b64encode(b"user:secret").decode()}, {"identitytoken": "old"}],
)
def test_a_login_is_exchanged_for_a_token(no_login: Path, entry: dict[str, str]) -> None:
    from tensoryard.registry.oci_client import Client

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Tokens)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    host = f"127.0.0.1:{server.server_port}"
    write_config(no_login, {"auths": {host: entry}})
    client = Client(Place(host, "digits", "1"))

    if entry == {"identitytoken": "old"}:
        with pytest.raises(StoreError, match="gave no token"):
            client.tagged()
    else:
        assert client.tagged() == "sha256:1"
    server.shutdown()


def test_helpers_are_asked_as_docker_asks_them(
    tmp_path: Path, no_login: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    helper = tmp_path / "bin" / "docker-credential-tests"
    helper.parent.mkdir()
    helper.write_text(
        '#!/bin/sh\nread host\ncase "$1 $host" in\n'
        '"get a.azurecr.io") echo \'{"Username":"<token>","Secret":"t"}\';;\n'
        '"get b.io") echo \'{"Username":"u","Secret":"p"}\';;\n'
        '"get c.io") echo "credentials not found in native keychain"; exit 1;;\n'
        "*) echo locked >&2; exit 1;;\nesac\n"
    )
    helper.chmod(helper.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{helper.parent}{os.pathsep}{os.environ['PATH']}")
    write_config(no_login, {"credsStore": "tests", "credHelpers": {"e.io": "gone", "f.io": "../evil"}})

    assert find_login("a.azurecr.io") == Login(identity="t")
    assert find_login("b.io") == Login("u", "p")
    assert find_login("c.io") is None
    for registry, words in (("d.io", "locked"), ("e.io", "cannot be asked"), ("f.io", "no name of one")):
        with pytest.raises(UsageError, match=words):
            find_login(registry)
    (no_login / "config.json").write_text("[")
    with pytest.raises(UsageError, match="cannot be read"):
        find_login("a.azurecr.io")


@pytest.mark.parametrize(
    ("text", "place", "url"),
    [
        ("a.azurecr.io/models/digits:v1", Place("a.azurecr.io", "models/digits", "v1"), "https://a.azurecr.io/v2/"),
        ("localhost:5000/digits", Place("localhost:5000", "digits", "7"), "http://localhost:5000/v2/"),
        ("127.0.0.1/digits", Place("127.0.0.1", "digits", "7"), "http://127.0.0.1/v2/"),
        ("[::1]:5000/digits", Place("[::1]:5000", "digits", "7"), "http://[::1]:5000/v2/"),
        ("head:5000/digits", Place("head:5000", "digits", "7"), "https://head:5000/v2/"),
        ("127.0.0.1.evil.com/digits", Place("127.0.0.1.evil.com", "digits", "7"), "https://127.0.0.1.evil.com/v2/"),
        ("docker.io/me/digits", Place("docker.io", "me/digits", "7"), "https://registry-1.docker.io/v2/"),
    ],
)
def test_places_are_parsed_and_only_this_machine_is_spoken_to_in_the_clear(text: str, place: Place, url: str) -> None:
    assert (parse_place(text, "7"), parse_place(text, "7").url) == (place, url)


@pytest.mark.parametrize(
    "text",
    [
        "digits",
        "http://localhost:5000/digits",
        "a.io/Digits",
        "a.io/../digits",
        "a.io/digits:",
        "a.io/digits:a b",
        "a.io/digits@sha256:1",
        "user:secret@a.io/digits",
        "-x.io/",
        "",
    ],
)
def test_what_is_no_place_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="such as"):
        parse_place(text, "7")


def test_push_on_the_command_line(tmp_path: Path, oci: OciRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TYARD_WORKSPACE", str(tmp_path / "workspace"))
    (tmp_path / "model.keras").write_bytes(b"weights")
    run = CliRunner().invoke
    run(models, ["register", "digits", "--folder", str(tmp_path / "model.keras")])
    repository = f"{oci.host}/cli/digits"
    result = run(models, ["push", "digits", repository])

    assert result.exit_code == 0, result.output
    assert result.stderr == f"Pushed `digits:1` to `{repository}:1`: 1 file, 7 B\n"
    digest = pull(oci.host, "cli/digits", "manifests/1")[0]["Docker-Content-Digest"]
    assert result.stdout == f"{repository}@{digest}\n"
    assert "1 of its files were there" in run(models, ["push", "digits", f"{repository}:champion"]).stderr
    wrong = run(models, ["push", "digits", "digits"])
    assert isinstance(wrong.exception, TensoryardError)
