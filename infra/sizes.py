"""
The virtual machine sizes that the workspace knows: GPU sizes for the nodes, small ones for the head.

One catalogue for the checks, Slurm's node lines, the cost and the errors. Figures are those of Microsoft's pages
named in `source`, under https://github.com/MicrosoftDocs/azure-compute-docs/blob/main/articles/virtual-machines/.
"""

from __future__ import annotations

from datetime import date
from typing import Any

import msgspec

SIZES_READ_ON = date(2026, 11, 23)
"""The day on which the pages in `source` were last read."""


class Size(msgspec.Struct, frozen=True, kw_only=True):
    """
    One size of virtual machine.

    name: Azure's, such as "Standard_NC4as_T4_v3"; vcpu: count; memory_gib, gpu_memory_gib (of one GPU), temp_disk_gib
    (0 = none): GiB; gpu_count: whole GPUs, 0 for a head size; generations: of the hypervisor, (1,), (2,) or (1, 2);
    spot: may be had at Spot price; quota_family: the family whose vCPUs Azure's quota counts, as the portal names it;
    retired_on: the latest day that Microsoft names as its last; retired_story: what its pages say of that;
    successors: what they name instead, first the nearest; closed_to_new: the month from which subscriptions that are
    new cannot deploy it; remark: worth knowing, no obstacle; source: the page.
    """

    name: str
    vcpu: int
    memory_gib: int
    gpu_count: int = 0
    gpu_model: str = ""
    gpu_memory_gib: int = 0
    temp_disk_gib: int = 0
    generations: tuple[int, ...] = (1, 2)
    ephemeral_os: bool = True
    premium_storage: bool = True
    accelerated_network: bool = True
    trusted_launch: bool = True
    spot: bool = True
    quota_family: str
    retired_on: date | None = None
    retired_story: str = ""
    successors: tuple[str, ...] = ()
    closed_to_new: date | None = None
    remark: str = ""
    source: str

    @property
    def successor(self) -> str | None:
        """The first size that Microsoft names as the replacement, or None."""
        return self.successors[0] if self.successors else None

    @property
    def summary(self) -> str:
        """What the size is, in a few words: "1 NVIDIA T4 of 16 GiB, 4 vCPUs, 28 GiB"."""
        gpus = f"{self.gpu_count} {self.gpu_model} of {self.gpu_memory_gib} GiB, " if self.gpu_count else ""
        return f"{gpus}{self.vcpu} vCPUs, {self.memory_gib} GiB"


def _sizes(common: dict[str, Any], *rows: dict[str, Any]) -> dict[str, Size]:
    """Sizes of one series: what they share, and what each has of its own."""
    return {row["name"]: Size(**{**common, **row}) for row in rows}


def _row(name: str, vcpu: int, memory_gib: int, gpus: int = 0, temp_gib: int = 0, **more: Any) -> dict[str, Any]:
    """One line of a series' table."""
    fixed = {"name": name, "vcpu": vcpu, "memory_gib": memory_gib, "gpu_count": gpus, "temp_disk_gib": temp_gib}
    return {**fixed, **more}


