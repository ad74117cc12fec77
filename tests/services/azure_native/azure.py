"""Azure as a provider sees it: puts and deletes resources, one request after the other where it does so itself."""

import re
import threading
import time
from typing import Any

from . import refusals
from .answers import answer_to
from .cloud import Cloud, Record
from .compare import at

_one_at_a_time = threading.Lock()
_networks_lock = threading.Lock()
_changing_networks: set[str] = set()


def put(cloud: Cloud, token: str, id_: str, inputs: dict[str, Any]) -> Record:
    """Creates a resource, or brings an existing one to these inputs, and returns it. Raises refusals.Refused."""
    with _Network(id_), _one_at_a_time:
        before = cloud.get(id_)
        refusals.of_put(cloud, token, id_, inputs, before)
        record = {"id": id_, "type": token, "properties": answer_to(cloud, token, id_, inputs, before)}
        cloud.put(record)
    return record


def delete(cloud: Cloud, id_: str) -> None:
    """Removes a resource and what is in it; one that is gone already is fine. Raises refusals.Refused."""
    with _Network(id_), _one_at_a_time:
        record = cloud.get(id_)
        if record is None:
            return
        refusals.of_delete(cloud, record)
        for each in [record, *cloud.below(id_)]:
            if each["type"] == "azure-native:keyvault:Vault":
                cloud.remember_deleted("vaults", each["properties"]["name"], each)
        cloud.delete(id_)
        # A machine takes along what it was told to, interfaces that are resources of their own among them.
        for interface in at(record["properties"], "networkProfile.networkInterfaces") or []:
            if interface.get("deleteOption") == "Delete":
                cloud.delete(interface["id"])


class _Network:
    """Azure changes one part of a network at a time: a second request meanwhile is refused."""

    def __init__(self, id_: str) -> None:
        found = re.fullmatch(r"(.*/virtualnetworks/[^/]+)(/subnets/[^/]+)?", id_.lower())
        self._id = found.group(1) if found else ""

    def __enter__(self) -> None:
        if not self._id:
            return
        with _networks_lock:
            if self._id in _changing_networks:
                raise refusals.Refused(
                    "AnotherOperationInProgress",
                    f"Another operation on this or dependent resource is in progress: {self._id}",
                )
            _changing_networks.add(self._id)
        time.sleep(0.05)

    def __exit__(self, *_: object) -> None:
        with _networks_lock:
            _changing_networks.discard(self._id)
