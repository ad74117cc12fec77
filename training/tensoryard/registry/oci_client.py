"""
Requests to an OCI registry: asked again where that is safe, signed in as it wants, on the standard library alone.

Source: https://github.com/opencontainers/distribution-spec/blob/main/spec.md
"""

import http.client
import json
import random
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from email.message import Message
from typing import IO, NamedTuple
from urllib.parse import urlencode, urljoin, urlsplit

from tensoryard.errors import NotFoundError, StoreError, VerificationError
from tensoryard.registry.oci_azure import is_azures, sign_in
from tensoryard.registry.oci_login import Login, find_login, parse_challenge
from tensoryard.registry.oci_manifest import INDEXES, MANIFEST, MANIFESTS, Place, digest_of

TRIES = 5
_TIMEOUT_S = 120
_BUSY = {408, 429, 500, 502, 503, 504}
_LONGEST_WAIT_S = 30


class Answer(NamedTuple):
    """What a registry answered; headers: their names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class BrokenRequestError(StoreError):
    """An answer that did not come or was none, so that nobody knows whether the request was done."""


class Client:
    """
    The repository of one place. Safe between threads; it keeps a token and no connection.

    push: whether it asks for the right to push; who may only pull is given no token for more.
    """

    def __init__(self, place: Place, push: bool = False) -> None:
        self.place = place
        self._actions = "pull,push" if push else "pull"
        self._authorization = ""
        self._lock = threading.Lock()
        # A proxy has no way to a registry on this machine.
        handlers = [urllib.request.ProxyHandler({})] if place.is_local else []
        self._opener = urllib.request.build_opener(*handlers)

    def azure_login(self) -> Login | None:
        """The login of whoever is signed in to Azure here, at a registry of Azure's without one by `docker login`."""
        if find_login(self.place.registry) or not is_azures(self.place.registry):
            return None
        return sign_in(self.place.registry, self._post)

    def has_blob(self, digest: str) -> bool:
        return self._expect(self.ask("HEAD", self._url(f"blobs/{digest}")), 200, 404).status == 200

    def tagged(self, kinds: Sequence[str] = (MANIFEST,), tries: int = TRIES) -> str | None:
        """The digest of the manifest that the tag names now, or None; kinds: media types that will do."""
        headers = {"Accept": ", ".join(kinds)}
        answer = self.ask("HEAD", self._url(f"manifests/{self.place.tag}"), headers=headers, tries=tries)
        self._expect(answer, 200, 404)
        return answer.headers.get("docker-content-digest", "") if answer.status == 200 else None

    def manifest(self, digest: str) -> bytes:
        """A manifest or an index of manifests. Raises NotFoundError, and VerificationError for other bytes."""
        headers = {"Accept": ", ".join((*MANIFESTS, *INDEXES))}
        answer = self._expect(self.ask("GET", self._url(f"manifests/{digest}"), headers=headers), 200)
        if digest_of(answer.body) != digest:
            raise VerificationError(
                f"registry `{self.place.registry}`: gave another manifest than `{self.place.repository}@{digest}`"
            )
        return answer.body

    def open_blob(self, digest: str) -> IO[bytes]:
        """A blob's bytes as they come, to be closed and to be checked by who reads them. Raises NotFoundError."""
        if not self.has_blob(digest):  # which also signs in
            raise NotFoundError(
                f"registry `{self.place.registry}`: `{self.place.repository}` has no `{digest}` any more"
            )
        request = urllib.request.Request(self._url(f"blobs/{digest}"))  # noqa: S310  made by `_url`
        if self._authorization:
            request.add_unredirected_header("Authorization", self._authorization)
        attempt = 1
        while True:
            try:
                found: IO[bytes] = self._opener.open(request, timeout=_TIMEOUT_S)
                return found
            except (OSError, http.client.HTTPException) as error:
                lasts = isinstance(error, urllib.error.HTTPError) and error.code not in _BUSY
                if lasts or attempt == TRIES:
                    raise BrokenRequestError(
                        f"registry `{self.place.registry}`: `{digest}` cannot be read: {error}"
                    ) from None
            wait(attempt)
            attempt += 1

    def check_push(self) -> None:
        """Raises StoreError for whoever may not push here, which is else known only when all is there to be sent."""
        self.ask("DELETE", self.start_upload(), tries=1)

    def start_upload(self) -> str:
        """The address that a blob's bytes go to."""
        answer = self._expect(self.ask("POST", self._url("blobs/uploads/"), b""), 202)
        return self._location(answer)

    def send_chunk(self, location: str, start: int, chunk: bytes) -> str:
        """The address for the next chunk. Raises BrokenRequestError when nobody knows whether it arrived."""
        headers = {"Content-Range": f"{start}-{start + len(chunk) - 1}", "Content-Type": "application/octet-stream"}
        answer = self._expect(self.ask("PATCH", location, chunk, headers, tries=1), 202)
        return self._location(answer)

    def end_upload(self, location: str, digest: str, rest: bytes) -> None:
        """Ends an upload with its last bytes; the registry refuses bytes that do not have the digest."""
        url = f"{location}{'&' if urlsplit(location).query else '?'}{urlencode({'digest': digest})}"
        headers = {"Content-Type": "application/octet-stream"}
        self._expect(self.ask("PUT", url, rest, headers, tries=1), 201)

    def put_manifest(self, data: bytes) -> None:
        """Lets the tag name a manifest."""
        url = self._url(f"manifests/{self.place.tag}")
        self._expect(self.ask("PUT", url, data, {"Content-Type": MANIFEST}), 201)

    def ask(
        self,
        method: str,
        url: str,
        data: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        tries: int = TRIES,
    ) -> Answer:
        """
        The answer to one request, whatever its status.

        tries: how often it is made where the registry is busy or does not answer; 1 for what may not be done twice.
        """
        signed_in = False
        attempt = 1
        while True:
            used = self._authorization
            try:
                answer = self._once(method, url, data, headers or {}, used if self._is_ours(url) else "")
            except BrokenRequestError:
                if attempt == tries:
                    raise
                wait(attempt)
                attempt += 1
                continue
            if answer.status == 401 and not signed_in and self._is_ours(url):
                self._sign_in(answer, used)
                signed_in = True
            elif answer.status in _BUSY and attempt < tries:
                wait(attempt, answer.headers.get("retry-after", ""))
                attempt += 1
            elif answer.status in _BUSY:
                raise BrokenRequestError(f"{self._what(answer)} to {method} `{_plain(url)}`", "try again later")
            else:
                return answer

    def _once(
        self, method: str, url: str, data: bytes | None, headers: Mapping[str, str], authorization: str
    ) -> Answer:
        request = urllib.request.Request(url, data, dict(headers), method=method)  # noqa: S310  made by `_url`, `_location`
        if authorization:  # for this host, and for none that it sends us on to
            request.add_unredirected_header("Authorization", authorization)
        try:
            with self._opener.open(request, timeout=_TIMEOUT_S) as response:
                return Answer(response.status, _lower(response.headers), b"" if method == "HEAD" else response.read())
        except urllib.error.HTTPError as error:
            with error:
                try:
                    body = error.read()
                except (OSError, http.client.HTTPException):
                    body = b""
                return Answer(error.code, _lower(error.headers), body)
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", error)
            hint = "is it running?" if self.place.is_local else "check its name and the network"
            raise BrokenRequestError(f"registry `{self.place.registry}`: does not answer: {reason}", hint) from None

    def _sign_in(self, answer: Answer, used: str) -> None:
        with self._lock:
            if self._authorization != used:  # another thread was first
                return
            scheme, asked = parse_challenge(answer.headers.get("www-authenticate", ""))
            login = find_login(self.place.registry)
            if scheme == "basic" and login is not None and not login.identity:
                self._authorization = login.basic
            elif scheme == "bearer" and "realm" in asked:
                self._authorization = f"Bearer {self._token(asked)}"
            else:
                raise self._refused("wants to know who you are")

    def _token(self, asked: Mapping[str, str]) -> str:
        """A token for this repository, of the service that the registry named."""
        realm = asked["realm"]
        if urlsplit(realm).scheme != "https" and not (self.place.is_local and urlsplit(realm).scheme == "http"):
            raise StoreError(f"registry `{self.place.registry}`: sends to `{realm}` for a token, which is not HTTPS")
        login, problem = find_login(self.place.registry), None
        azure = login is None and is_azures(self.place.registry) and self._is_ours(realm)
        if azure:
            try:
                login = sign_in(self.place.registry, self._post)
            except StoreError as error:
                problem = error  # only if it does not serve everybody
        answer = self._asked_for_token(asked, login)
        if azure and login is not None and answer.status == 401:
            # Azure may have ended it before its time.
            answer = self._asked_for_token(asked, sign_in(self.place.registry, self._post, anew=True))
        if answer.status != 200:
            raise problem or self._refused(f"gave no token ({answer.status})")
        try:
            found = json.loads(answer.body)
            return str(found.get("token") or found["access_token"])
        except (ValueError, KeyError, AttributeError):
            raise StoreError(f"registry `{self.place.registry}`: `{realm}` answered with something else") from None

    def _post(self, path: str, form: Mapping[str, str]) -> tuple[int, bytes]:
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        answer = self._once("POST", urljoin(self.place.url, path), urlencode(form).encode(), headers, "")
        return answer.status, answer.body

    def _asked_for_token(self, asked: Mapping[str, str], login: Login | None) -> Answer:
        realm = asked["realm"]
        scope = f"repository:{self.place.repository}:{self._actions}"
        fields = {"service": asked.get("service", ""), "scope": scope}
        if login is not None and login.identity:
            form = fields | {
                "grant_type": "refresh_token",
                "refresh_token": login.identity,
                "client_id": "tensoryard",
            }
            headers = {"Content-Type": "application/x-www-form-urlencoded"}
            return self._once("POST", realm, urlencode(form).encode(), headers, "")
        url = f"{realm}{'&' if urlsplit(realm).query else '?'}{urlencode(fields)}"
        return self._once("GET", url, None, {}, login.basic if login else "")

    def _expect(self, answer: Answer, *statuses: int) -> Answer:
        if answer.status in statuses:
            return answer
        if answer.status == 403:
            raise self._refused(f"refused ({answer.status} {_words(answer)})")
        if answer.status == 401:
            raise self._refused(f"refused ({answer.status})")
        if answer.status == 404:
            raise NotFoundError(
                f"{self._what(answer)}: `{self.place.repository}` is not there and cannot be made", "check its name"
            )
        raise StoreError(f"{self._what(answer)} for `{self.place}`")

    def _what(self, answer: Answer) -> str:
        return f"registry `{self.place.registry}`: answered {answer.status} {_words(answer)}".rstrip()

    def _refused(self, what: str) -> StoreError:
        host, repository = self.place.registry, self.place.repository
        if is_azures(host):
            role = "AcrPush" if "push" in self._actions else "AcrPull"
            return StoreError(
                f"registry `{host}`: {what}; `{repository}` needs a login with the role {role} there",
                f"`az acr login --name {host.partition('.')[0]}` as somebody who has it, or `az role assignment "
                f"create --role {role}`",
            )
        return StoreError(f"registry `{host}`: {what}; `{repository}` needs a login", f"`docker login {host}`")

    def _location(self, answer: Answer) -> str:
        url = urljoin(self.place.url, answer.headers.get("location", ""))
        if urlsplit(url).scheme != urlsplit(self.place.url).scheme and urlsplit(url).scheme != "https":
            raise StoreError(f"registry `{self.place.registry}`: wants the bytes at `{_plain(url)}`, not by HTTPS")
        return url

    def _url(self, rest: str) -> str:
        return f"{self.place.url}{self.place.repository}/{rest}"

    def _is_ours(self, url: str) -> bool:
        return urlsplit(url)[:2] == urlsplit(self.place.url)[:2]


def wait(attempt: int, retry_after: str = "") -> None:
    """Waits before another try: what the registry asked for, else longer each time and never in step with others."""
    asked = int(retry_after) if retry_after.isascii() and retry_after.isdigit() else 0
    time.sleep(min(max(asked, random.uniform(0.5, 1) * 0.25 * 2**attempt), _LONGEST_WAIT_S))  # noqa: S311  no secret


def _words(answer: Answer) -> str:
    """The registry's own words for what is wrong, else those of HTTP."""
    try:
        error = json.loads(answer.body)["errors"][0]
        return f"{error['code']}: {error['message']}"
    except (ValueError, KeyError, IndexError, TypeError):
        return http.client.responses.get(answer.status, "")


def _lower(headers: Message) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


def _plain(url: str) -> str:
    """An address without its query, which may hold a secret."""
    return urlsplit(url)._replace(query="").geturl()
