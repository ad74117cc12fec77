"""What blob storage refuses, in our words; and which refusals pass by themselves."""

import base64
import json
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from azure.core.exceptions import (
    AzureError,
    ClientAuthenticationError,
    HttpResponseError,
    ServiceRequestError,
    ServiceResponseError,
)

from tensoryard.errors import AlreadyExistsError, NotFoundError, StoreError
from tensoryard.store.blob_account import SCOPE, BlobAccount, Patience
from tensoryard.store.keys import check_key

T = TypeVar("T")

READER = "Storage Blob Data Reader"
CONTRIBUTOR = "Storage Blob Data Contributor"
# Defined by `pulumi up`: of the built-in roles only that of an owner of the data may touch tags.
TAGS = "Tensoryard blob tags"
_PASSING = {408, 429, 500, 502, 503, 504}
_NO_CONNECTION_ATTEMPTS = 3
_SDK_ATTEMPTS = 3


def code_of(error: AzureError) -> str:
    """The service's own word for an error, such as BlobNotFound; "" where it gave none."""
    response = getattr(error, "response", None)
    header = response.headers.get("x-ms-error-code") if response is not None else None
    code = header or getattr(error, "error_code", None) or ""
    return str(getattr(code, "value", code))


def status_of(error: AzureError) -> int:
    """The status of the answer; 0 where there was none."""
    return getattr(error, "status_code", None) or 0


def absent(key: str) -> NotFoundError:
    return NotFoundError(f"`{key}`: is not in the store")


def taken(key: str) -> AlreadyExistsError:
    return AlreadyExistsError(f"`{key}`: already exists and cannot be overwritten")


def is_taken(error: AzureError) -> bool:
    """Whether it says that a key is there that should not be; the SDK takes every 409 for that."""
    return code_of(error) in ("BlobAlreadyExists", "ConditionNotMet", "TargetConditionNotMet")


def persist(patience: Patience, request: Callable[[bool], T]) -> T:
    """
    What a request returns, tried again while its failure is one that passes.

    request: given whether an earlier try of it may have been carried out without an answer. Raises its last error.
    """
    unsure = False
    attempt = 0
    while True:
        try:
            return request(unsure)
        except AzureError as error:
            attempt += _SDK_ATTEMPTS if _tried_by_sdk(error) else 1
            if not passes(error) or attempt >= patience.attempts:
                raise
            if _no_connection(error) and attempt >= _NO_CONNECTION_ATTEMPTS:
                raise
            unsure = unsure or not _no_connection(error)
            time.sleep(wait_s(error, attempt, patience))


def passes(error: AzureError) -> bool:
    """Whether the same request may work a little later: no answer, half an answer, too many requests, a fault."""
    if isinstance(error, ClientAuthenticationError):
        return False
    if isinstance(error, ServiceRequestError | ServiceResponseError):
        return True
    status = status_of(error)
    # An answer that broke off has the status of one that did not.
    return status in _PASSING or status < 300


def wait_s(error: AzureError, attempt: int, patience: Patience) -> float:
    """Seconds before the next try: what the service asked for, else longer each time; never two clients alike."""
    asked = 0.0
    response = getattr(error, "response", None)
    if response is not None:
        try:
            asked = float(response.headers.get("Retry-After") or 0)
        except ValueError:  # a date, which no storage service sends
            asked = 0.0
    grown = patience.first_wait_s * 2 ** (attempt - 1)
    spread = random.uniform(0.5, 1.5)  # noqa: S311 (nobody gains by guessing it)
    return float(min(asked + grown * spread, patience.longest_wait_s))


def _tried_by_sdk(error: AzureError) -> bool:
    """Whether the SDK tried already, as it does when an answer breaks off, whatever it is told."""
    return type(error) is HttpResponseError and error.response is None


def _no_connection(error: AzureError) -> bool:
    """Whether a request certainly never left: no such name, nobody listens."""
    said = str(error)
    return isinstance(error, ServiceRequestError) and (
        "Failed to establish a new connection" in said or "Failed to resolve" in said or "NameResolution" in said
    )


