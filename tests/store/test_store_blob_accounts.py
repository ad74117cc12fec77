"""Kinds of storage accounts, and what they refuse: what works goes on, the rest is said in words."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import unquote

import pytest

from blob_operations import BIG, OPERATIONS, QUICK
from services.faulty import Adding, Asked, Faulty, Said
from tensoryard.errors import NotFoundError, StoreError
from tensoryard.store import Entry, blob_errors, blob_list
from tensoryard.store.blob import BlobStore
from tensoryard.store.blob_account import BlobAccount


@pytest.fixture
def steady(blob_account: BlobAccount) -> BlobStore:
    """The same store by a network without faults, to look with."""
    return BlobStore(blob_account)


@pytest.fixture
def shaky(blob_account: BlobAccount, network: Faulty) -> BlobStore:
    return BlobStore(replace(blob_account, endpoint=network.endpoint), QUICK)


def _as_azure(asked: Asked) -> Said | None:
    """What Azure refuses and Azurite does not: a container's name in a search of it, and questions for the owner."""
    if "comp=blobs" in asked.path and "@container" in unquote(asked.path):
        return Said(400, "InvalidQueryParameterValue")
    if "restype=account" in asked.path:  # whatever the role: it is answered to the account's key alone
        return Said(403, "AuthorizationPermissionMismatch")
    return None


def _hierarchical(asked: Asked) -> Said | Adding | None:
    """What an account with a hierarchical namespace says, which Azurite does not play."""
    if "comp=tags" in asked.path or "comp=blobs" in asked.path:
        return Said(400, "InvalidQueryParameterValue")
    if "x-ms-tags" in asked.headers:
        return Said(409, "FeatureNotYetSupportedForHierarchicalNamespaceAccounts")
    if asked.method == "HEAD":
        return Adding({"x-ms-resource-type": "file"})
    return _as_azure(asked)


def test_a_search_is_worded_as_azure_takes_it_and_stays_in_its_container(
    steady: BlobStore, blob_account: BlobAccount, network: Faulty
) -> None:
    """Azurite takes `@container` in a search of a container, and Azure does not."""
    network.again(_as_azure)
    store = BlobStore(replace(blob_account, endpoint=network.endpoint), QUICK)
    for key in ("models/m/1", "data/m", "runs/m"):
        store.put(key, b"1", tags={"model": "m", "run": "a"})
    store.put("models/m/2", b"2", tags={"model": "m", "run": "b"})
    foreign = steady._clients.container(blob_account.containers.runs).get_blob_client("models/m/3")
    foreign.upload_blob(b"3", tags={"model": "m", "run": "a"})

    assert list(store.find_by_tags({"model": "m"}, "models/")) == ["models/m/1", "models/m/2"]
    assert list(store.find_by_tags({"model": "m", "run": "a"}, "models/")) == ["models/m/1"]
    assert list(store.find_by_tags({"model": "m"})) == ["data/m", "models/m/1", "models/m/2", "runs/m"]


def test_a_search_that_the_account_does_not_understand_is_told(blob_account: BlobAccount, network: Faulty) -> None:
    """The code is that of an account without index tags, and this one has them."""
    network.again(lambda asked: Said(400, "InvalidQueryParameterValue") if "comp=blobs" in asked.path else None)
    store = BlobStore(replace(blob_account, endpoint=network.endpoint), QUICK)
    assert list(store.find_by_tags({"a": "b"}, "models/")) == []
    store.put("models/m", b"1", tags={"a": "b"})

    with pytest.raises(StoreError, match=r"searching tags failed: .* answered 400 InvalidQueryParameterValue"):
        list(store.find_by_tags({"a": "b"}, "models/"))


def test_an_account_without_index_tags_keeps_them_beside_and_says_so_once(
    blob_account: BlobAccount, network: Faulty
) -> None:
    network.again(_hierarchical)
    said: list[str] = []
    store = BlobStore(replace(blob_account, endpoint=network.endpoint), QUICK, said.append)

    store.put("m/1", b"1", tags={"model": "digits", "run": "a b=c/日本"})
    store.put("m/2", b"2", tags={"model": "digits"})
    store.put("n/1", b"3")

    assert store.tags("m/1") == {"model": "digits", "run": "a b=c/日本"}
    assert list(store.find_by_tags({"model": "digits"})) == ["m/1", "m/2"]
    assert list(store.find_by_tags({"model": "digits", "run": "a b=c/日本"}, "m/")) == ["m/1"]
    assert [entry.key for entry in store.list("")] == ["m/1", "m/2", "n/1"]
    assert list(store.children("")) == ["m/", "n/"]
    store.set_tags("m/2", {"model": "letters"})
    assert list(store.find_by_tags({"model": "letters"}, "m/")) == ["m/2"]
    store.put("m/1", b"new", overwrite=True)
    assert store.tags("m/1") == {}
    assert list(store.find_by_tags({"model": "digits"})) == []
    store.delete("m/2")
    assert list(store.find_by_tags({"model": "letters"})) == []
    assert len(said) == 1
    assert "has no index tags" in said[0]


