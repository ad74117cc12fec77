"""What counts as created, changed, replaced and removed, and which of it loses data."""

import base64
import copy
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.review.changes import Change, compare, differences
from infra.review.create_only import effect_of
from infra.review.declare import Declared

ACCOUNT = {"accountName": "acct", "kind": "StorageV2", "sku": {"name": "Standard_LRS"}}


def altered(resources: list[Declared], name: str, **options: Any) -> list[Declared]:
    """The resources with one of them changed; `inputs` are laid over its own."""
    made = []
    for resource in resources:
        if resource.name == name:
            inputs = {**copy.deepcopy(resource.inputs), **options.get("inputs", {})}
            resource = msgspec.structs.replace(resource, **{**options, "inputs": inputs})
        made.append(resource)
    return made


def only(changes: list[Change]) -> Change:
    assert len(changes) == 1, [(change.kind, change.name) for change in changes]
    return changes[0]


def test_nothing_changes_between_equal_programs(declared: Callable[[Any], list[Declared]]) -> None:
    assert compare(declared("dev"), declared("dev")) == []


def test_without_a_base_everything_is_created(declared: Callable[[Any], list[Declared]]) -> None:
    head = declared("dev")

    changes = compare([], head)

    assert {change.kind for change in changes} == {"created"}
    assert len(changes) == sum(resource.custom for resource in head)


def test_a_property_that_can_change_does_so_in_place(sketch: Any) -> None:
    base = sketch()
    base.add("storage:StorageAccount", "storage", ACCOUNT)

    change = only(
        compare(base.resources, altered(base.resources, "storage", inputs={"sku": {"name": "Standard_ZRS"}}))
    )

    assert change.kind == "changed"
    assert [(found.path, found.before, found.after, found.effect) for found in change.properties] == [
        ("sku.name", "Standard_LRS", "Standard_ZRS", None)
    ]


@pytest.mark.parametrize("changed", [{"location": "norwayeast"}, {"accountName": "other"}, {"isHnsEnabled": True}])
def test_an_account_that_is_replaced_loses_its_data(sketch: Any, changed: dict[str, Any]) -> None:
    base = sketch()
    base.add("storage:StorageAccount", "storage", {**ACCOUNT, "location": "westeurope", "isHnsEnabled": False})

    change = only(compare(base.resources, altered(base.resources, "storage", inputs=changed)))

    assert change.kind == "replaced"
    assert change.loses_data
    assert "every file of its containers" in str(change.holds)


def test_what_stands_in_a_replaced_resource_is_replaced_too(sketch: Any) -> None:
    """The chain group, account, container; and the assignment whose scope is gone."""
    base = sketch()
    group = base.add("resources:ResourceGroup", "group", {"location": "westeurope"})
    account = base.add(
        "storage:StorageAccount",
        "storage",
        {**ACCOUNT, "resourceGroupName": "group"},
        dependencies=(group.urn,),
        property_dependencies={"resourceGroupName": (group.urn,)},
    )
    container = base.add(
        "storage:BlobContainer",
        "models",
        {"accountName": "acct", "containerName": "models"},
        dependencies=(account.urn,),
        property_dependencies={"accountName": (account.urn,)},
    )
    base.add(
        "authorization:RoleAssignment",
        "grant",
        {"scope": container.id, "principalId": "p"},
        dependencies=(container.urn,),
        property_dependencies={"scope": (container.urn,)},
    )

    changes = compare(base.resources, altered(base.resources, "group", inputs={"location": "norwayeast"}))

    assert {change.name: change.kind for change in changes} == {
        "group": "replaced",
        "storage": "replaced",
        "models": "replaced",
        "grant": "replaced",
    }
    assert [change.name for change in changes[:3]] == ["group", "models", "storage"], "data comes first"
    grant = changes[3]
    assert "`models`" in str(grant.properties[0].after)


def test_what_only_takes_a_value_from_a_replaced_resource_is_changed(sketch: Any) -> None:
    base = sketch()
    address = base.add("network:PublicIPAddress", "address", {"sku": {"name": "Basic"}})
    base.add(
        "network:NatGateway",
        "nat",
        {"publicIpAddresses": [{"id": address.id}]},
        dependencies=(address.urn,),
        property_dependencies={"publicIpAddresses": (address.urn,)},
    )

    changes = compare(base.resources, altered(base.resources, "address", inputs={"sku": {"name": "Standard"}}))

    assert [(change.name, change.kind) for change in changes] == [("address", "replaced"), ("nat", "changed")]


def test_removed_data_comes_before_everything_else(sketch: Any) -> None:
    base, head = sketch(), sketch()
    base.add("keyvault:Vault", "vault", {"properties": {}}, protect=True)
    base.add("network:NatGateway", "nat")
    head.add("compute:Disk", "disk")

    changes = compare(base.resources, head.resources)

    assert [(change.name, change.kind) for change in changes] == [
        ("vault", "removed"),
        ("nat", "removed"),
        ("disk", "created"),
    ]
    assert changes[0].loses_data
    assert changes[0].protected


