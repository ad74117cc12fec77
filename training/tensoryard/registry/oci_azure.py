"""
Signing in to Azure's container registries as whoever Azure knows here: a managed identity, or a person of `az login`.

A token of Entra ID is exchanged for the registry's refresh token, and that one, like the token of `docker login`, for
one that is good for one repository. All stay in memory; there is no password, and the registry's admin user is off.
Source: https://azure.github.io/acr/AAD-OAuth.html
"""

import base64
import json
import re
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlencode

from tensoryard.errors import StoreError
from tensoryard.registry.oci_login import Login

if TYPE_CHECKING:
    from azure.core.credentials import TokenCredential

# A registry gets no token of ours unless its name says that it is Azure's, public or of a cloud of its own.
_AZURES = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*\.azurecr\.(io|cn|us)", re.IGNORECASE)
_SCOPE = "https://containerregistry.azure.net/.default"
# Sends a form to a path of the registry, and returns the status and body of its answer.
Post = Callable[[str, Mapping[str, str]], tuple[int, bytes]]
METADATA = "http://169.254.169.254"
_METADATA_S = 5
_TRIES = 3
# Of a refresh token without a time of its own in it; Azure's are good for three hours.
_GOOD_FOR_S = 3600
_MARGIN_S = 300


class _Kept(NamedTuple):
    login: Login
    until: float


_lock = threading.Lock()
_kept: dict[str, _Kept] = {}
_credentials: "list[TokenCredential]" = []


def is_azures(registry: str) -> bool:
    """Whether a registry is one of Azure's, by its name."""
    return _AZURES.fullmatch(registry) is not None


def sign_in(registry: str, post: Post, anew: bool = False) -> Login:
    """
    The login of one of Azure's registries; kept until shortly before it ends.

    anew: even where one is kept, since the registry takes that one no longer.
    Raises StoreError where nobody is signed in to Azure on this machine, or the registry does not know who is.
    """
    with _lock:
        kept = _kept.get(registry)
        if kept and not anew and time.time() < kept.until:
            return kept.login
        token = _token_of_entra(registry)
        form = {"grant_type": "access_token", "service": registry, "access_token": token}
        status, body = post("/oauth2/exchange", form)
        if status in (401, 403):
            raise StoreError(
                f"registry `{registry}`: does not know who is signed in to Azure here ({status})",
                hint="the role AcrPull lets an identity pull, AcrPush push too: `az role assignment create`",
            )
        try:
            refresh = str(json.loads(body)["refresh_token"])
        except (ValueError, KeyError, TypeError):
            raise StoreError(f"registry `{registry}`: answered {status} without a login to one of Azure's") from None
        _kept[registry] = _Kept(Login(identity=refresh), _end_of(refresh) - _MARGIN_S)
        return _kept[registry].login


def _token_of_entra(registry: str) -> str:
    try:
        from azure.core.exceptions import ClientAuthenticationError
        from azure.identity import DefaultAzureCredential
    except ModuleNotFoundError as error:
        if (token := _token_of_this_machine()) is not None:
            return token
        raise StoreError(
            f"registry `{registry}`: is Azure's, and `{error.name}`, which signs in there, is missing",
            hint="pip install 'tensoryard[azure]'",
        ) from None
    if not _credentials:
        _credentials.append(DefaultAzureCredential())
    try:
        return _credentials[0].get_token(_SCOPE).token
    except ClientAuthenticationError as error:
        said = str(error.message).partition("\n")[0].rstrip(".:")
        raise StoreError(
            f"registry `{registry}`: nobody is signed in to Azure on this machine: {said}", hint="`az login`"
        ) from None


def _token_of_this_machine() -> str | None:
    """
    Of the one identity of a machine of Azure's, None elsewhere: nodes have nothing but Python.

    Source: https://learn.microsoft.com/entra/identity/managed-identities-azure-resources/how-to-use-vm-token
    """
    import urllib.request

    asked = urlencode({"api-version": "2018-02-01", "resource": _SCOPE.removesuffix("/.default")})
    url = f"{METADATA}/metadata/identity/oauth2/token?{asked}"
    request = urllib.request.Request(url, headers={"Metadata": "true"})  # noqa: S310  of this machine
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # it refuses proxies
    for attempt in range(1, _TRIES + 1):
        try:
            with direct.open(request, timeout=_METADATA_S) as answer:
                return str(json.loads(answer.read())["access_token"])
        except (OSError, ValueError, KeyError):
            if attempt < _TRIES:
                time.sleep(attempt)
    return None


def _end_of(token: str) -> float:
    """When a token ends, as it says itself."""
    with suppress(ValueError, KeyError, IndexError, TypeError):
        claims = token.split(".")[1]
        return float(json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))["exp"])
    return time.time() + _GOOD_FOR_S
