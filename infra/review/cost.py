"""What the declared resources cost at rest, what an hour of a node costs, and what grows with use."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from infra.review import prices
from infra.review.create_only import short_type
from infra.review.declare import STACK_TYPE, Declared
from infra.review.prices import HOURS_A_MONTH, Price
from infra.review.reach import Index, dig
from infra.sizes import find


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is paid for by the month, used or not. monthly: USD; arithmetic: how it came out."""

    name: str
    what: str
    arithmetic: str
    monthly: float
    source: str


class NodeHour(msgspec.Struct, frozen=True, kw_only=True):
    """
    One hour of one node of a cluster. hourly: USD, lowest and highest (they differ for Spot); all_nodes: the same for
    max_nodes nodes, which None leaves out; arithmetic: how it came out; quota: what all nodes at once need of it.
    """

    cluster: str
    size: str
    spot: bool
    hourly: tuple[float, float] | None
    max_nodes: int | None
    all_nodes: tuple[float, float] | None
    quota: str
    arithmetic: str
    source: str


class Rate(msgspec.Struct, frozen=True, kw_only=True):
    """Something that is paid for by use."""

    name: str
    what: str
    amount: float
    per: str
    source: str


class Cost(msgspec.Struct, frozen=True, kw_only=True):
    """The estimate. monthly: USD at rest, no node running; unpriced: resources for which no price is known."""

    monthly: float
    lines: tuple[Line, ...]
    nodes: tuple[NodeHour, ...]
    rates: tuple[Rate, ...]
    unpriced: tuple[str, ...]
    currency: str = prices.CURRENCY
    region: str = prices.REGION
    stack_region: str = ""
    read_on: str = prices.READ_ON.isoformat()


def estimate(resources: Sequence[Declared]) -> Cost:
    """The cost of what one program declares."""
    index = Index(resources)
    lines = sorted(_lines(index), key=lambda line: (-line.monthly, line.name))
    group = next(iter(index.of("resources:ResourceGroup")), None)
    return Cost(
        monthly=round(sum(line.monthly for line in lines), 2),
        lines=tuple(lines),
        nodes=tuple(_nodes(index)),
        rates=tuple(_rates(index)),
        unpriced=tuple(
            f"{resource.name} ({short_type(resource.type)})"
            for resource in resources
            if resource.custom and short_type(resource.type) not in _PRICED and not _free(resource)
        ),
        stack_region=str(group.outputs.get("location") or "") if group else "",
    )


_PRICED = {
    "compute:VirtualMachine",
    "compute:VirtualMachineScaleSet",
    "compute:Disk",
    "network:PublicIPAddress",
    "network:NatGateway",
    "network:PrivateEndpoint",
    "privatedns:PrivateZone",
    "containerregistry:Registry",
    "storage:StorageAccount",
    "operationalinsights:Workspace",
    "keyvault:Vault",
}


def _free(resource: Declared) -> bool:
    return short_type(resource.type) in prices.FREE or not resource.type.startswith("azure-native:")


def _by_hour(name: str, what: str, price: Price) -> Line:
    monthly = price.amount * HOURS_A_MONTH
    arithmetic = f"{price.amount:g} an hour x {HOURS_A_MONTH} hours"
    return Line(name=name, what=what, arithmetic=arithmetic, monthly=round(monthly, 2), source=price.source)


def _by_month(name: str, what: str, price: Price) -> Line:
    arithmetic = f"{price.amount:g} a month"
    return Line(name=name, what=what, arithmetic=arithmetic, monthly=price.amount, source=price.source)


def _lines(index: Index) -> Iterator[Line]:
    for machine in index.of("compute:VirtualMachine"):
        size = str(dig(machine.inputs, "hardwareProfile", "vmSize"))
        price = prices.MACHINES.get(size)
        if price:
            yield _by_hour(machine.name, size, price)
        else:
            yield Line(name=machine.name, what=size, arithmetic="no price is known", monthly=0, source="")
        disk = _os_disk(dig(machine.inputs, "storageProfile", "osDisk"))
        if disk:
            yield _by_month(machine.name, disk[0], disk[1])
    for disk_resource in index.of("compute:Disk"):
        kind = str(dig(disk_resource.inputs, "sku", "name") or "Standard_LRS")
        found = prices.disk_step(kind, int(disk_resource.inputs.get("diskSizeGB") or 0))
        if found:
            yield _by_month(disk_resource.name, found[0], found[1])
    for address in index.of("network:PublicIPAddress"):
        yield _by_hour(address.name, "public address", prices.PUBLIC_ADDRESS)
    for gateway in index.of("network:NatGateway"):
        yield _by_hour(gateway.name, "NAT gateway", prices.NAT_GATEWAY)
    for endpoint in index.of("network:PrivateEndpoint"):
        yield _by_hour(endpoint.name, "private endpoint", prices.PRIVATE_ENDPOINT)
    for zone in index.of("privatedns:PrivateZone"):
        yield _by_month(zone.name, "private DNS zone", prices.PRIVATE_ZONE)
    for registry in index.of("containerregistry:Registry"):
        sku = str(dig(registry.inputs, "sku", "name"))
        if sku in prices.REGISTRIES:
            price = prices.REGISTRIES[sku]
            days = HOURS_A_MONTH / 24
            yield Line(
                name=registry.name,
                what=f"registry, {sku}",
                arithmetic=f"{price.amount:g} a day x {days:.4g} days",
                monthly=round(price.amount * days, 2),
                source=price.source,
            )


