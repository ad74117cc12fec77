"""Fixtures over Azurite: one emulator for all tests, containers of its own for each."""

import secrets
from collections.abc import Iterator
from contextlib import suppress
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from services.azure_sign_in import Identity
from services.azurite import ACCOUNT, KEY, Azurite
from services.faulty import Faulty

if TYPE_CHECKING:
    from azure.storage.blob import BlobServiceClient

    from cli_runner import Tyard
    from tensoryard.store.blob_account import BlobAccount

TENANT = "11111111-1111-1111-1111-111111111111"
# What `tyard workspace connect` keeps of a workspace without clusters.
WORKSPACE: dict[str, Any] = {
    "name": "tensoryard",
    "subscriptionId": "00000000-0000-0000-0000-000000000000",
    "tenantId": TENANT,
    "location": "westeurope",
    "resourceGroup": "workspace1234",
    "registry": {"name": "registry1234", "loginServer": "registry1234.azurecr.io"},
    "vault": {"name": "vault1234", "uri": "https://vault1234.vault.azure.net/"},
    "head": {"name": "head", "privateAddress": "10.40.0.4", "publicAddress": None},
    "clusters": {},
}


class SignedIn(NamedTuple):
    """environ: for a process that shall be signed in by itself, as a machine of Azure is."""

    azurite: Azurite
    identity: Identity
    environ: dict[str, str]

    def make_containers(self, *names: str) -> None:
        """In the process of the tests, which trusts no certificate of its own making."""
        from azure.core.credentials import AzureNamedKeyCredential
        from azure.storage.blob import BlobServiceClient

        from tensoryard.store.blob_account import API_VERSION

        how = {"api_version": API_VERSION, "connection_verify": self.environ["REQUESTS_CA_BUNDLE"]}
        with BlobServiceClient(self.azurite.endpoint, AzureNamedKeyCredential(ACCOUNT, KEY), **how) as service:
            for name in names:
                service.create_container(name)


def connect(cli: "Tyard", signed_in: SignedIn, monkeypatch: pytest.MonkeyPatch) -> None:
    """Connect the command line to a workspace of its own on Azurite."""
    import msgspec
    from azure.core.credentials import AzureNamedKeyCredential

    from tensoryard.settings import AzureWorkspace
    from tensoryard.store.blob import BlobStore
    from tensoryard.store.blob_account import BlobAccount

    word = secrets.token_hex(4)
    containers = {kind: f"{kind}-{word}" for kind in ("data", "runs", "models")}
    signed_in.make_containers(*containers.values())
    fields = WORKSPACE | {
        "blobEndpoint": signed_in.azurite.endpoint,
        "containers": containers,
        "storageAccount": ACCOUNT,
    }
    azure = msgspec.convert(fields, AzureWorkspace)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", signed_in.environ["REQUESTS_CA_BUNDLE"])
    account = BlobAccount(
        endpoint=azure.blob_endpoint, containers=azure.containers, credential=AzureNamedKeyCredential(ACCOUNT, KEY)
    )
    cli.connect(azure, BlobStore(account), signed_in.environ)


@pytest.fixture(scope="session")
def azurite() -> Iterator[Azurite]:
    emulator = Azurite()
    yield emulator
    emulator.close()


@pytest.fixture(scope="session")
def blob_service(azurite: Azurite) -> Iterator["BlobServiceClient"]:
    """Azurite by the SDK alone, for tests to prepare and to look with."""
    # Not at the top: only tests that use blob storage pay for the SDK's import.
    from azure.core.credentials import AzureNamedKeyCredential
    from azure.storage.blob import BlobServiceClient

    from tensoryard.store.blob_account import API_VERSION

    credential = AzureNamedKeyCredential(ACCOUNT, KEY)
    with BlobServiceClient(azurite.endpoint, credential, api_version=API_VERSION) as service:
        yield service


@pytest.fixture
def blob_account(blob_service: "BlobServiceClient", azurite: Azurite) -> Iterator["BlobAccount"]:
    """An account with three empty containers, which are gone after the test."""
    from azure.core.credentials import AzureNamedKeyCredential
    from azure.core.exceptions import ResourceExistsError, ResourceNotFoundError

    from tensoryard.settings import AzureContainers
    from tensoryard.store.blob_account import BlobAccount

    word = secrets.token_hex(4)
    containers = AzureContainers(data=f"data-{word}", runs=f"runs-{word}", models=f"models-{word}")
    names = (containers.data, containers.runs, containers.models)
    for name in names:
        # The SDK asks again where an answer was slow, and finds it done; the names are nobody else's.
        with suppress(ResourceExistsError):
            blob_service.create_container(name)
    credential = AzureNamedKeyCredential(ACCOUNT, KEY)
    yield BlobAccount(endpoint=azurite.endpoint, containers=containers, credential=credential)
    for name in names:
        with suppress(ResourceNotFoundError):
            blob_service.delete_container(name)


@pytest.fixture(scope="session")
def signed_in(tmp_path_factory: pytest.TempPathFactory) -> Iterator["SignedIn"]:
    """Azurite over HTTPS, and what a process needs to be signed in to it."""
    from services.certificates import certificate_files

    files = certificate_files(tmp_path_factory.mktemp("signed-in"))
    emulator = Azurite(files)
    identity = Identity(TENANT)
    environ = {**identity.environ, "REQUESTS_CA_BUNDLE": str(files[0]), "SSL_CERT_FILE": str(files[0])}
    yield SignedIn(emulator, identity, environ)
    identity.close()
    emulator.close()


@pytest.fixture
def network(blob_account: "BlobAccount", monkeypatch: pytest.MonkeyPatch) -> Iterator[Faulty]:
    """A way to the account that can be made to fail."""
    from azure.storage.blob import _download

    # Between its own tries at a torn answer the SDK waits a second, whatever our patience.
    monkeypatch.setattr(_download, "time", SimpleNamespace(sleep=lambda seconds: None))
    proxy = Faulty(blob_account.endpoint)
    yield proxy
    proxy.close()