@pytest.mark.parametrize("first", ["tags", "set_tags", "find"])
def test_an_account_without_index_tags_is_noticed_by_whatever_comes_first(
    first: str, blob_account: BlobAccount, network: Faulty
) -> None:
    network.again(_hierarchical)
    account = replace(blob_account, endpoint=network.endpoint)
    BlobStore(account, QUICK, lambda message: None).put("m/1", b"1", tags={"a": "b"})
    said: list[str] = []
    store = BlobStore(account, QUICK, said.append)

    if first == "tags":
        assert store.tags("m/1") == {"a": "b"}
    elif first == "set_tags":
        store.set_tags("m/1", {"a": "c"})
    else:
        assert list(store.find_by_tags({"a": "b"})) == ["m/1"]

    assert len(said) == 1
    with pytest.raises(NotFoundError):
        store.tags("absent")


def test_an_etag_is_asked_for_as_http_writes_it(shaky: BlobStore, network: Faulty) -> None:
    """In quotes, without which listings give it; Azurite takes both."""
    shaky.put("runs/a", BIG)
    (entry,) = shaky.list("runs/")
    network.again(lambda asked: "answer torn" if asked.method == "GET" and asked.number == 0 else None)

    assert b"".join(shaky.stream("runs/a", 0, entry.etag)) == BIG
    shaky.copy("runs/a", "runs/b", etag=entry.etag)
    assert shaky.delete("runs/a", etag=entry.etag)
    conditions = [
        value
        for asked in network.seen
        for name, value in asked.headers.items()
        if name in ("if-match", "x-ms-source-if-match")
    ]
    assert set(conditions) == {f'"{entry.etag}"'}
    assert len(conditions) >= 4


def test_folders_of_a_hierarchical_namespace_are_no_keys(blob_account: BlobAccount, network: Faulty) -> None:
    folder = {"x-ms-meta-hdi_isfolder": "true", "Content-Range": "bytes 0-0/1"}
    network.again(lambda asked: Said(200, headers=folder) if asked.path.endswith("/m") else None)
    store = BlobStore(replace(blob_account, endpoint=network.endpoint), QUICK)

    assert store.stat("m") is None
    with pytest.raises(NotFoundError):
        store.read("m")
    network.again(lambda asked: Said(409, "DirectoryIsNotEmpty") if asked.method == "DELETE" else None)
    store.delete("m")