def _os_disk(disk: Any) -> tuple[str, Price] | None:
    """The step that an OS disk is billed as; None for one on the host, which costs nothing."""
    if dig(disk, "diffDiskSettings", "option") == "Local":
        return None
    kind = str(dig(disk, "managedDisk", "storageAccountType") or "Standard_LRS")
    return prices.disk_step(kind, dig(disk, "diskSizeGB") or 64)


def _nodes(index: Index) -> Iterator[NodeHour]:
    outputs = next((stack.outputs for stack in index.all if stack.type == STACK_TYPE), {})
    facts = dig(outputs, "workspace", "clusters") or {}
    for scale_set in index.of("compute:VirtualMachineScaleSet"):
        size = str(dig(scale_set.inputs, "sku", "name"))
        profile = dig(scale_set.inputs, "virtualMachineProfile") or {}
        spot = profile.get("priority") == "Spot"
        most = dig(facts, scale_set.name, "maxNodes")
        price = prices.MACHINES.get(size)
        disk = _os_disk(dig(profile, "storageProfile", "osDisk"))
        hourly = prices.node_hour(size, spot=spot, disk=disk)
        if price is None or hourly is None:
            yield NodeHour(
                cluster=scale_set.name,
                size=size,
                spot=spot,
                hourly=None,
                max_nodes=most,
                all_nodes=None,
                quota=_quota(size, spot, most),
                arithmetic="no price is known",
                source="",
            )
            continue
        share = f" x {prices.SPOT_PERCENT[0]}-{prices.SPOT_PERCENT[1]} % (Spot)" if spot else ""
        disk_text = f" + {disk[0]} {disk[1].amount:g} / {HOURS_A_MONTH} h" if disk else ", disk on the host"
        yield NodeHour(
            cluster=scale_set.name,
            size=size,
            spot=spot,
            hourly=(round(hourly[0], 3), round(hourly[1], 3)),
            max_nodes=most,
            all_nodes=(round(hourly[0] * most, 2), round(hourly[1] * most, 2)) if isinstance(most, int) else None,
            quota=_quota(size, spot, most),
            arithmetic=f"{price.amount:g}{share}{disk_text}",
            source=price.source + (f"; Spot: {prices.SPOT_SOURCE}" if spot else ""),
        )


def _quota(size: str, spot: bool, most: int | None) -> str:
    """
    The vCPUs that Azure must grant before all nodes can run, and under which name its Quotas page lists them.

    Source: https://learn.microsoft.com/azure/quotas/spot-quota: Spot machines share one quota, whatever their size.
    """
    known = find(size)
    if known is None or most is None:
        return "unknown"
    return f"{most * known.vcpu} of {'Total Regional Spot vCPUs' if spot else known.quota_family}"


def _rates(index: Index) -> Iterator[Rate]:
    def rate(name: str, what: str, price: Price) -> Rate:
        return Rate(name=name, what=what, amount=price.amount, per=price.per, source=price.source)

    for account in index.of("storage:StorageAccount"):
        redundancy = str(dig(account.inputs, "sku", "name")).removeprefix("Standard_").removeprefix("RA")
        if redundancy in prices.BLOBS:
            yield rate(account.name, f"files kept, hot, {redundancy}", prices.BLOBS[redundancy])
    for gateway in index.of("network:NatGateway"):
        yield rate(gateway.name, "what nodes send and fetch through it", prices.NAT_DATA)
    if index.of("network:NatGateway", "network:PublicIPAddress"):
        yield rate("internet", "what leaves Azure, after the first 100 GB a month", prices.EGRESS)
    for logs in index.of("operationalinsights:Workspace"):
        yield rate(logs.name, "logs taken in", prices.LOGS)
        if (logs.inputs.get("retentionInDays") or 0) > prices.LOGS_KEPT_FREE_DAYS:
            days = logs.inputs["retentionInDays"]
            yield rate(logs.name, f"logs kept from day {prices.LOGS_KEPT_FREE_DAYS + 1} to {days}", prices.LOGS_KEPT)
    for vault in index.of("keyvault:Vault"):
        yield rate(vault.name, "reading secrets", prices.VAULT_CALLS)
