"""Fixtures over Azurite: one emulator for all tests, containers of its own for each."""

import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

from services.azure_sign_in import Identity, certificate
from services.azurite import ACCOUNT, KEY, Azurite

if TYPE_CHECKING:
    from tensoryard.store.blob_account import BlobAccount

TENANT = "11111111-1111-1111-1111-111111111111"


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


@pytest.fixture(scope="session")
def azurite() -> Iterator[Azurite]:
    emulator = Azurite()
    yield emulator
    emulator.close()


@pytest.fixture
def blob_account(azurite: Azurite) -> Iterator["BlobAccount"]:
    """An account with three empty containers, which are gone after the test."""
    # Not at the top: only tests that use blob storage pay for the SDK's import.
    from azure.core.credentials import AzureNamedKeyCredential
    from azure.storage.blob import BlobServiceClient

    from tensoryard.settings import AzureContainers
    from tensoryard.store.blob_account import API_VERSION, BlobAccount

    word = secrets.token_hex(4)
    containers = AzureContainers(data=f"data-{word}", runs=f"runs-{word}", models=f"models-{word}")
    credential = AzureNamedKeyCredential(ACCOUNT, KEY)
    names = (containers.data, containers.runs, containers.models)
    with BlobServiceClient(azurite.endpoint, credential, api_version=API_VERSION) as service:
        for name in names:
            service.create_container(name)
        yield BlobAccount(endpoint=azurite.endpoint, containers=containers, credential=credential)
        for name in names:
            service.delete_container(name)


@pytest.fixture
def signed_in(tmp_path: Path) -> Iterator["SignedIn"]:
    """Azurite over HTTPS, and what a process needs to be signed in to it."""
    folder = tmp_path / "signed-in"
    folder.mkdir()
    files = certificate(folder)
    emulator = Azurite(files)
    identity = Identity(TENANT)
    environ = {**identity.environ, "REQUESTS_CA_BUNDLE": str(files[0]), "SSL_CERT_FILE": str(files[0])}
    yield SignedIn(emulator, identity, environ)
    identity.close()
    emulator.close()
