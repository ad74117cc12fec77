"""
Signing in without Azure: a managed identity's endpoint that gives out tokens, and HTTPS that a client trusts.

DefaultAzureCredential asks the endpoint as on a machine of Azure, so the command line runs as it would there.
"""

import base64
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

PRINCIPAL = "22222222-2222-2222-2222-222222222222"
_HEADER = "of-the-tests"


class Identity:
    """A managed identity: `environ` is what a process needs to be it."""

    def __init__(self, tenant: str) -> None:
        seen: list[str] = []

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                seen.append(self.path)
                given = self.headers.get("X-IDENTITY-HEADER") == _HEADER
                resource = parse_qs(urlsplit(self.path).query).get("resource", [""])[0]
                answer = {
                    "access_token": token(tenant, resource),
                    "expires_on": str(int(time.time()) + 3600),
                    "token_type": "Bearer",
                }
                body = json.dumps(answer if given else {"statusCode": 401}).encode()
                self.send_response(200 if given else 401)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.asked = seen
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        url = f"http://127.0.0.1:{self._server.server_address[1]}/msi/token"
        self.environ = {"IDENTITY_ENDPOINT": url, "IDENTITY_HEADER": _HEADER}

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def token(tenant: str, audience: str = "https://storage.azure.com") -> str:
    """A token in the shape of Azure's for a service, signed by nobody."""
    now = int(time.time())
    claims = {
        "aud": audience,
        "iss": f"https://sts.windows.net/{tenant}/",
        "iat": now - 60,
        "nbf": now - 60,
        "exp": now + 3600,
        "oid": PRINCIPAL,
        "tid": tenant,
        "idtyp": "app",
    }
    parts = ({"alg": "RS256", "typ": "JWT"}, claims)
    coded = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in parts]
    return ".".join([*coded, "c2lnbmF0dXJl"])
