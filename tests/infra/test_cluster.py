"""The GPU scale set as it is declared: what Azure refuses, what it would do by itself, and what a node is told."""

import base64
import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from infra.review.declare import Declared

Declare = Callable[[str | Mapping[str, Any]], list[Declared]]


def scale_set(resources: list[Declared], name: str = "gpucluster") -> Declared:
    type_ = "azure-native:compute:VirtualMachineScaleSet"
    (found,) = (each for each in resources if each.type == type_ and each.name == name)
    return found


def cluster(**settings: Any) -> dict[str, Any]:
    return {"clusters": [{"name": "gpucluster", **settings}]}


def profile(resources: list[Declared]) -> dict[str, Any]:
    found: dict[str, Any] = scale_set(resources).inputs["virtualMachineProfile"]
    return found


def test_it_is_a_flexible_set_that_starts_empty_and_that_pulumi_leaves_its_size(declared: Declare) -> None:
    found = scale_set(declared({}))

    assert tuple(
        found.inputs[key] for key in ("orchestrationMode", "platformFaultDomainCount", "singlePlacementGroup")
    ) == ("Flexible", 1, False)
    assert found.inputs["sku"] == {"name": "Standard_NC4as_T4_v3", "tier": "Standard", "capacity": 0}
    assert found.ignore_changes == ("sku.capacity",)


def test_nodes_have_the_identity_that_is_theirs(declared: Declare) -> None:
    found = declared({"clusters": [{"name": "one"}, {"name": "two"}]})
    identities = {each.name: each.id for each in found if each.type.endswith(":UserAssignedIdentity")}

    for name in ("one", "two"):
        assert {"type": "UserAssigned", "userAssignedIdentities": [identities[f"{name}-nodes"]]} == scale_set(
            found, name
        ).inputs["identity"]


def test_what_belongs_to_a_node_goes_with_it(declared: Declare) -> None:
    found = profile(declared({}))
    (interface,) = found["networkProfile"]["networkInterfaceConfigurations"]

    assert "Delete" == interface["deleteOption"] == found["storageProfile"]["osDisk"]["deleteOption"]
    assert "publicIPAddressConfiguration" not in interface["ipConfigurations"][0]
    assert found["networkProfile"]["networkApiVersion"] == "2020-11-01"
    assert "extensionProfile" not in found


@pytest.mark.parametrize("policy", ["Delete", "Deallocate"])
def test_spot_nodes_are_evicted_for_room_and_not_brought_back_by_azure(declared: Declare, policy: str) -> None:
    found = declared(cluster(spot=True, evictionPolicy=policy))

    assert ("Spot", policy, {"maxPrice": -1}) == tuple(
        profile(found)[key] for key in ("priority", "evictionPolicy", "billingProfile")
    )
    assert scale_set(found).inputs["spotRestorePolicy"] == {"enabled": False}


def test_regular_nodes_carry_nothing_of_spot(declared: Declare) -> None:
    found = declared(cluster(spot=False))

    assert profile(found)["priority"] == "Regular"
    assert not {"evictionPolicy", "billingProfile"} & set(profile(found))
    assert "spotRestorePolicy" not in scale_set(found).inputs


def test_a_node_hears_of_its_end(declared: Declare) -> None:
    notice = profile(declared({}))["scheduledEventsProfile"]["terminateNotificationProfile"]

    assert notice == {"enable": True, "notBeforeTimeout": "PT5M"}


def test_secure_boot_would_keep_the_gpu_driver_out(declared: Declare) -> None:
    security = profile(declared({}))["securityProfile"]

    assert security["securityType"] == "TrustedLaunch"
    assert security["uefiSettings"] == {"secureBootEnabled": False, "vTpmEnabled": True}


def test_without_trusted_launch_and_host_encryption_there_is_no_security_profile(declared: Declare) -> None:
    assert "securityProfile" not in profile(declared(cluster(trustedLaunch=False)))


def test_encryption_at_the_host_covers_head_and_nodes(declared: Declare) -> None:
    found = declared({"encryptionAtHost": True})
    (head,) = (each for each in found if each.type == "azure-native:compute:VirtualMachine")

    assert profile(found)["securityProfile"]["encryptionAtHost"] is True
    assert head.inputs["securityProfile"]["encryptionAtHost"] is True


def test_an_ephemeral_disk_is_on_the_nodes_own(declared: Declare) -> None:
    disk = profile(declared(cluster(ephemeralOsDisk=True)))["storageProfile"]["osDisk"]

    assert disk["diffDiskSettings"] == {"option": "Local", "placement": "ResourceDisk"}
    assert disk["caching"] == "ReadOnly"
    assert "diskSizeGB" not in disk


def test_a_size_of_old_gets_what_it_can_start(declared: Declare) -> None:
    settings = {"allowRetiredSizes": True}
    clusters = [{"name": "k80", "vmSize": "Standard_NC6", "trustedLaunch": False}]
    found = declared({"azure-native:location": "eastus", "clusters": clusters, **settings})
    k80 = scale_set(found, "k80").inputs["virtualMachineProfile"]
    image = k80["storageProfile"]["imageReference"]

    assert (image["publisher"], image["sku"]) == ("Canonical", "server-gen1")
    assert "securityProfile" not in k80
    assert k80["storageProfile"]["osDisk"]["managedDisk"]["storageAccountType"] == "Standard_LRS"
    assert k80["networkProfile"]["networkInterfaceConfigurations"][0]["enableAcceleratedNetworking"] is False
    reasons = [each.inputs["because"] for each in found if each.name == "k80.size-retired"]
    assert "successor: Standard_NC4as_T4_v3" in reasons[0]


def test_a_node_is_told_where_to_go_and_no_secret(declared: Declare) -> None:
    found = declared({})
    told = json.loads(base64.b64decode(profile(found)["userData"]))
    outputs = found[-1].outputs["workspace"]
    (identity,) = (each for each in found if each.name == "gpucluster-nodes")

    assert {
        "workspace": "tensoryard",
        "cluster": "gpucluster",
        "clientId": identity.outputs["clientId"],
        "headAddress": "10.40.0.4",
        "share": None,
        "blobEndpoint": outputs["blobEndpoint"],
        "registry": outputs["registry"]["loginServer"],
        "vaultUri": outputs["vault"]["uri"],
        "mungeSecret": "munge-key",
    } == told


def test_nobody_can_log_in_with_a_password(declared: Declare) -> None:
    system = profile(declared({}))["osProfile"]

    assert system["linuxConfiguration"]["disablePasswordAuthentication"] is True
    assert "adminPassword" not in system
