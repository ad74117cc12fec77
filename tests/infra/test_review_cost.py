"""The estimate: every line's arithmetic is its sum, and every size of the catalogue has a price with its source."""

from collections.abc import Callable
from typing import Any

import pytest

from infra import sizes
from infra.review import prices
from infra.review.cost import estimate
from infra.review.declare import Declared


@pytest.mark.parametrize("size", sorted(sizes.GPU_SIZES | sizes.HEAD_SIZES))
def test_every_size_of_the_catalogue_has_a_price(size: str) -> None:
    assert prices.MACHINES[size].amount > 0
    assert prices.MACHINES[size].source


def test_the_sum_is_that_of_its_lines(declared: Callable[[Any], list[Declared]]) -> None:
    for stack in ("dev", "prod"):
        cost = estimate(declared(stack))

        assert cost.monthly == round(sum(line.monthly for line in cost.lines), 2)
        assert cost.unpriced == ()
        assert all(line.source for line in (*cost.lines, *cost.rates, *cost.nodes))


def test_hours_are_counted_as_azures_calculator_does(sketch: Any) -> None:
    made = sketch()
    made.add("network:NatGateway", "nat")

    (line,) = estimate(made.resources).lines

    assert line.arithmetic == "0.045 an hour x 730 hours"
    assert line.monthly == 32.85


def _set(spot: bool, local: bool = False) -> dict[str, Any]:
    disk = {"diffDiskSettings": {"option": "Local"}} if local else {}
    return {
        "sku": {"name": "Standard_NC4as_T4_v3", "capacity": 0},
        "virtualMachineProfile": {
            "priority": "Spot" if spot else "Regular",
            "storageProfile": {
                "osDisk": {**disk, "diskSizeGB": 128, "managedDisk": {"storageAccountType": "Premium_LRS"}}
            },
        },
    }


def test_a_cluster_costs_nothing_at_rest_and_its_nodes_by_the_hour(sketch: Any) -> None:
    made = sketch()
    made.add("compute:VirtualMachineScaleSet", "gpu", _set(spot=False))

    cost = estimate(made.resources)

    assert cost.monthly == 0
    assert cost.nodes[0].hourly == (0.553, 0.553)
    assert cost.nodes[0].arithmetic == "0.526 + disk Premium_LRS, 128 GiB 19.71 / 730 h"


def test_spot_is_a_range(sketch: Any) -> None:
    made = sketch()
    made.add("compute:VirtualMachineScaleSet", "gpu", _set(spot=True, local=True))

    node = estimate(made.resources).nodes[0]

    assert node.hourly == (0.053, 0.21)
    assert "10-40 % (Spot), disk on the host" in node.arithmetic


def test_all_nodes_are_as_many_as_the_stack_allows(declared: Callable[[Any], list[Declared]]) -> None:
    node = estimate(declared({"clusters": [{"name": "gpu", "maxNodes": 7}]})).nodes[0]

    assert node.max_nodes == 7
    assert node.hourly is not None
    assert node.all_nodes is not None
    assert node.all_nodes[0] == pytest.approx(7 * node.hourly[0], abs=0.01)


@pytest.mark.parametrize(
    ("spot", "quota"), [(False, "28 of Standard NCASv3_T4 Family vCPUs"), (True, "28 of Total Regional Spot vCPUs")]
)
def test_the_quota_to_ask_for_is_that_of_all_nodes(
    declared: Callable[[Any], list[Declared]], spot: bool, quota: str
) -> None:
    stack = declared({"clusters": [{"name": "gpu", "maxNodes": 7, "spot": spot}]})

    assert estimate(stack).nodes[0].quota == quota


def test_a_size_without_a_price_is_named_and_not_guessed(sketch: Any) -> None:
    made = sketch()
    made.add("compute:VirtualMachine", "head", {"hardwareProfile": {"vmSize": "Standard_Q1"}})
    made.add("compute:VirtualMachineScaleSet", "gpu", {"sku": {"name": "Standard_Q9"}})
    made.add("network:Bastion", "door")

    cost = estimate(made.resources)

    assert "no price is known" in [line.arithmetic for line in cost.lines]
    assert cost.nodes[0].hourly is None
    assert cost.unpriced == ("door (network:Bastion)",)
