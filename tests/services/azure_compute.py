"""
A stand-in for Azure's compute service: one Flexible scale set, answered over HTTP as its REST API documents it.

Azure's own client speaks to it over its own transport: paging, long operations and retries are the client's. What a
request carries is checked against the client's models. What it does not show: how long Azure takes, what it does
in an order that nobody documented, and whether the role of the head's identity suffices.
"""

import json
import ssl
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from azure.core.credentials import AccessToken
from azure.core.pipeline import PipelineRequest, PipelineResponse
from azure.core.pipeline.policies import SansIOHTTPPolicy
from azure.mgmt.compute import ComputeManagementClient, models

from tensoryard.nodes.scale_set import ScaleSet, waiting_is_ours

SUBSCRIPTION = "11111111-1111-1111-1111-111111111111"
GROUP = "tensoryard-rg"
SET = "gpucluster1a2b"
SIZE = "Standard_NC4as_T4_v3"
VCPUS = 4
_PAGE = 2
_COMPUTE = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/{GROUP}/providers/Microsoft.Compute"


class Killed(BaseException):
    """The program that asked was killed, at that line."""


class Refusal:
    """An answer in place of the real one. method, path: of the request, the end of its path; times: how often."""

    def __init__(
        self, method: str, path: str, status: int, code: str, message: str, *, times: int = 1, **headers: str
    ) -> None:
        self.method = method
        self.path = path
        self.status = status
        self.body = {"error": {"code": code, "message": message}}
        self.times = times
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


