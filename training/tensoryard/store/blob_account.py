"""
A storage account: its address, its containers, who signs in, and the clients of this process.

The one place that decides which library does what: azure-storage-blob writes, appends, tags and answers for every
error; obstore, where it can be used, lists and reads a lot at a fraction of the processor time. Whatever obstore
cannot do is done again by azure-storage-blob, so that it only ever makes things faster.
"""

import gc
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from threading import Lock
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakSet

from azure.core.credentials import AzureNamedKeyCredential, TokenCredential

if TYPE_CHECKING:
    from azure.storage.blob import BlobClient, BlobServiceClient, ContainerClient
    from obstore.store import AzureStore

    from tensoryard.settings import AzureContainers, AzureWorkspace

SCOPE = "https://storage.azure.com/.default"
# One that Azure keeps answering and that the emulator knows; the SDK's own default is newer than both need.
API_VERSION = "2026-02-06"
_CONNECTIONS = 32
_COPY_BYTES = 1 << 20
# Of one connection, of which a slow line has many: what is sent more slowly than this counts as stuck.
_SLOWEST_BYTES_S = 32 << 10
# How often the patience for one byte may pass before obstore has all of them.
_FAST_AT_MOST = 20
# What the largest value that is sent by one request takes on the slowest line.
_LARGEST_S = (64 << 20) / _SLOWEST_BYTES_S
# One request for a whole value, which is then of one moment, and no second round for what is large.
_ONE_REQUEST_BYTES = 5000 << 20

Credential = TokenCredential | AzureNamedKeyCredential


class Patience(NamedTuple):
    """
    How long a request is tried.

    attempts: requests, the first one included; first_wait_s: before the second, doubled from there on, with jitter;
    longest_wait_s: also of what the service asks for; answer_s: without a byte until a request counts as lost.
    """

    attempts: int = 6
    first_wait_s: float = 0.5
    longest_wait_s: float = 30
    answer_s: float = 30


@dataclass(frozen=True, kw_only=True)
class BlobAccount:
    """
    endpoint: such as https://name.blob.core.windows.net/; containers: their names by what they hold;
    resource: the account's id in Azure, for commands that grant a role on it; tenant: whose users sign in.
    """

    endpoint: str
    containers: "AzureContainers"
    credential: Credential
    resource: str = ""
    tenant: str = ""

    @classmethod
    def of_workspace(cls, azure: "AzureWorkspace", credential: Credential | None = None) -> "BlobAccount":
        """The account of a workspace; credential: None for whoever is signed in on this machine."""
        if credential is None:
            from azure.identity import DefaultAzureCredential

            credential = DefaultAzureCredential(additionally_allowed_tenants=[azure.tenant_id])
        group = f"/subscriptions/{azure.subscription_id}/resourceGroups/{azure.resource_group}"
        return cls(
            endpoint=azure.blob_endpoint,
            containers=azure.containers,
            credential=credential,
            resource=f"{group}/providers/Microsoft.Storage/storageAccounts/{azure.storage_account}",
            tenant=azure.tenant_id,
        )

    @property
    def name(self) -> str:
        """The account as messages name it."""
        return self.resource.rpartition("/")[2] or self.endpoint

    def container_of(self, key: str) -> str:
        """The container of a key, by its first part."""
        first = key.partition("/")[0]
        if first == "data":
            return self.containers.data
        return self.containers.models if first == "models" else self.containers.runs

    def containers_of(self, prefix: str) -> list[str]:
        """The containers that can hold a key with this prefix."""
        if "/" in prefix:
            return [self.container_of(prefix)]
        homes = {"data": self.containers.data, "models": self.containers.models}
        found = [home for first, home in homes.items() if first.startswith(prefix)]
        return list(dict.fromkeys([*found, self.containers.runs]))


def only_if(etag: str) -> dict[str, Any]:
    """What makes a request be carried out only while a blob has an ETag, which listings give without its quotes."""
    from azure.core import MatchConditions

    return {"etag": f'"{etag}"', "match_condition": MatchConditions.IfNotModified}