@contextmanager
def plain(account: BlobAccount, key: str, doing: str, role: str = READER) -> Iterator[None]:
    """
    A block in which what blob storage refuses becomes a StoreError that says what to do.

    doing: the verb of the message, such as "writing"; role: the one that allows it.
    """
    try:
        yield
    except AzureError as error:
        failure = explained(account, key, doing, role, error)
        if role == CONTRIBUTOR and passes(error):
            failure.maybe_written = key
        raise failure from error


def explained(account: BlobAccount, key: str, doing: str, role: str, error: AzureError) -> StoreError:
    """The error to raise for one of the SDK's."""
    status, code = status_of(error), code_of(error)
    container = account.container_of(key)
    failed = f"`{key}`: {doing} failed: "
    if status == 404 and code in ("ContainerNotFound", "ContainerBeingDeleted"):
        return StoreError(
            f"{failed}the storage account `{account.name}` has no container `{container}`",
            "`pulumi up` makes it; `tyard workspace show` names the account that is used",
        )
    if status == 403 and code in ("AuthorizationPermissionMismatch", "InsufficientAccountPermissions"):
        return _missing_role(account, failed, container, role)
    if status == 403 and code == "AuthorizationFailure":
        return StoreError(
            f"{failed}the storage account `{account.name}` does not let this machine in",
            "its network rules name who may come: use a machine inside its network, or the head node",
        )
    if status in (401, 403) or isinstance(error, ClientAuthenticationError):
        return StoreError(f"{failed}not signed in to Azure: {_first_line(error)}", _sign_in(account))
    if code == "BlockCountExceedsLimit":
        return StoreError(f"{failed}it was appended to 50,000 times, and blob storage takes no more")
    if code == "InvalidBlobType":
        return StoreError(f"{failed}it was written whole, so nothing can be appended to it")
    if status:
        return StoreError(
            f"{failed}the storage account `{account.name}` answered {status} {code or _first_line(error)}"
        )
    return StoreError(
        f"{failed}the storage account `{account.name}` did not answer: {_first_line(error)}",
        f"is the network up, and does `{account.endpoint}` resolve from here?",
    )


def _missing_role(account: BlobAccount, failed: str, container: str, role: str) -> StoreError:
    scope = f"{account.resource or '<id of the storage account>'}/blobServices/default/containers/{container}"
    who, kind = _principal(account)
    named = f'"{role}"'
    if role == TAGS:
        # A custom role's whole name is of this workspace only; what it begins with is the same everywhere.
        group = account.resource.partition("/providers/")[0] or "<id of the resource group>"
        found = f"--query \"[?starts_with(roleName, '{role} (')].name\" --output tsv"
        named = f'"$(az role definition list --scope {group} --custom-role-only true {found})"'
    return StoreError(
        f"{failed}the role `{role}` on the container `{container}` of `{account.name}` is missing",
        f"an owner of the workspace grants it: az role assignment create --role {named} "
        f"--assignee-object-id {who} --assignee-principal-type {kind} --scope {scope}\n"
        "(it takes a few minutes until Azure knows; `tensoryard:users` in the stack's settings keeps it)",
    )


def _principal(account: BlobAccount) -> tuple[str, str]:
    """(object id, kind) of who is signed in, from their token, which is not checked: it only names them."""
    try:
        token = account.credential.get_token(SCOPE).token  # type: ignore[union-attr]
        claims = token.split(".")[1]
        said = json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))
        return str(said["oid"]), "ServicePrincipal" if said.get("idtyp") == "app" else "User"
    except Exception:  # any kind of token that is not read so; the message must come all the same
        return "<your object id>", "User"


def _sign_in(account: BlobAccount) -> str:
    return f"az login --tenant {account.tenant}" if account.tenant else "az login"


def _first_line(error: AzureError) -> str:
    lines = str(error.message or error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__


def is_key(name: str) -> bool:
    """Whether a blob's name is a key; blobs that others put beside ours can have any name."""
    from tensoryard.errors import UsageError

    try:
        check_key(name)
    except UsageError:
        return False
    return True


def missing_container(error: HttpResponseError) -> bool:
    return code_of(error) in ("ContainerNotFound", "ContainerBeingDeleted")