def test_a_lock_counts_as_protection(sketch: Any) -> None:
    base, head = sketch(), sketch()
    account = base.add("storage:StorageAccount", "storage", ACCOUNT)
    base.add("authorization:ManagementLockByScope", "lock", {"scope": account.id, "level": "CanNotDelete"})

    changes = compare(base.resources, head.resources)

    assert {change.name: change.protected for change in changes}["storage"]


@pytest.mark.parametrize(
    ("type_", "path", "before", "after", "expected"),
    [
        ("compute:VirtualMachineScaleSet", "zones", ["1", "2"], ["1"], "refused"),
        ("compute:VirtualMachineScaleSet", "zones", ["1"], ["1", "2"], None),
        ("compute:VirtualMachineScaleSet", "virtualMachineProfile.priority", "Regular", "Spot", "refused"),
        ("compute:VirtualMachineScaleSet", "sku.name", "a", "b", None),
        ("compute:VirtualMachine", "osProfile.customData", "a", "b", "refused"),
        ("keyvault:Vault", "properties.enablePurgeProtection", None, True, None),
        ("keyvault:Vault", "properties.enablePurgeProtection", True, None, "refused"),
        ("network:Subnet", "defaultOutboundAccess", True, False, "refused"),
        ("network:VirtualNetwork", "subnets[heads].defaultOutboundAccess", True, False, "refused"),
        ("network:PrivateEndpoint", "subnet.id", "a", "b", "replaced"),
        ("authorization:RoleAssignment", "principalId", "a", "b", "replaced"),
        ("some:Unknown", "location", "a", "b", "replaced"),
        ("some:Unknown", "tags.name", "a", "b", None),
    ],
)
def test_which_changes_azure_takes(type_: str, path: str, before: Any, after: Any, expected: str | None) -> None:
    found = effect_of(f"azure-native:{type_}", path, before, after)

    assert (found[0] if found else None) == expected
    assert found is None or found[1], "each has its source"


def test_replace_on_changes_of_the_program_replaces(sketch: Any) -> None:
    base = sketch()
    machine = {"osProfile": {"customData": "YQ=="}}
    base.add("compute:VirtualMachine", "head", machine, replace_on_changes=("osProfile.customData",))

    change = only(
        compare(base.resources, altered(base.resources, "head", inputs={"osProfile": {"customData": "Yg=="}}))
    )

    assert change.kind == "replaced"
    # Runs are worked on there.
    assert "the outputs of runs that have not ended" in str(change.holds)


def test_ignored_changes_are_ignored(sketch: Any) -> None:
    base = sketch()
    base.add("compute:VirtualMachineScaleSet", "gpu", {"sku": {"capacity": 0}}, ignore_changes=("sku.capacity",))

    assert compare(base.resources, altered(base.resources, "gpu", inputs={"sku": {"capacity": 4}})) == []


def test_cloud_init_is_compared_by_line(sketch: Any) -> None:
    def encoded(text: str) -> dict[str, Any]:
        return {"osProfile": {"customData": base64.b64encode(text.encode()).decode()}}

    common = "".join(f"line {number}\n" for number in range(20))
    base = sketch()
    base.add("compute:VirtualMachine", "head", encoded(f"#cloud-config\n{common}last: old\n"))

    change = only(
        compare(
            base.resources,
            altered(base.resources, "head", inputs=encoded(f"#cloud-config\n{common}last: new\n")),
        )
    )

    found = change.properties[0]
    assert found.before == "22 lines"
    assert found.after == "22 lines (1 added, 1 removed)"
    assert [line for line in found.lines if line[0] in "+-"] == ["-last: old", "+last: new"]


def test_rules_in_a_list_are_told_apart_by_name() -> None:
    before = [{"name": "a", "port": 1}, {"name": "b", "port": 2}]
    after = [{"name": "b", "port": 3}, {"name": "a", "port": 1}]

    assert list(differences({"rules": before}, {"rules": after})) == [("rules[b].port", 2, 3)]


def test_an_aliased_resource_is_the_same_one(sketch: Any) -> None:
    """It moved into a component: its URN is new, and its made-up name stays."""
    base, head = sketch(), sketch()
    old = base.add("storage:StorageAccount", "storage", {"kind": "StorageV2"})
    base.add("storage:BlobContainer", "data", {"accountName": old.outputs["name"], "containerName": "data"})
    new = head.add("storage:StorageAccount", "store", {"kind": "StorageV2"}, aliases=(old.urn,))
    head.add("storage:BlobContainer", "data", {"accountName": new.outputs["name"], "containerName": "data"})

    assert old.outputs["name"] != new.outputs["name"]
    assert compare(base.resources, head.resources) == []


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(JSON, JSON)
def test_equal_values_differ_nowhere_and_others_somewhere(one: Any, other: Any) -> None:
    assert list(differences(one, copy.deepcopy(one))) == []
    if repr(one) != repr(other) and one != other:
        assert list(differences(one, other)) or sorted(map(str, one)) == sorted(map(str, other))