class Clients:
    """The clients of an account in this process; a process that was forked gets its own: sockets are not shared."""

    def __init__(self, account: BlobAccount, patience: Patience) -> None:
        self.account = account
        self.patience = patience
        # Whether the account has a hierarchical namespace; None as long as nobody asked it.
        self.hierarchical: bool | None = None
        self._lock = Lock()
        self._pid = 0
        self._containers: dict[str, ContainerClient] = {}
        self._fast: dict[tuple[str, bool], AzureStore] = {}
        _all_clients.add(self)

    def blob(self, key: str) -> "BlobClient":
        return self.container(self.account.container_of(key)).get_blob_client(key)

    def container(self, name: str) -> "ContainerClient":
        if self._pid != os.getpid():
            self._start()
        return self._containers[name]

    def fast(self, container: str, *, large: bool = False) -> "AzureStore | None":
        """
        obstore's client of a container; None where it is not installed or this process cannot use it.

        large: whether it is to send more than goes out at once even on a slow line.
        """
        if self._pid != os.getpid():
            self._start()
        if _forked_from_fast or not _fast_installed():
            return None
        with self._lock:
            if (container, large) not in self._fast:
                self._fast[container, large] = self._new_fast(container, large=large)
            return self._fast[container, large]

    def _start(self) -> None:
        if self._pid != os.getpid():
            self._lock = Lock()  # of the parent, it may have been held when this process was forked
        with self._lock:
            if self._pid == os.getpid():
                return
            service = self._new_service()
            names = self.account.containers
            self._containers = {name: service.get_container_client(name) for name in (*_names(names),)}
            self._fast = {}  # of the parent, they are kept by _after_fork
            self._pid = os.getpid()

    def _new_service(self) -> "BlobServiceClient":
        import requests
        from azure.core.pipeline.transport import RequestsTransport
        from azure.storage.blob import BlobServiceClient
        from requests.adapters import HTTPAdapter

        class Transport(RequestsTransport):  # type: ignore[misc]
            def send(self, request: Any, **how: Any) -> Any:
                # The time to connect is that to send all of a body too.
                length = int(request.headers.get("Content-Length") or 0)
                how.setdefault("connection_timeout", connect_s + length / _SLOWEST_BYTES_S)
                return super().send(request, **how)

        connect_s = min(10, self.patience.answer_s)
        session = requests.Session()
        adapter = HTTPAdapter(pool_connections=4, pool_maxsize=_CONNECTIONS, max_retries=0)
        session.mount("https://", adapter)
        session.mount("http://", adapter)
        # Looked up once: at every request it costs a fifth of the processor's time for it.
        settings = session.merge_environment_settings(self.account.endpoint, {}, None, None, None)
        session.proxies, session.trust_env = settings["proxies"], False
        transport = Transport(
            session=session,
            session_owner=False,
            connection_timeout=connect_s,
            read_timeout=self.patience.answer_s,
            connection_verify=settings["verify"],
            connection_data_block_size=_COPY_BYTES,
        )
        return BlobServiceClient(
            self.account.endpoint,
            credential=self.account.credential,
            api_version=API_VERSION,
            transport=transport,
            retry_total=0,  # `persist` tries again, and knows then that a request may have been carried out
            max_single_put_size=_ONE_REQUEST_BYTES,
            max_single_get_size=_ONE_REQUEST_BYTES,
        )

    def _new_fast(self, container: str, *, large: bool) -> "AzureStore":
        from datetime import timedelta

        from obstore.store import AzureStore

        global _fast_used
        _fast_used = True
        account = self.account
        client = {
            "allow_http": account.endpoint.startswith("http://"),
            "connect_timeout": timedelta(seconds=min(10, self.patience.answer_s)),
            "read_timeout": timedelta(seconds=self.patience.answer_s),
            "timeout": timedelta(seconds=_FAST_AT_MOST * self.patience.answer_s + (_LARGEST_S if large else 0)),
        }
        retry = {"max_retries": 0}
        endpoint = account.endpoint.rstrip("/")
        if isinstance(account.credential, AzureNamedKeyCredential):
            named = account.credential.named_key
            config = {"account_name": named.name, "account_key": named.key, "endpoint": endpoint}
            return AzureStore(container, config=config, client_options=client, retry_config=retry)  # type: ignore[arg-type]
        name = account.resource.rpartition("/")[2] or endpoint.partition("://")[2].partition(".")[0]
        return AzureStore(
            container,
            config={"account_name": name, "endpoint": endpoint},
            client_options=client,  # type: ignore[arg-type]
            retry_config=retry,  # type: ignore[arg-type]
            credential_provider=_Tokens(account.credential, account.tenant),
        )


class _Tokens:
    """Tokens as obstore asks for them."""

    def __init__(self, credential: TokenCredential, tenant: str) -> None:
        self._credential = credential
        self._tenant = tenant or None

    def __call__(self) -> Any:
        token = self._credential.get_token(SCOPE, tenant_id=self._tenant)
        return {"token": token.token, "expires_at": datetime.fromtimestamp(token.expires_on, UTC)}


# obstore's threads are not in a forked process, where its first call would wait for them for ever. So would the end
# of one of its clients, when the process was forked while another thread used it: there they are never let go.
_all_clients: "WeakSet[Clients]" = WeakSet()
_of_parents: list[object] = []
_fast_used = False
_forked_from_fast = False


def _after_fork() -> None:
    global _forked_from_fast
    _of_parents.extend(clients._fast for clients in _all_clients)
    _forked_from_fast = _forked_from_fast or _fast_used
    if _forked_from_fast:
        # Collected here, what of obstore's is among the parent's garbage would wait for those threads as well.
        gc.freeze()


os.register_at_fork(after_in_child=_after_fork)


def _fast_installed() -> bool:
    from importlib.util import find_spec

    return find_spec("obstore") is not None


def _names(containers: "AzureContainers") -> set[str]:
    return {containers.data, containers.runs, containers.models}
