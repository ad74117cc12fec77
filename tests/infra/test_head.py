"""The head node as it is declared."""

import base64
import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from infra.no_login_key import no_login_key
from infra.review.declare import Declared

Declare = Callable[[str | Mapping[str, Any]], list[Declared]]
SSH_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIF2VFpxHJEmaHMHWiaGXh4LkpJgkRXUEjdYQKZPxEiUZ someone@example.org"


def machine(resources: list[Declared]) -> Declared:
    (found,) = (each for each in resources if each.type == "azure-native:compute:VirtualMachine")
    return found


def keys(resources: list[Declared]) -> list[str]:
    ssh = machine(resources).inputs["osProfile"]["linuxConfiguration"]["ssh"]
    return [key["keyData"] for key in ssh["publicKeys"]]


def test_nodes_find_it_at_the_same_address_whatever_machine_it_is(declared: Declare) -> None:
    found = declared({"addressSpace": "10.9.0.0/20"})
    (interface,) = (each for each in found if each.type == "azure-native:network:NetworkInterface")
    (address,) = interface.inputs["ipConfigurations"]

    assert (address["privateIPAllocationMethod"], address["privateIPAddress"]) == ("Static", "10.9.0.4")
    assert found[-1].outputs["workspace"]["head"]["privateAddress"] == "10.9.0.4"
    assert [{"id": interface.id, "primary": True, "deleteOption": "Detach"}] == machine(found).inputs[
        "networkProfile"
    ]["networkInterfaces"]


def test_new_boot_data_means_a_new_machine_after_the_old_one(declared: Declare) -> None:
    """Azure refuses new custom data on a machine that exists, and one interface cannot serve two machines."""
    head = machine(declared({}))

    assert "osProfile.customData" in head.replace_on_changes
    assert head.delete_before_replace


def test_what_a_stack_sets_is_not_in_the_boot_data(declared: Declare) -> None:
    """Else a cluster more would be a new head; it comes as user data, which Azure lets be changed in place."""
    one = machine(declared({}))
    two = machine(declared({"clusters": [{"name": "one"}, {"name": "two", "maxNodes": 7}]}))

    assert one.inputs["osProfile"]["customData"] == two.inputs["osProfile"]["customData"]
    told = json.loads(base64.b64decode(two.inputs["userData"]))
    assert {name: facts["maxNodes"] for name, facts in told["clusters"].items()} == {"one": 4, "two": 7}
    assert told["clusters"]["two"]["scaleSet"].startswith("two")


def test_its_disk_outlives_a_stop_and_it_boots_signed_code_only(declared: Declare) -> None:
    inputs = machine(declared({})).inputs

    assert "diffDiskSettings" not in inputs["storageProfile"]["osDisk"]
    assert inputs["securityProfile"]["uefiSettings"] == {"secureBootEnabled": True, "vTpmEnabled": True}
    assert inputs["diagnosticsProfile"] == {"bootDiagnostics": {"enabled": True}}


@pytest.mark.parametrize(
    ("settings", "key"),
    [({}, no_login_key()), ({"sshPublicKey": SSH_KEY, "sshSources": ["203.0.113.7/32"]}, SSH_KEY)],
    ids=["nobody", "someone"],
)
def test_the_key_that_opens_it_is_the_one_given_or_nobodys(
    declared: Declare, settings: dict[str, Any], key: str
) -> None:
    assert [key] == keys(declared(settings))


def test_it_stands_in_the_first_of_the_zones(declared: Declare) -> None:
    assert machine(declared({"zones": ["1", "3"]})).inputs["zones"] == ["1"]
    assert "zones" not in machine(declared({})).inputs


@pytest.mark.parametrize("image", [None, "ubuntu-2404-gen1"])
def test_head_and_nodes_are_of_one_release(declared: Declare, image: str | None) -> None:
    """Slurm comes from the release, and the head compiles for nodes."""
    found = declared({"clusters": [{"name": "gpu", "osImage": image, "trustedLaunch": image is None}]})
    (nodes,) = (each for each in found if each.type == "azure-native:compute:VirtualMachineScaleSet")
    of_nodes = nodes.inputs["virtualMachineProfile"]["storageProfile"]["imageReference"]
    of_head = machine(found).inputs["storageProfile"]["imageReference"]

    assert ["24_04" in of_head["offer"], "24_04" in of_nodes["offer"] or of_nodes["sku"] == "2404"] == [True, True]