_T4 = {
    "gpu_model": "NVIDIA T4",
    "gpu_memory_gib": 16,
    "quota_family": "Standard NCASv3_T4 Family vCPUs",
    "source": "sizes/gpu-accelerated/ncast4v3-series.md",
}
_A100 = {
    "gpu_model": "NVIDIA A100",
    "gpu_memory_gib": 80,
    "generations": (2,),
    "quota_family": "Standard NCADS_A100_v4 Family vCPUs",
    "remark": "Azure adds no more capacity for the NC A100 v4 series, only for NCads H100 v5.",
    "source": "sizes/gpu-accelerated/nca100v4-series.md",
}
_H100 = {
    "gpu_model": "NVIDIA H100 NVL",
    "gpu_memory_gib": 94,
    "generations": (2,),
    "quota_family": "Standard NCadsH100v5 Family vCPUs",
    "source": "sizes/gpu-accelerated/ncadsh100v5-series.md",
}
# Two of Microsoft's pages give two last days: the migration guide the first, the NC retirement page (which moved the
# day by a year, from 31 August 2022) the second. Both are told, and the later one is the date.
_TWO_DATES = (
    "Microsoft's pages name 31 August 2023 and 6 September 2023 as the last day of the NC series (NVIDIA K80): "
    "machines left then were deallocated, and Azure makes no new ones."
)
_K80 = {
    "gpu_model": "NVIDIA K80",
    "gpu_memory_gib": 12,
    "generations": (1,),
    "ephemeral_os": False,
    "premium_storage": False,
    "accelerated_network": False,
    "trusted_launch": False,
    "quota_family": "Standard NC Family vCPUs",
    "retired_on": date(2023, 9, 6),
    "retired_story": _TWO_DATES,
    "remark": "NVIDIA's drivers after 470.82.01 no longer support the K80.",
    "source": "migration/sizes/n-series-migration.md",
}
_PROMO = {**_K80, "spot": False, "quota_family": "Standard NC Promo Family vCPUs"}
_P100 = {
    "gpu_model": "NVIDIA P100",
    "gpu_memory_gib": 16,
    "quota_family": "Standard NCSv2 Family vCPUs",
    "accelerated_network": False,
    "retired_on": date(2023, 8, 31),
    "retired_story": "Microsoft's migration guide names 31 August 2023 as the last day of the NCv2 series (NVIDIA "
    "P100); Azure makes no new machines of it.",
    "source": "migration/sizes/n-series-migration.md",
}
_V100 = {
    "gpu_model": "NVIDIA V100",
    "gpu_memory_gib": 16,
    "quota_family": "Standard NCSv3 Family vCPUs",
    "accelerated_network": False,
    "retired_on": date(2025, 9, 30),
    "retired_story": "Microsoft names 30 September 2025 as the last day of the NCv3 series (NVIDIA V100) in every "
    "region of this program's list.",
    "source": "sizes/lifecycle/retirement/ncv3-retirement.md",
}
_FOR_NC6 = ("Standard_NC4as_T4_v3", "Standard_NC8as_T4_v3")
_FOR_NC12 = ("Standard_NC16as_T4_v3",)
_FOR_NC24 = ("Standard_NC64as_T4_v3",)
_FOR_V100 = ("Standard_NC40ads_H100_v5", "Standard_NC4as_T4_v3")
_FOR_V100S = ("Standard_NC80adis_H100_v5", "Standard_NC64as_T4_v3")

GPU_SIZES: dict[str, Size] = {
    **_sizes(
        _T4,
        _row("Standard_NC4as_T4_v3", 4, 28, 1, 176),
        _row("Standard_NC8as_T4_v3", 8, 56, 1, 352),
        _row("Standard_NC16as_T4_v3", 16, 110, 1, 352),
        _row("Standard_NC64as_T4_v3", 64, 440, 4, 2816),
    ),
    **_sizes(
        _A100,
        _row("Standard_NC24ads_A100_v4", 24, 220, 1, 64),
        _row("Standard_NC48ads_A100_v4", 48, 440, 2, 128),
        _row("Standard_NC96ads_A100_v4", 96, 880, 4, 256),
    ),
    **_sizes(
        _H100,
        _row("Standard_NC40ads_H100_v5", 40, 320, 1, 3576),
        _row("Standard_NC80adis_H100_v5", 80, 640, 2, 7152),
    ),
    **_sizes(
        _K80,
        _row("Standard_NC6", 6, 56, 1, 340, successors=_FOR_NC6),
        _row("Standard_NC12", 12, 112, 2, 680, successors=_FOR_NC12),
        _row("Standard_NC24", 24, 224, 4, 1440, successors=_FOR_NC24),
        _row("Standard_NC24r", 24, 224, 4, 1440, successors=_FOR_NC24),
    ),
    **_sizes(
        _PROMO,
        _row("Standard_NC6_Promo", 6, 56, 1, 340, successors=_FOR_NC6),
        _row("Standard_NC12_Promo", 12, 112, 2, 680, successors=_FOR_NC12),
        _row("Standard_NC24_Promo", 24, 224, 4, 1440, successors=_FOR_NC24),
        _row("Standard_NC24r_Promo", 24, 224, 4, 1440, successors=_FOR_NC24),
    ),
    **_sizes(
        _P100,
        _row("Standard_NC6s_v2", 6, 112, 1, 736, successors=("Standard_NC24ads_A100_v4",)),
        _row("Standard_NC12s_v2", 12, 224, 2, 1474, successors=("Standard_NC48ads_A100_v4",)),
        _row("Standard_NC24s_v2", 24, 448, 4, 2948, successors=("Standard_NC96ads_A100_v4",)),
        _row("Standard_NC24rs_v2", 24, 448, 4, 2948, successors=("Standard_NC96ads_A100_v4",)),
    ),
    **_sizes(
        _V100,
        _row("Standard_NC6s_v3", 6, 112, 1, 736, successors=_FOR_V100),
        _row("Standard_NC12s_v3", 12, 224, 2, 1474, successors=_FOR_V100S),
        _row("Standard_NC24s_v3", 24, 448, 4, 2948, successors=_FOR_V100S),
        _row("Standard_NC24rs_v3", 24, 448, 4, 2948, successors=_FOR_V100S),
    ),
}
"""Every GPU size of Azure's NC family, by name: those to be had first, then the retired ones, to name their heirs."""