class Compute:
    """
    The service. machines: by name, in REST's own form; number: the set's; room: how many more fit into the building;
    quota: vCPUs; refusals: what is refused next; looks_to_run, looks_to_list, looks_to_tag: how many lists a machine
    takes to run, to be listed at all, and to be listed with a new tag; asked: every request, `METHOD end-of-path`;
    on_named, on_deleted: hear of machines that are given a node's name, and of deletions. certificate: files, for
    HTTPS.
    """

    def __init__(self, certificate: tuple[Path, Path] | None = None) -> None:
        self.machines: dict[str, dict[str, Any]] = {}
        self.number = 0
        self.room = 1000
        self.quota = 1000
        self.looks_to_run = 2
        self.looks_to_list = 0
        self.looks_to_tag = 0
        self.looks_to_go = 1
        self.lowers_number_on_delete = True
        self.priority = "Spot"
        self.refusals: list[Refusal] = []
        self.asked: list[str] = []
        self.on_named: Callable[[str, str], None] = lambda machine, node: None
        self.on_deleted: Callable[[str, str | None], None] = lambda machine, node: None
        self.operation: dict[str, Any] = {"status": "Succeeded"}
        self.settled = True
        self._made = 0
        self._lock = threading.Lock()
        service = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _serve(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                body = json.loads(self.rfile.read(length)) if length else None
                with service._lock:
                    try:
                        status, answer, headers = service._answer(self.command, self.path, body, dict(self.headers))
                    except AssertionError as wrong:
                        status, answer, headers = 400, {"error": {"code": "Wrong", "message": str(wrong)}}, {}
                data = b"" if answer is None else json.dumps(answer).encode()
                self.send_response(status)
                for name, value in {"Content-Type": "application/json", **headers}.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_PATCH = do_DELETE = _serve  # noqa: N815

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*certificate)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        self.url = f"http{'s' * bool(certificate)}://127.0.0.1:{self._server.server_address[1]}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def scale_set(self, policy: "SansIOHTTPPolicy[Any, Any] | None" = None) -> ScaleSet:
        """The set through Azure's own client. policy: sees every request and response of this client."""
        client = ComputeManagementClient(
            _Nobody(),
            SUBSCRIPTION,
            self.url,
            credential_scopes=["https://management.azure.com/.default"],
            authentication_policy=policy or SansIOHTTPPolicy(),
            retry_policy=waiting_is_ours(),
        )
        return ScaleSet(client, SUBSCRIPTION, GROUP, SET)

    @property
    def nodes(self) -> dict[str, str | None]:
        """The node's name of every machine that is not on its way out, by the machine's."""
        return {
            name: machine["tags"].get("slurm-node")
            for name, machine in self.machines.items()
            if machine["properties"]["provisioningState"] != "Deleting"
        }

    def add(self, node: str | None = None, *, power: str = "running", created: float | None = None) -> str:
        """One more machine that is there. Returns its name."""
        name = self._make()
        machine = self.machines[name]
        machine["tags"] |= {"slurm-node": node} if node else {}
        machine["properties"]["provisioningState"] = "Succeeded"
        machine["power"] = power
        machine["unseen"] = 0
        if created is not None:
            machine["properties"]["timeCreated"] = datetime.fromtimestamp(created, UTC).isoformat()
        self.number = len(self.machines)
        return name

    def evict(self, machine: str, *, policy: str = "Delete") -> None:
        """As Azure takes a Spot machine away."""
        if policy == "Delete":
            del self.machines[machine]
            self.number -= 1
        else:
            self.machines[machine]["power"] = "deallocated"

    def _make(self) -> str:
        self._made += 1
        name = f"{SET}_{self._made:08x}"
        self.machines[name] = {
            "name": name,
            "id": f"{_COMPUTE}/virtualMachines/{name}",
            "location": "eastus",
            "tags": {"workspace": "dev"},
            "etag": '"1"',
            "power": "starting",
            "unseen": self.looks_to_list,
            "looks": 0,
            "late": 0,
            "problem": None,
            "properties": {
                "provisioningState": "Creating",
                "priority": self.priority,
                "timeCreated": datetime.now(UTC).isoformat(),
                "virtualMachineScaleSet": {"id": f"{_COMPUTE}/virtualMachineScaleSets/{SET}"},
            },
        }
        return name

    def _answer(
        self, method: str, target: str, body: Any, headers: dict[str, str]
    ) -> tuple[int, Any, dict[str, str]]:
        url = urlsplit(target)
        path, query = unquote(url.path), {key: values[0] for key, values in parse_qs(url.query).items()}
        end = path.removeprefix(_COMPUTE)
        self.asked.append(f"{method} {end}")
        for refusal in self.refusals:
            if refusal.times and refusal.method == method and end.endswith(refusal.path):
                refusal.times -= 1
                return refusal.status, refusal.body, refusal.headers
        if end == "/operations/1":
            return 200, self.operation, {}
        if end == "/virtualMachines":
            return self._list(query)
        if end == f"/virtualMachineScaleSets/{SET}":
            return self._set(method, body)
        name = end.rpartition("/")[2]
        assert end == f"/virtualMachines/{name}", f"nobody documents {method} {path}"
        return self._machine(method, name, body, headers)

    def _list(self, query: dict[str, str]) -> tuple[int, Any, dict[str, str]]:
        # As https://learn.microsoft.com/rest/api/compute/virtual-machines/list has it, odd quotes and all.
        assert query["$filter"] == f"'virtualMachineScaleSet/id' eq '{_COMPUTE}/virtualMachineScaleSets/{SET}'"
        assert query["$expand"] == "instanceView"
        start = int(query.get("skip", 0))
        if start == 0:
            self._tick()
        seen = [machine for machine in self.machines.values() if machine["unseen"] <= 0]
        answer: dict[str, Any] = {"value": [_listed(machine) for machine in seen[start : start + _PAGE]]}
        if len(seen) > start + _PAGE:
            filter_ = query["$filter"]
            rest = f"$expand=instanceView&skip={start + _PAGE}&$filter={filter_}&api-version={query['api-version']}"
            answer["nextLink"] = f"{self.url}{_COMPUTE}/virtualMachines?{rest}".replace(" ", "%20")
        return 200, answer, {}

    def _tick(self) -> None:
        """Time goes by one look."""
        for machine in [*self.machines.values()]:
            machine["looks"] += 1
            machine["unseen"] -= 1
            machine["late"] -= 1
            state = machine["properties"]["provisioningState"]
            if state == "Creating" and machine["looks"] >= self.looks_to_run:
                failed = machine["problem"] is not None
                machine["properties"]["provisioningState"] = "Failed" if failed else "Succeeded"
                machine["power"] = "" if failed else "running"
            elif state == "Deleting" and machine["looks"] > self.looks_to_go:
                del self.machines[machine["name"]]

    def _set(self, method: str, body: Any) -> tuple[int, Any, dict[str, str]]:
        if method == "PATCH":
            _check(body, models.VirtualMachineScaleSetUpdate)
            _check(body["sku"], models.Sku)
            assert body["sku"]["name"] == SIZE, "a set's size cannot be changed while machines run"
            wanted = body["sku"]["capacity"]
            assert wanted >= self.number, "Azure would delete machines of its own choice"
            refused = self._grow(wanted)
            if refused:
                return refused
            return 200, self._as_set(), {"Azure-AsyncOperation": f"{self.url}{_COMPUTE}/operations/1?api-version=1"}
        return 200, self._as_set(), {}

    def _grow(self, wanted: int) -> tuple[int, Any, dict[str, str]] | None:
        more = wanted - self.number
        used = len(self.machines) * VCPUS
        if used + more * VCPUS > self.quota:
            # As recorded in https://github.com/Azure/karpenter-provider-azure/issues/192, and shortened.
            message = (
                "Operation could not be completed as it results in exceeding approved standardNCASv3_T4Family Cores "
                "quota. Additional details - Deployment Model: Resource Manager, Location: eastus, "
                f"Current Limit: {self.quota}, Current Usage: {used}, Additional Required: {more * VCPUS}, "
                f"(Minimum) New Limit Required: {used + more * VCPUS}. Submit a request for Quota increase at "
                "https://aka.ms/ProdportalCRP/ by specifying parameters listed in the Details section."
            )
            return 409, {"error": {"code": "OperationNotAllowed", "message": message}}, {}
        self.number = wanted
        self.operation = {"status": "Succeeded"}
        for _ in range(more):
            name = self._make()
            if self.room <= 0:
                message = "Allocation failed. We do not have sufficient capacity for the requested VM size here."
                self.machines[name]["problem"] = ("AllocationFailed", message)
                # As recorded in https://github.com/MicrosoftDocs/azure-docs/issues/41402
                inner = {"code": "AllocationFailed", "message": message}
                outer = "The resource operation completed with terminal provisioning state 'Failed'."
                error = {"code": "ResourceOperationFailure", "message": outer, "details": [inner]}
                self.operation = {"status": "Failed", "error": error}
            self.room -= 1
        return None

    def _as_set(self) -> dict[str, Any]:
        return {
            "name": SET,
            "location": "eastus",
            "sku": {"name": SIZE, "tier": "Standard", "capacity": self.number},
            "properties": {"provisioningState": "Succeeded" if self.settled else "Updating"},
        }

    def _machine(self, method: str, name: str, body: Any, headers: dict[str, str]) -> tuple[int, Any, dict[str, str]]:
        machine = self.machines.get(name)
        if machine is None:
            gone = {"error": {"code": "ResourceNotFound", "message": f"The Resource {name} was not found."}}
            return (204, None, {}) if method == "DELETE" else (404, gone, {})
        if method == "PATCH":
            _check(body, models.VirtualMachineUpdate)
            assert [*body] == ["tags"]
            if headers.get("If-Match") != machine["etag"]:
                return 412, {"error": {"code": "ConditionNotMet", "message": "The etag is another one."}}, {}
            if "slurm-node" in body["tags"] and "slurm-node" not in machine["tags"]:
                self.on_named(name, body["tags"]["slurm-node"])
            machine["late"], machine["tags_before"] = self.looks_to_tag + 1, machine["tags"]
            machine["tags"] = body["tags"]
            machine["etag"] = f'"{int(machine["etag"][1:-1]) + 1}"'
        elif method == "DELETE":
            machine["properties"]["provisioningState"] = "Deleting"
            machine["looks"] = 0
            if not self.looks_to_go:
                del self.machines[name]
            self.number -= int(self.lowers_number_on_delete)
            self.on_deleted(name, machine["tags"].get("slurm-node"))
            return 202, None, {"Location": f"{self.url}{_COMPUTE}/operations/1?api-version=1"}
        return 200, _shown(machine), {}