def test_a_listing_in_the_order_of_folders_comes_out_in_the_order_of_keys(
    blob_account: BlobAccount, network: Faulty, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An account with a hierarchical namespace lists `a/x` before `a-1`."""
    BlobStore(blob_account).put("a/x", b"")
    network.again(_hierarchical)
    keys = ["a/x", "a/y", "a-1", "b"]
    pages = [[Entry(key, 1, "e", 0.0)] for key in keys]
    monkeypatch.setattr(
        blob_list, "_pages", lambda clients, container, *rest: iter(pages if "runs" in container else [])
    )
    store = BlobStore(replace(blob_account, endpoint=network.endpoint), QUICK)

    assert [entry.key for entry in store.list("")] == sorted(keys)
    assert list(store.list_keys("")) == sorted(keys)


def test_a_listing_in_the_order_of_folders_that_breaks_off_is_whole_all_the_same(
    blob_account: BlobAccount, network: Faulty, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is asked again begins before the last key that came."""
    import obstore
    from obstore.exceptions import GenericError

    for key in ("a-1", "a/x"):
        BlobStore(blob_account).put(key, b"")
    listed = obstore.list

    def broken(*where: Any, **how: Any) -> Iterator[Any]:
        yield [one for page in listed(*where, **how) for one in page if one["path"] != "a-1"]
        raise GenericError

    monkeypatch.setattr(obstore, "list", broken)
    network.again(_hierarchical)
    store = BlobStore(replace(blob_account, endpoint=network.endpoint), QUICK)

    assert [entry.key for entry in store.list("")] == ["a-1", "a/x"]


SUBSCRIPTION = "/subscriptions/1/resourceGroups/g/providers/Microsoft.Storage/storageAccounts/acct"


@pytest.mark.parametrize(
    ("name", "role"),
    [
        ("put", "Storage Blob Data Contributor"),
        ("put file", "Storage Blob Data Contributor"),
        ("append", "Storage Blob Data Contributor"),
        ("delete", "Storage Blob Data Contributor"),
        ("read", "Storage Blob Data Reader"),
        ("read much", "Storage Blob Data Reader"),
        ("list", "Storage Blob Data Reader"),
        ("children", "Storage Blob Data Reader"),
        ("stat", "Storage Blob Data Reader"),
        ("tags", "Tensoryard blob tags"),
        ("find", "Tensoryard blob tags"),
    ],
)
def test_a_missing_role_is_named_with_the_command_that_grants_it(
    name: str, role: str, blob_account: BlobAccount, network: Faulty, tmp_path: Path
) -> None:
    """Azurite knows no roles, so this is the answer that Azure gives."""
    path = tmp_path / "file"
    path.write_bytes(b"x")
    network.again(lambda asked: Said(403, "AuthorizationPermissionMismatch"))
    store = BlobStore(replace(blob_account, endpoint=network.endpoint, resource=SUBSCRIPTION), QUICK)

    with pytest.raises(StoreError) as caught:
        OPERATIONS[name](store, path)

    assert f"the role `{role}` on the container" in caught.value.message
    assert caught.value.hint is not None
    given = f'"{role}"'
    if role == "Tensoryard blob tags":  # a role of the workspace's own, whose name goes on with that of the workspace
        group = SUBSCRIPTION.partition("/providers/")[0]
        given = f'"$(az role definition list --scope {group} --custom-role-only true ' + (
            f'--query "[?starts_with(roleName, \'{role} (\')].name" --output tsv)"'
        )
    assert f"az role assignment create --role {given} --assignee-object-id <your object id>" in caught.value.hint
    assert (
        f"--scope {SUBSCRIPTION}/blobServices/default/containers/{blob_account.containers.runs}" in caught.value.hint
    )
    assert len(network.seen) <= 3


def test_whose_role_is_missing_is_read_from_their_token(blob_account: BlobAccount) -> None:
    from azure.core.credentials import AccessToken
    from azure.core.exceptions import HttpResponseError

    from services.azure_sign_in import PRINCIPAL, token

    class Signed:
        def get_token(self, *scopes: str, **how: Any) -> AccessToken:
            return AccessToken(token("t"), 0)

    account = replace(blob_account, credential=Signed(), resource=SUBSCRIPTION)
    headers = {"x-ms-error-code": "AuthorizationPermissionMismatch"}
    response = SimpleNamespace(status_code=403, reason="Forbidden", headers=headers)
    error = HttpResponseError(response=response)
    hint = blob_errors.explained(account, "runs/a", "reading", blob_errors.READER, error).hint

    assert hint is not None
    assert f"--assignee-object-id {PRINCIPAL} --assignee-principal-type ServicePrincipal" in hint


def test_a_record_is_written_without_its_tags_when_only_they_are_forbidden(
    steady: BlobStore, blob_account: BlobAccount, network: Faulty
) -> None:
    network.again(
        lambda asked: Said(403, "AuthorizationPermissionMismatch") if "x-ms-tags" in asked.headers else None
    )
    said: list[str] = []
    store = BlobStore(replace(blob_account, endpoint=network.endpoint), QUICK, said.append)

    store.put("models/m/1", b"1", tags={"model": "m"})
    store.put("models/m/2", b"2", tags={"model": "m"})

    assert [entry.key for entry in steady.list("models/")] == ["models/m/1", "models/m/2"]
    assert len(said) == 1
    assert "not indexed" in said[0]
    assert "starts_with(roleName, 'Tensoryard blob tags (')" in said[0]


@pytest.mark.parametrize(
    ("said", "told", "hint"),
    [
        (Said(403, "AuthorizationFailure"), "does not let this machine in", "network rules"),
        (Said(403, "AuthenticationFailed"), "not signed in to Azure", "az login"),
        (Said(401, "InvalidAuthenticationInfo"), "not signed in to Azure", "az login"),
        (Said(404, "ContainerNotFound"), "has no container", "pulumi up"),
        (Said(409, "BlobArchived"), "answered 409 BlobArchived", ""),
    ],
)
def test_what_the_account_refuses_is_said_in_words(
    said: Said, told: str, hint: str, shaky: BlobStore, network: Faulty
) -> None:
    network.again(lambda asked: said)

    for use in (
        lambda: shaky.read("runs/a"),
        lambda: list(shaky.list("runs/")),
        lambda: shaky.append("runs/b", b"x"),
    ):
        with pytest.raises(StoreError, match=told) as caught:
            use()
        assert hint in (caught.value.hint or "")


def test_what_an_append_blob_cannot_do_is_said(shaky: BlobStore, network: Faulty) -> None:
    shaky.put("a", b"whole")
    with pytest.raises(StoreError, match="`a`: appending failed: it was written whole"):
        shaky.append("a", b"more")
    with pytest.raises(StoreError, match="got 104857601 bytes to append at once"):
        shaky.append("log", bytes((100 << 20) + 1))
    full = Said(409, "BlockCountExceedsLimit")
    network.again(lambda asked: full if "comp=appendblock" in asked.path else None)
    with pytest.raises(StoreError, match="50,000 times"):
        shaky.append("log", b"x")
