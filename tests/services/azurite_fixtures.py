"""Fixtures over Azurite: one emulator for all tests, containers of its own for each."""

import secrets
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from services.azurite import ACCOUNT, KEY, Azurite

if TYPE_CHECKING:
    from tensoryard.store.blob_account import BlobAccount


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
