"""
A registry as Azure's signs people in: Docker's own registry, which checks each token, behind a stand-in for Azure's
token service at the same address.

The registry verifies signature, audience, time and rights of what the stand-in gives out. The stand-in checks what it
is asked: names of fields, the token of a managed identity for the registry's own audience, refresh tokens of its own
that have not ended. Nobody but Azure knows whether Azure asks for more.
Source: https://azure.github.io/acr/AAD-OAuth.html
"""

import base64
import json
import secrets
import threading
import time
import urllib.error
import urllib.request
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from services.oci_registry import OciRegistry

AUDIENCE = "https://containerregistry.azure.net"
_ISSUER = "Azure Container Registry"
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class AzuresRegistry:
    """
    host: of the registry; rights: what the identity may do there, as roles give it ("pull", "push"); good_for_s: how
    long a token is good, refresh_for_s: a refresh token; asked: the token service's requests, (path, form); refused:
    why it did not like some of them; exchanged: the refresh tokens that are good.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.rights = {"pull", "push"}
        self.good_for_s = 3600
        self.refresh_for_s = 10800
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.refused: list[str] = []
        self.exchanged: set[str] = set()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.host = f"127.0.0.1:{self._server.server_port}"
        self._key, self._certificate = _signer(folder)
        realm = f"realm: 'http://{self.host}/oauth2/token', service: '{self.host}'"
        bundle = folder / "roots.pem"
        self._registry = OciRegistry(
            folder, auth=f"{{token: {{{realm}, issuer: '{_ISSUER}', rootcertbundle: '{bundle}'}}}}"
        )
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._registry.close()

    def answer(self, path: str, form: dict[str, str]) -> tuple[int, dict[str, str]]:
        """What the token service answers to a form."""
        self.asked.append((path, form))
        if form.get("service") != self.host:
            return self._no(400, f"service: {form.get('service')}")
        if path == "/oauth2/exchange":
            if form.get("grant_type") != "access_token" or form.keys() - {"tenant"} != {
                "grant_type",
                "service",
                "access_token",
            }:
                return self._no(400, f"exchange: {sorted(form)}")
            claims = claims_of(form["access_token"])
            if claims.get("aud") != AUDIENCE or claims.get("exp", 0) < time.time():
                return self._no(401, f"exchange: token for {claims.get('aud')}")
            refresh = _unsigned({"exp": int(time.time()) + self.refresh_for_s, "jti": secrets.token_hex(8)})
            self.exchanged.add(refresh)
            return 200, {"refresh_token": refresh}
        if path != "/oauth2/token" or form.get("grant_type") != "refresh_token":
            return self._no(400, f"{path}: {form.get('grant_type')}")
        if form.get("refresh_token") not in self.exchanged:
            return self._no(401, "token: refresh token")
        kind, name, actions = form["scope"].split(":")
        given = sorted(self.rights & set(actions.split(",")))
        if not given:
            return self._no(401, f"token: {form['scope']}")
        return 200, {"access_token": self.token(kind, name, given)}

    def paths(self) -> list[str]:
        """What the token service was asked for, forgotten hereby."""
        found = [path.rpartition("/")[2] for path, _ in self.asked]
        self.asked.clear()
        return found

    def forward(self, method: str, path: str, headers: dict[str, str], body: bytes) -> Any:
        """The registry's answer to a request."""
        url = f"http://{self._registry.host}{path}"
        request = urllib.request.Request(url, body if body or method == "POST" else None, headers, method=method)
        try:
            return _DIRECT.open(request)
        except urllib.error.HTTPError as error:
            return error

    def _no(self, status: int, why: str) -> tuple[int, dict[str, str]]:
        self.refused.append(why)
        return status, {"errors": why}

    def token(self, kind: str, name: str, actions: list[str]) -> str:
        """A token for a repository, signed by the key that the registry trusts."""
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

        now = int(time.time())
        header = {"typ": "JWT", "alg": "ES256", "x5c": [base64.b64encode(self._certificate).decode()]}
        claims = {
            "iss": _ISSUER,
            "sub": "head",
            "aud": self.host,
            "exp": now + self.good_for_s,
            "nbf": now - 60,
            "iat": now,
            "jti": secrets.token_hex(8),
            "access": [{"type": kind, "name": name, "actions": actions}],
        }
        signed = f"{_coded(header)}.{_coded(claims)}"
        r, s = decode_dss_signature(self._key.sign(signed.encode(), ec.ECDSA(hashes.SHA256())))
        raw = r.to_bytes(32, "big") + s.to_bytes(32, "big")
        return f"{signed}.{base64.urlsafe_b64encode(raw).rstrip(b'=').decode()}"


def _handler(service: AzuresRegistry) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _any(self) -> None:
            body = self._body()
            where = urlsplit(self.path)
            if where.path.startswith("/oauth2/"):
                fields = parse_qs(body.decode() if self.command == "POST" else where.query)
                status, found = service.answer(where.path, {name: values[0] for name, values in fields.items()})
                self._send(status, {"Content-Type": "application/json"}, json.dumps(found).encode())
                return
            names = dict.fromkeys(name for name in self.headers if name not in _OF_ONE_WAY)
            headers = {name: ", ".join(self.headers.get_all(name, ())) for name in names}
            answer = service.forward(self.command, self.path, headers, body)
            self._send(answer.status, dict(answer.headers.items()), answer.read())

        do_GET = do_HEAD = do_POST = do_PATCH = do_PUT = _any  # noqa: N815

        def _body(self) -> bytes:
            if self.headers.get("Transfer-Encoding") != "chunked":
                return self.rfile.read(int(self.headers.get("Content-Length") or 0))
            found = b""
            while size := int(self.rfile.readline(), 16):
                found += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return found

        def _send(self, status: int, headers: dict[str, str], body: bytes) -> None:
            self.send_response(status)
            for name, value in headers.items():
                if name.lower() not in ("connection", "transfer-encoding", "content-length", "date"):
                    self.send_header(name, value)
            # Of a HEAD: what a GET would have.
            length = headers.get("Content-Length") if self.command == "HEAD" else None
            self.send_header("Content-Length", length or str(len(body)))
            self.end_headers()
            with suppress(BrokenPipeError):
                self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    return Handler


_OF_ONE_WAY = ("Connection", "Transfer-Encoding", "Accept-Encoding")


def _signer(folder: Path) -> tuple[Any, bytes]:
    """A key, and the certificate of it that the registry is told to trust, in DER."""
    from cryptography.hazmat.primitives import serialization

    from services.certificates import signed_by_itself

    key, made = signed_by_itself(_ISSUER)
    (folder / "roots.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    return key, made.public_bytes(serialization.Encoding.DER)


def _coded(part: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode()


def _unsigned(claims: dict[str, Any]) -> str:
    return f"{_coded({'alg': 'RS256', 'typ': 'JWT'})}.{_coded(claims)}.c2lnbmF0dXJl"


def claims_of(token: str) -> dict[str, Any]:
    """What a token says; nothing for what is none."""
    with suppress(ValueError, IndexError):
        claims = token.split(".")[1]
        found: dict[str, Any] = json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))
        return found
    return {}
