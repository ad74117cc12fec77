"""One scale set by Azure's own client: what is there, a tag, an end, a larger number. It decides nothing."""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from azure.core import MatchConditions
from azure.core.exceptions import AzureError, HttpResponseError
from azure.core.pipeline.policies import RetryPolicy
from azure.mgmt.compute import ComputeManagementClient
from azure.mgmt.compute.models import Sku, VirtualMachine, VirtualMachineScaleSetUpdate, VirtualMachineUpdate

from tensoryard.nodes import Machine, Problem, State
from tensoryard.nodes.azure_errors import asked_wait_s, explain
from tensoryard.nodes.patience import Deadline

if TYPE_CHECKING:
    from tensoryard.settings import AzureWorkspace

TAG = "slurm-node"
_PUBLIC_CLOUD = "https://management.azure.com"
_PAUSE_S = 5.0
_Result = TypeVar("_Result")


def compute_client(azure: "AzureWorkspace", endpoint: str | None = None) -> ComputeManagementClient:
    """
    Azure's client, signed in as this machine's identity or as whoever is signed in.

    endpoint: of Azure's resource manager, None for the public cloud's.
    """
    from azure.identity import DefaultAzureCredential

    at = endpoint or _PUBLIC_CLOUD
    return ComputeManagementClient(
        DefaultAzureCredential(additionally_allowed_tenants=[azure.tenant_id]),
        azure.subscription_id,
        at,
        credential_scopes=[f"{at.rstrip('/')}/.default"],
        retry_policy=waiting_is_ours(),
    )


def waiting_is_ours() -> RetryPolicy[Any, Any]:
    """Refusals are waited out by who knows how long there is; lost connections are the client's own business."""
    return RetryPolicy(retry_status=0)


class Growth:
    """A larger number that Azure was asked for."""

    def __init__(self, poller: Any) -> None:
        self._poller = poller

    @property
    def over(self) -> bool:
        return bool(self._poller.done())

    @property
    def error(self) -> Exception | None:
        """Why it failed; None while it goes on, when it was done, and when nobody can say for now."""
        if not self.over:
            return None
        try:
            self._poller.result()
        except HttpResponseError as error:
            # The answer about the operation was refused, not the operation itself.
            return None if error.status_code in (401, 403, 404) or _for_a_moment(error) else error
        except AzureError:
            return None
        return None


class ScaleSet:
    """
    A Flexible scale set: its machines are ordinary ones, made by the set's number and named by Azure.

    Throttling is waited out as long as Azure asks, within the deadline that each call is given. Raises AzureError.
    """

    def __init__(self, client: ComputeManagementClient, subscription: str, group: str, name: str) -> None:
        self.client = client
        self.group = group
        self.name = name
        self.id = (
            f"/subscriptions/{subscription}/resourceGroups/{group}"
            f"/providers/Microsoft.Compute/virtualMachineScaleSets/{name}"
        )

    def machines(self, until: Deadline) -> list[Machine]:
        def ask() -> list[VirtualMachine]:
            # The filter's odd quotes are Azure's own.
            where = f"'virtualMachineScaleSet/id' eq '{self.id}'"
            return [*self.client.virtual_machines.list(self.group, filter=where, expand="instanceView")]

        return [_machine(found) for found in patiently(ask, until)]

    def number(self, until: Deadline) -> tuple[Sku, bool]:
        """The set's size with the number of machines that it is to have, and whether it is at work on it."""
        found = patiently(lambda: self.client.virtual_machine_scale_sets.get(self.group, self.name), until)
        assert found.sku is not None
        state = found.properties.provisioning_state if found.properties is not None else None
        return found.sku, state in ("Creating", "Updating")

    def grow(self, size: Sku, number: int, until: Deadline) -> Growth:
        """Ask for a number of machines in all. Never a smaller one: Azure would choose which go, busy ones too."""
        assert number >= (size.capacity or 0)
        wanted = VirtualMachineScaleSetUpdate(sku=Sku(name=size.name, tier=size.tier, capacity=number))
        begin = self.client.virtual_machine_scale_sets.begin_update
        return Growth(patiently(lambda: begin(self.group, self.name, wanted, polling_interval=_PAUSE_S), until))

    def tag(self, machine: str, node: str, until: Deadline) -> bool:
        """Give a machine a node's name. False when it is not ready for that, has one, or was changed meanwhile."""
        try:
            # Asked once more: the list may be some seconds old, and one machine must not get two names.
            now = patiently(lambda: self.client.virtual_machines.get(self.group, machine), until)
            if TAG in (now.tags or {}):
                return False
            tags = VirtualMachineUpdate(tags={**(now.tags or {}), TAG: node})  # Azure takes tags as a whole
            only_if: dict[str, Any] = (
                {"etag": now.etag, "match_condition": MatchConditions.IfNotModified} if now.etag else {}
            )
            begin = self.client.virtual_machines.begin_update
            patiently(lambda: begin(self.group, machine, tags, polling=False, **only_if), until)
        except HttpResponseError as error:
            if error.status_code in (404, 409, 412):
                return False
            raise
        return True

    def delete(self, machine: str, until: Deadline) -> Problem | None:
        """Ask for a machine's end; its disk and interface go with it. Deleting one that is gone is no problem."""
        try:
            patiently(lambda: self.client.virtual_machines.begin_delete(self.group, machine, polling=False), until)
        except AzureError as error:
            return None if getattr(error, "status_code", None) == 404 else explain(error)
        return None


def patiently(call: Callable[[], _Result], until: Deadline) -> _Result:
    """What a call returns, made again when Azure asks to wait or fails for a moment. Raises its last error."""
    while True:
        try:
            return call()
        except HttpResponseError as error:
            seconds = asked_wait_s(error) or _PAUSE_S
            # What cannot be waited for is told now: a node's reason is worth more than its time running out.
            if not _for_a_moment(error) or seconds >= until.left_s:
                raise
            until.wait(seconds)


def _for_a_moment(error: HttpResponseError) -> bool:
    return error.status_code == 429 or (error.status_code or 0) >= 500


def _machine(found: VirtualMachine) -> Machine:
    assert found.name is not None
    assert found.properties is not None
    view = found.properties.instance_view
    statuses = (view.statuses if view is not None else None) or []
    codes = {status.code or "": status.message for status in statuses}
    power = next((code.partition("/")[2] for code in codes if code.startswith("PowerState/")), "")
    failures = {code: message for code, message in codes.items() if code.startswith("ProvisioningState/failed")}
    state = _state(found.properties.provisioning_state or "", power)
    problem = None
    if state == "failed" or failures:
        code, message = next(iter(failures.items()), ("", None))
        problem = explain_status(code.rpartition("/")[2], message or "it never came up").words
    elif state == "stopped":
        problem = "Azure took the Spot machine away" if found.properties.priority == "Spot" else "it was stopped"
    made = found.properties.time_created
    return Machine(
        id=found.name,
        node=(found.tags or {}).get(TAG),
        state=state,
        created=made.timestamp() if made is not None else time.time(),
        problem=problem,
    )


def _state(provisioning: str, power: str) -> State:
    if provisioning == "Deleting":
        return "stopping"
    if power in ("deallocated", "deallocating", "stopped", "stopping"):
        return "stopped"
    if power == "running":
        return "running"
    return "failed" if provisioning == "Failed" else "starting"


def explain_status(code: str, message: str) -> Problem:
    """What a machine's own status means, in the words for errors."""
    return explain(HttpResponseError(message=f"({code}) {message}"))
