"""
Answers of ACR Tasks as its documents have them, given through the transport of Azure's own client.

It checks what it is asked: addresses, versions, who asks, the fields of a run and the task in it, the archive. What
Azure makes of such a task nobody knows but Azure.
Source: https://learn.microsoft.com/rest/api/containerregistry, 2019-06-01-preview
"""

import base64
import io
import json
import re
import tarfile
from typing import Any
from urllib.parse import parse_qs, urlsplit

import requests
import yaml
from azure.core.credentials import AccessToken
from azure.core.pipeline.transport import RequestsTransport
from urllib3 import HTTPResponse

REGISTRY = "/subscriptions/s/resourceGroups/g/providers/Microsoft.ContainerRegistry/registries/dev"
DIGEST = "sha256:" + "5" * 64
STORAGE = "tasks.blob.core.windows.net"


class Tasks(requests.adapters.BaseAdapter):
    """
    One registry's. statuses: of its run, one a look; log: what has been said by each look; refuse: status and code of
    what `scheduleRun` is answered with; asked: (method, last part of the path) in order.
    """

    def __init__(self) -> None:
        super().__init__()
        self.statuses = ["Queued", "Running", "Succeeded"]
        self.log = [
            b"",
            b"Step 1/2 : FROM base\nStep 2",
            b"Step 1/2 : FROM base\nStep 2/2 : COPY a b\nSuccessfully built\n",
        ]
        self.refuse: tuple[int, str] | None = None
        self.asked: list[tuple[str, str]] = []
        self.files: dict[str, bytes] = {}
        self.task: dict[str, Any] = {}
        self._looks = 0

    def transport(self) -> RequestsTransport:
        session = requests.Session()
        session.mount("https://", self)
        return RequestsTransport(session=session, session_owner=False)

    def get_token(self, *scopes: str, **_: Any) -> AccessToken:
        assert scopes == ("https://management.azure.com/.default",)
        return AccessToken("of-the-head", 2**40)

    def send(self, request: requests.PreparedRequest, **_: Any) -> requests.Response:
        assert request.url is not None
        where = urlsplit(request.url)
        self.asked.append((str(request.method), where.path.rpartition("/")[2]))
        if where.hostname == STORAGE:
            # Its right is in the address: nobody else's token is told to it.
            assert "Authorization" not in request.headers
            assert where.query.startswith("sig=")
            status, headers, body = self._storage(request, where.path)
        else:
            assert (where.hostname, request.headers["Authorization"]) == (
                "management.azure.com",
                "Bearer of-the-head",
            )
            assert parse_qs(where.query) == {"api-version": ["2019-06-01-preview"]}
            assert where.path.startswith(f"{REGISTRY}/")
            status, answer = self._manager(str(request.method), where.path.removeprefix(REGISTRY), request.body)
            headers, body = {"Content-Type": "application/json"}, json.dumps(answer).encode()
        found = requests.Response()
        found.status_code, found.request, found.url = status, request, request.url
        found.headers.update({**headers, "Content-Length": str(len(body))})
        found.raw = HTTPResponse(body=io.BytesIO(body), headers=headers, status=status, preload_content=False)
        return found

    def close(self) -> None:
        pass

    def _manager(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        if (method, path) == ("POST", "/listBuildSourceUploadUrl"):
            return 200, {"uploadUrl": f"https://{STORAGE}/source/1.tar.gz?sig=up", "relativePath": "source/1.tar.gz"}
        if (method, path) == ("POST", "/scheduleRun"):
            if self.refuse:
                return self.refuse[0], {"error": {"code": self.refuse[1], "message": "may not do that"}}
            asked = json.loads(body)
            assert asked.pop("platform") in ({"os": "Linux", "architecture": kind} for kind in ("amd64", "arm64"))
            self.task = yaml.safe_load(base64.b64decode(asked.pop("encodedTaskContent")))
            assert asked == {"type": "EncodedTaskRunRequest", "sourceLocation": "source/1.tar.gz", "timeout": 7200}
            return 200, {"properties": {"runId": "ca1", "status": "Queued"}}
        if (method, path) == ("GET", "/runs/ca1"):
            status = self.statuses[min(self._looks, len(self.statuses) - 1)]
            self._looks += 1
            return 200, {"properties": {"runId": "ca1", "status": status, **self._end(status)}}
        if (method, path) == ("POST", "/runs/ca1/listLogSasUrl"):
            return 200, {"logLink": f"https://{STORAGE}/logs/ca1?sig=log"}
        assert (method, path) == ("POST", "/runs/ca1/cancel")
        return 200, {}

    def _end(self, status: str) -> dict[str, Any]:
        if status == "Failed":
            return {"runErrorMessage": "failed during run, err: exit status 1"}
        if status != "Succeeded":
            return {}
        (named,) = self.task["steps"][1]["push"]
        repository, _, tag = named.removeprefix("$Registry/").partition(":")
        return {
            "outputImages": [{"registry": "dev.azurecr.io", "repository": repository, "tag": tag, "digest": DIGEST}]
        }

    def _storage(self, request: requests.PreparedRequest, path: str) -> tuple[int, dict[str, str], bytes]:
        if request.method == "PUT":
            assert (path, request.headers["x-ms-blob-type"]) == ("/source/1.tar.gz", "BlockBlob")
            body: Any = request.body
            data = body if isinstance(body, bytes) else body.read()
            with tarfile.open(fileobj=io.BytesIO(data)) as archive:
                for member in archive:
                    assert (member.uid, member.uname) == (0, "")
                    found = archive.extractfile(member)
                    self.files[member.name] = found.read() if found else b""
            return 201, {"ETag": '"1"', "Last-Modified": "Mon, 23 Nov 2026 20:00:00 GMT"}, b""
        assert path == "/logs/ca1"
        said = self.log[min(self._looks, len(self.log)) - 1]
        begin = re.fullmatch(r"bytes=(\d+)-", request.headers["x-ms-range"])
        assert begin is not None
        if not said:
            return 404, {}, b""
        if int(begin[1]) >= len(said):
            return 416, {}, b""
        return 206, {}, said[int(begin[1]) :]