_CLOSED = {
    "closed_to_new": date(2026, 7, 1),
    "ephemeral_os": True,
    "source": "sizes/lifecycle/retirements-and-capacity-restrictions.md",
}


def _head(family: str, page: str, **more: Any) -> dict[str, Any]:
    """What the sizes of one head series share: no GPU, no temp disk."""
    source = f"sizes/general-purpose/{page}"
    return {"ephemeral_os": False, "quota_family": f"Standard {family} Family vCPUs", "source": source, **more}


HEAD_SIZES: dict[str, Size] = {
    **_sizes(
        _head("Bsv2", "bsv2-series.md", spot=False),
        _row("Standard_B2s_v2", 2, 8),
        _row("Standard_B4s_v2", 4, 16),
        _row("Standard_B8s_v2", 8, 32),
    ),
    **_sizes(
        _head("Basv2", "basv2-series.md", spot=False),
        _row("Standard_B2as_v2", 2, 8),
        _row("Standard_B4as_v2", 4, 16),
        _row("Standard_B8as_v2", 8, 32),
    ),
    **_sizes(
        _head("DASv5", "dasv5-series.md"),
        _row("Standard_D2as_v5", 2, 8),
        _row("Standard_D4as_v5", 4, 16),
        _row("Standard_D8as_v5", 8, 32),
    ),
    **_sizes(
        _head("DSv5", "dsv5-series.md"),
        _row("Standard_D2s_v5", 2, 8),
        _row("Standard_D4s_v5", 4, 16),
        _row("Standard_D8s_v5", 8, 32),
    ),
    **_sizes(
        {**_CLOSED, "quota_family": "Standard BS Family vCPUs", "spot": False},
        _row("Standard_B2s", 2, 4, 0, 8, successors=("Standard_B2s_v2",)),
        _row("Standard_B2ms", 2, 8, 0, 16, successors=("Standard_B2s_v2",)),
        _row("Standard_B4ms", 4, 16, 0, 32, successors=("Standard_B4s_v2",)),
    ),
    **_sizes(
        {**_CLOSED, "quota_family": "Standard DSv3 Family vCPUs"},
        _row("Standard_D2s_v3", 2, 8, 0, 16, successors=("Standard_D2s_v5",)),
        _row("Standard_D4s_v3", 4, 16, 0, 32, successors=("Standard_D4s_v5",)),
        _row("Standard_D8s_v3", 8, 32, 0, 64, successors=("Standard_D8s_v5",)),
    ),
}
"""Sizes for the head node, by name: those that a new subscription can have first."""


def find(name: str) -> Size | None:
    """The size of that name, letters' case and a missing "Standard_" aside, or None when the catalogue lacks it."""
    lower = name.strip().lower()
    return _BY_LOWER_NAME.get(lower) or _BY_LOWER_NAME.get(f"standard_{lower}")


_BY_LOWER_NAME = {name.lower(): size for name, size in (GPU_SIZES | HEAD_SIZES).items()}
