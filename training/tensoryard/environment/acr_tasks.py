"""
ACR Tasks: Azure's container registry builds an image itself, from a folder that it is sent.

For heads too small to build on. It is a task of two steps, as a plain request for a build has no BuildKit, which the
Dockerfiles need. This machine's package index and certificates do not enter. Known from documents only.
Source: https://learn.microsoft.com/azure/container-registry/container-registry-tasks-reference-yaml,
https://learn.microsoft.com/rest/api/containerregistry (scheduleRun, runs), 2019-06-01-preview
"""

import base64
import re
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from azure.core import PipelineClient
from azure.core.exceptions import AzureError, HttpResponseError
from azure.core.pipeline.policies import BearerTokenCredentialPolicy, RetryPolicy, UserAgentPolicy
from azure.core.pipeline.transport import RequestsTransport
from azure.core.rest import HttpRequest
from azure.storage.blob import BlobClient

from tensoryard.environment import Log, interruption
from tensoryard.environment.image_unpack import machine
from tensoryard.errors import EnvironmentBuildError
from tensoryard.store.blob_account import API_VERSION as BLOB_VERSION

if TYPE_CHECKING:
    from azure.core.credentials import TokenCredential

ARM = "https://management.azure.com"
VERSION = "2019-06-01-preview"
TIMEOUT_S = 2 * 3600
_SAID = 15  # lines that an error repeats
_PAUSE_S = 2.0
_PLAIN = re.compile(r"[\w./-]+", re.ASCII)
_ENDED = ("Succeeded", "Failed", "Canceled", "Error", "Timeout")
# $Registry is the address of the registry that the task runs in.
_TASK = """\
version: v1.1.0
steps:
  - build: -t $Registry/{image} -f {file} .
    env: ["DOCKER_BUILDKIT=1"]
    timeout: {timeout}
  - push: ["$Registry/{image}"]
"""


class TasksRegistry(NamedTuple):
    """A registry of Azure's as its resource manager knows it."""

    subscription: str
    group: str
    name: str

    @property
    def path(self) -> str:
        return (
            f"/subscriptions/{self.subscription}/resourceGroups/{self.group}"
            f"/providers/Microsoft.ContainerRegistry/registries/{self.name}"
        )