class _Nobody:
    """Who signs in: nobody is asked to, over plain HTTP."""

    def get_token(self, *scopes: str, **options: Any) -> AccessToken:
        raise AssertionError("a token was asked for")


class KilledAt(SansIOHTTPPolicy[Any, Any]):
    """Kills the program at its nth request: before it is sent, or when Azure has done it and nobody heard."""

    def __init__(self, number: int, *, answered: bool) -> None:
        self._number = number
        self._answered = answered
        self._seen = 0
        self._lock = threading.Lock()

    def on_request(self, request: PipelineRequest[Any]) -> None:
        # Not those of the thread that waits for a long operation: how many there are is a matter of time.
        request.context["number"] = 0
        if not threading.current_thread().name.startswith("LROPoller"):
            with self._lock:
                self._seen += 1
                request.context["number"] = self._seen
        self._look(request, now=not self._answered)

    def on_response(self, request: PipelineRequest[Any], response: PipelineResponse[Any, Any]) -> None:
        self._look(request, now=self._answered)

    def _look(self, request: PipelineRequest[Any], *, now: bool) -> None:
        if now and request.context["number"] == self._number:
            raise Killed


def _listed(machine: dict[str, Any]) -> dict[str, Any]:
    """A machine as a list has it, which may be older than its last change."""
    return _shown({**machine, "tags": machine["tags_before"]} if machine["late"] > 0 else machine)


def _shown(machine: dict[str, Any]) -> dict[str, Any]:
    """A machine as the API shows it."""
    state = machine["properties"]["provisioningState"]
    statuses = [{"code": f"ProvisioningState/{state.lower()}", "level": "Info"}]
    if state == "Failed" and machine["problem"]:
        code, message = machine["problem"]
        statuses = [{"code": f"ProvisioningState/failed/{code}", "level": "Error", "message": message}]
    if machine["power"]:
        statuses.append({"code": f"PowerState/{machine['power']}", "level": "Info"})
    shown = {key: machine[key] for key in ("name", "id", "location", "tags", "etag")}
    properties = {**machine["properties"], "instanceView": {"statuses": statuses}}
    _check(properties, models.VirtualMachineProperties)
    return {**shown, "properties": properties}


def _check(body: dict[str, Any], model: Any) -> None:
    """Whether the client's model knows every field."""
    known = {field._rest_name for field in model({})._attr_to_rest_field.values()}
    assert set(body) <= known, f"{model.__name__} has no {sorted(set(body) - known)}"
