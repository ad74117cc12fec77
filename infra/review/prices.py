"""
List prices for the estimate, each with where it was read.

They are approximate and were never compared with a bill: pay-as-you-go list prices of one region, Linux, without
taxes, reservations or agreements. Azure publishes the current ones without a login at
https://prices.azure.com/api/retail/prices.
"""

from __future__ import annotations

from datetime import date

import msgspec

READ_ON = date(2026, 11, 23)
REGION = "eastus"
CURRENCY = "USD"
HOURS_A_MONTH = 730
"""As Azure's own calculator counts."""

SPOT_PERCENT = (10, 40)
"""What Spot usually costs in percent of the list price. It moves with demand: Azure names up to 90 % off."""

# Public copies of Azure's price list that agree with one another; Azure's own pages show prices by script only.
_TABLES = "public tables of East US list prices, 2025-2026 [document, unverified by a run]"
_PAGE = "azure.microsoft.com/pricing/details/{} as remembered [document, unverified by a run]"
_DISKS = _PAGE.format("managed-disks")
_OLD = "list price while it was sold [document, unverified by a run]"
SPOT_SOURCE = "learn.microsoft.com/azure/virtual-machines/spot-vms [document, unverified by a run]"


class Price(msgspec.Struct, frozen=True, kw_only=True):
    """One price. per: "hour", "day", "month", "GiB-month", "GB"; source: where it was read, and how sure that is."""

    amount: float
    per: str
    source: str


def _hourly(source: str, **amounts: float) -> dict[str, Price]:
    return {f"Standard_{name}": Price(amount=amount, per="hour", source=source) for name, amount in amounts.items()}


MACHINES: dict[str, Price] = {
    **_hourly(_TABLES, NC4as_T4_v3=0.526, NC8as_T4_v3=0.752, NC16as_T4_v3=1.204, NC64as_T4_v3=4.352),
    **_hourly(_TABLES, NC24ads_A100_v4=3.673, NC48ads_A100_v4=7.346, NC96ads_A100_v4=14.692),
    **_hourly(_TABLES, NC40ads_H100_v5=6.98, NC80adis_H100_v5=13.96),
    **_hourly(_OLD, NC6=0.90, NC12=1.80, NC24=3.60, NC24r=3.96),
    **_hourly(_OLD, NC6_Promo=0.396, NC12_Promo=0.792, NC24_Promo=1.584, NC24r_Promo=1.742),
    **_hourly(_OLD, NC6s_v2=2.07, NC12s_v2=4.14, NC24s_v2=8.28, NC24rs_v2=9.108),
    **_hourly(_OLD, NC6s_v3=3.06, NC12s_v3=6.12, NC24s_v3=12.24, NC24rs_v3=13.464),
    **_hourly(_TABLES, D2s_v5=0.096, D4s_v5=0.192, D8s_v5=0.384, D2as_v5=0.086, D4as_v5=0.172, D8as_v5=0.344),
    **_hourly(_PAGE.format("virtual-machines/linux"), B2s_v2=0.0832, B4s_v2=0.166, B8s_v2=0.333),
    **_hourly(_PAGE.format("virtual-machines/linux"), B2as_v2=0.0752, B4as_v2=0.150, B8as_v2=0.301),
    **_hourly(_TABLES, B2s=0.0416, B2ms=0.0832, B4ms=0.166, D2s_v3=0.096, D4s_v3=0.192, D8s_v3=0.384),
}

# By kind of disk, then the most GiB of each step: a disk is billed as the next step up.
DISKS: dict[str, dict[int, Price]] = {
    kind: {
        gib: Price(amount=amount, per="month", source=_DISKS)
        for gib, amount in zip((32, 64, 128, 256, 512, 1024), amounts, strict=True)
    }
    for kind, amounts in {
        "Premium_LRS": (5.28, 10.21, 19.71, 38.02, 73.22, 135.17),
        "StandardSSD_LRS": (2.40, 4.80, 9.60, 19.20, 38.40, 76.80),
        "Standard_LRS": (1.54, 3.01, 5.89, 11.33, 21.76, 40.96),
    }.items()
}

PUBLIC_ADDRESS = Price(amount=0.005, per="hour", source=_TABLES)
NAT_GATEWAY = Price(amount=0.045, per="hour", source=_TABLES)
NAT_DATA = Price(amount=0.045, per="GB", source=_TABLES)
PRIVATE_ENDPOINT = Price(amount=0.01, per="hour", source=_PAGE.format("private-link"))
PRIVATE_ZONE = Price(amount=0.50, per="month", source=_PAGE.format("dns"))
REGISTRIES = {
    "Basic": Price(amount=0.1667, per="day", source=_PAGE.format("container-registry")),
    "Standard": Price(amount=0.6667, per="day", source=_PAGE.format("container-registry")),
    "Premium": Price(amount=1.6667, per="day", source=_TABLES),
}
BLOBS = {
    redundancy: Price(amount=amount, per="GiB-month", source=_PAGE.format("storage/blobs"))
    for redundancy, amount in {"LRS": 0.0208, "ZRS": 0.026, "GRS": 0.0458, "GZRS": 0.0468}.items()
}
LOGS = Price(amount=2.30, per="GB", source=_PAGE.format("monitor"))
LOGS_KEPT = Price(amount=0.10, per="GiB-month", source=_PAGE.format("monitor"))
LOGS_KEPT_FREE_DAYS = 31
EGRESS = Price(amount=0.087, per="GB", source=_PAGE.format("bandwidth"))
VAULT_CALLS = Price(amount=0.03, per="10,000 calls", source=_PAGE.format("key-vault"))

# What costs nothing by itself; everything else without a price is named in the review.
FREE = frozenset(
    {
        "resources:ResourceGroup",
        "network:VirtualNetwork",
        "network:Subnet",
        "network:NetworkSecurityGroup",
        "network:SecurityRule",
        "network:NetworkInterface",
        "network:PrivateDnsZoneGroup",
        "privatedns:VirtualNetworkLink",
        "managedidentity:UserAssignedIdentity",
        "authorization:RoleAssignment",
        "authorization:RoleDefinition",
        "authorization:ManagementLockByScope",
        "authorization:ManagementLockAtResourceGroupLevel",
        "monitor:DiagnosticSetting",
        "storage:BlobServiceProperties",
        "storage:BlobContainer",
        "storage:BlobContainerImmutabilityPolicy",
        "storage:ManagementPolicy",
        "keyvault:Secret",
    }
)


def disk_step(kind: str, gib: int) -> tuple[str, Price] | None:
    """The step that a managed disk is billed as: its name and price; None where none is known."""
    for most, price in DISKS.get(kind, {}).items():
        if gib <= most:
            return f"disk {kind}, {most} GiB", price
    return None


def node_hour(size: str, *, spot: bool, disk: tuple[str, Price] | None) -> tuple[float, float] | None:
    """USD of an hour of a node with its disk, lowest and highest (they differ for Spot); None without a price."""
    price = MACHINES.get(size)
    if price is None:
        return None
    low, high = (share / 100 for share in SPOT_PERCENT) if spot else (1.0, 1.0)
    extra = disk[1].amount / HOURS_A_MONTH if disk else 0.0
    return price.amount * low + extra, price.amount * high + extra