class AcrTasks:
    """
    Builds by a registry's own machines; what it builds is pushed when it is built.

    repository: below which images go; credential: of whoever may schedule runs there; transport: makes one that sends
    requests; wait: between two looks at a run.
    """

    def __init__(
        self,
        registry: TasksRegistry,
        repository: str,
        credential: "TokenCredential",
        transport: Callable[[], Any] = RequestsTransport,
        wait: Callable[[float], None] = time.sleep,
    ) -> None:
        self._registry = registry
        self._repository = repository
        self._transport = transport
        self._wait = wait
        signed = BearerTokenCredentialPolicy(credential, f"{ARM}/.default")
        policies = [UserAgentPolicy("tensoryard"), RetryPolicy(), signed]
        self._azure: PipelineClient[Any, Any] = PipelineClient(ARM, policies=policies, transport=transport())
        self._plain: PipelineClient[Any, Any] = PipelineClient(ARM, policies=[RetryPolicy()], transport=transport())

    def build(
        self,
        key: str,
        context: Path,
        log: Log,
        file: str = "Dockerfile",
        begun: Callable[[str], object] = lambda run: None,
    ) -> str:
        """
        The digest of the image that was built from a folder, and is in the registry with its key as tag.

        file: the Dockerfile, by its path in the folder; begun: is told the id of the run, which goes on when this
        process is killed. Raises EnvironmentBuildError with the last lines of what was said, or with what Azure
        refused.
        """
        with self._refusals(key):
            source = self._sent(context, log)
            run = self._started(key, source, file)
            begun(run)
            log(f"building in {self._registry.name} as run {run}")
            return self._followed(key, run, log)

    def follow(self, key: str, run: str, log: Log) -> str:
        """The digest of the image of a run that was begun before, as `build` returns it."""
        with self._refusals(key):
            log(f"going on with run {run} of {self._registry.name}")
            return self._followed(key, run, log)

    def is_of_use(self, run: str) -> bool:
        """Whether a run that was begun before builds still, or has built."""
        try:
            found = self._ask("GET", f"/runs/{run}")["properties"]["status"]
        except AzureError:
            return False
        return found == "Succeeded" or found not in _ENDED

    @contextmanager
    def _refusals(self, key: str) -> Iterator[None]:
        try:
            yield
        except HttpResponseError as error:
            message = str(error.message).partition("\n")[0]
            raise EnvironmentBuildError(
                f"image {key}: registry `{self._registry.name}`: refused to build: {message}",
                hint="it takes Microsoft.ContainerRegistry/registries/scheduleRun/action, "
                "listBuildSourceUploadUrl/action, runs/read, runs/listLogSasUrl/action and runs/cancel/action"
                if error.status_code == 403
                else None,
            ) from None
        except AzureError as error:
            said = str(error.message).partition("\n")[0]
            raise EnvironmentBuildError(f"image {key}: registry `{self._registry.name}`: {said}") from None

    def _sent(self, context: Path, log: Log) -> str:
        """Where in the registry's own storage the context now is."""
        place = self._ask("POST", "/listBuildSourceUploadUrl")
        with tempfile.TemporaryFile() as file:
            with tarfile.open(fileobj=file, mode="w:gz", compresslevel=1) as archive:
                for path in sorted(context.rglob("*")):
                    interruption.look()
                    archive.add(path, str(path.relative_to(context)), recursive=False, filter=_of_nobody)
            log(f"sending {file.tell() / 1e6:.1f} MB to {self._registry.name}")
            file.seek(0)
            blob = BlobClient.from_blob_url(
                _https(place["uploadUrl"]), api_version=BLOB_VERSION, transport=self._transport()
            )
            blob.upload_blob(file, overwrite=True, progress_hook=lambda done, total: interruption.look())
        return str(place["relativePath"])

    def _started(self, key: str, source: str, file: str) -> str:
        if not _PLAIN.fullmatch(file):
            raise EnvironmentBuildError(
                f"dockerfile: got `{file}`; ACR Tasks takes letters, digits and . _ - / in it"
            )
        task = _TASK.format(image=f"{self._repository}:{key}", file=file, timeout=TIMEOUT_S)
        asked = {
            "type": "EncodedTaskRunRequest",
            "encodedTaskContent": base64.b64encode(task.encode()).decode(),
            "sourceLocation": source,
            "platform": {"os": "Linux", "architecture": machine()},
            "timeout": TIMEOUT_S,
        }
        return str(self._ask("POST", "/scheduleRun", asked)["properties"]["runId"])

    def _followed(self, key: str, run: str, log: Log) -> str:
        said: list[str] = []
        lines = self._log(run)
        try:
            while True:
                interruption.look()
                found = self._ask("GET", f"/runs/{run}")["properties"]
                for line in next(lines):
                    said.append(line)
                    log(line)
                if found["status"] in _ENDED:
                    break
                self._wait(_PAUSE_S)
        except BaseException:
            with suppress(AzureError):
                self._ask("POST", f"/runs/{run}/cancel")
            raise
        if found["status"] == "Succeeded":
            for image in found.get("outputImages") or ():
                if image.get("tag") == key and image.get("digest"):
                    return str(image["digest"])
            raise EnvironmentBuildError(f"image {key}: run {run} of `{self._registry.name}` says of no image")
        why = f": {found['runErrorMessage']}" if found.get("runErrorMessage") else ""
        last = "\n".join([line for line in said if line.strip()][-_SAID:])
        raise EnvironmentBuildError(
            f"image {key}: run {run} of `{self._registry.name}` is {found['status']}{why}; it says:\n{last}"
        )

    def _log(self, run: str) -> Iterator[list[str]]:
        """The lines of a run's log that came since the last time, for ever; the log is an append blob."""
        url = ""
        done, rest = 0, b""
        while True:
            url = url or _https(self._ask("POST", f"/runs/{run}/listLogSasUrl")["logLink"])
            request = HttpRequest("GET", url, headers={"x-ms-range": f"bytes={done}-", "x-ms-version": BLOB_VERSION})
            answer = self._plain.send_request(request)
            # 404: nobody has written it yet; 416: nothing came.
            found = answer.read() if answer.status_code in (200, 206) else b""
            if answer.status_code == 200:
                found = found[done:]
            done += len(found)
            *whole, rest = (rest + found).split(b"\n")
            yield [line.decode(errors="replace").rstrip() for line in whole]

    def _ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        url = f"{ARM}{self._registry.path}{path}?api-version={VERSION}"
        answer = self._azure.send_request(HttpRequest(method, url, json=body))
        answer.raise_for_status()
        return dict(answer.json()) if answer.content else {}


def _https(url: str) -> str:
    """An address with a right to it in its query, which is told to nobody. Raises EnvironmentBuildError."""
    if urlsplit(url).scheme != "https":
        raise EnvironmentBuildError("the registry's storage is not to be reached by HTTPS")
    return url


def _of_nobody(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member
