"""
The virtual machine sizes that the workspace knows, GPU sizes for the nodes and small ones for the head.

One catalogue for the checks, Slurm's node lines, the cost and the errors. Figures are those of Microsoft's pages
named in `source`, all under https://github.com/MicrosoftDocs/azure-compute-docs/blob/main/articles/virtual-machines/.
"""

from __future__ import annotations

from datetime import date

import msgspec

SIZES_READ_ON = date(2026, 11, 23)
"""The day on which the pages in `source` were last read."""


class Size(msgspec.Struct, frozen=True, kw_only=True):
    """
    One size of virtual machine.

    name: Azure's, such as "Standard_NC4as_T4_v3"; vcpu: count; memory_gib, gpu_memory_gib (of one GPU), temp_disk_gib
    (0 = none): GiB; gpu_count: whole GPUs, 0 for a head size; generations: of the hypervisor, (1,), (2,) or (1, 2);
    quota_family: the family whose vCPUs Azure's quota counts; spot: may be had at Spot price; retired_on: the last day
    Azure named for it; successors: what Microsoft's pages name instead, best first; closed_to_new: set where
    subscriptions made after that day cannot deploy it; source: the page.
    """

    name: str
    vcpu: int
    memory_gib: int
    gpu_count: int = 0
    gpu_model: str = ""
    gpu_memory_gib: int = 0
    temp_disk_gib: int
    generations: tuple[int, ...] = (1, 2)
    ephemeral_os: bool = True
    premium_storage: bool = True
    accelerated_network: bool = True
    trusted_launch: bool = True
    spot: bool = True
    quota_family: str
    retired_on: date | None = None
    successors: tuple[str, ...] = ()
    closed_to_new: date | None = None
    source: str

    @property
    def successor(self) -> str | None:
        """The first size that Microsoft names as the replacement, or None."""
        return self.successors[0] if self.successors else None


def _family(common: dict[str, object], *rows: tuple[str, int, int, int, int]) -> dict[str, Size]:
    """Sizes that differ only in name, vCPUs, memory, GPUs and temp disk."""
    return {
        name: msgspec.convert(
            {**common, "name": name, "vcpu": v, "memory_gib": m, "gpu_count": g, "temp_disk_gib": t}, Size
        )
        for name, v, m, g, t in rows
    }


_T4 = {
    "gpu_model": "NVIDIA T4",
    "gpu_memory_gib": 16,
    "quota_family": "Standard NCASv3_T4 Family",
    "source": "sizes/gpu-accelerated/ncast4v3-series.md",
}
_K80 = {
    "gpu_model": "NVIDIA K80",
    "gpu_memory_gib": 12,
    "generations": (1,),
    "ephemeral_os": False,
    "premium_storage": False,
    "accelerated_network": False,
    "trusted_launch": False,
    "quota_family": "Standard NC Family",
    "retired_on": date(2023, 9, 6),
    "successors": ("Standard_NC4as_T4_v3", "Standard_NC8as_T4_v3"),
    "source": "sizes/retirement/nc-series-retirement.md",
}

GPU_SIZES: dict[str, Size] = {
    **_family(
        _T4,
        ("Standard_NC4as_T4_v3", 4, 28, 1, 176),
        ("Standard_NC8as_T4_v3", 8, 56, 1, 352),
        ("Standard_NC16as_T4_v3", 16, 110, 1, 352),
        ("Standard_NC64as_T4_v3", 64, 440, 4, 2816),
    ),
    **_family(_K80, ("Standard_NC6", 6, 56, 1, 340)),
}

HEAD_SIZES: dict[str, Size] = {
    **_family(
        {
            "quota_family": "Standard Bsv2 Family",
            "source": "sizes/general-purpose/bsv2-series.md",
            "spot": False,
            "generations": (1, 2),
        },
        ("Standard_B2s_v2", 2, 8, 0, 0),
    ),
}


def find(name: str) -> Size | None:
    """The size of that name whatever its letters' case (as Azure compares them), or None when nobody knows it."""
    return _BY_LOWER_NAME.get(name.lower())


_BY_LOWER_NAME = {name.lower(): size for name, size in (GPU_SIZES | HEAD_SIZES).items()}
