"""
Azure's public regions: their zones and pairs, and which of them have a GPU size.

A region is refused for a size only where a document says that the size is not there. What no document says is let
through, with a note. Sources are named beside each table; all were read on 23 November 2026.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from infra.sizes import Size

Availability = Literal["listed", "absent", "unknown"]


class Region(msgspec.Struct, frozen=True, kw_only=True):
    """
    One region of Azure's public cloud.

    name: "westeurope"; title: "West Europe"; zones: whether it has availability zones; pair: the name of the region
    that geo-redundant storage copies to, None where it has none; restricted: open to some subscriptions only.
    """

    name: str
    title: str
    zones: bool
    pair: str | None
    restricted: bool = False


def _name(title: str) -> str:
    """Azure's name for a region: its title in small letters without blanks."""
    return title.lower().replace(" ", "")


# https://learn.microsoft.com/azure/reliability/regions-list: region; z = has zones, r = restricted; its pair.
_TABLE = """
Australia Central | | Australia Central 2
Australia Central 2 | r | Australia Central
Australia East | z | Australia Southeast
Australia Southeast | | Australia East
Austria East | z |
Belgium Central | z |
Brazil South | z | South Central US
Brazil Southeast | r | Brazil South
Canada Central | z | Canada East
Canada East | | Canada Central
Central India | z | South India
Central US | z | East US 2
Chile Central | z |
East Asia | z | Southeast Asia
East US | z | West US
East US 2 | z | Central US
France Central | z | France South
France South | r | France Central
Germany North | r | Germany West Central
Germany West Central | z | Germany North
Indonesia Central | z |
Israel Central | z |
Italy North | z |
Japan East | z | Japan West
Japan West | z | Japan East
Korea Central | z | Korea South
Korea South | r | Korea Central
Malaysia West | z |
Mexico Central | z |
New Zealand North | z |
North Central US | | South Central US
North Europe | z | West Europe
Norway East | z | Norway West
Norway West | r | Norway East
Poland Central | z |
Qatar Central | z |
South Africa North | z | South Africa West
South Africa West | r | South Africa North
South Central US | z | North Central US
South India | | Central India
Southeast Asia | z | East Asia
Spain Central | z |
Sweden Central | z | Sweden South
Sweden South | r | Sweden Central
Switzerland North | z | Switzerland West
Switzerland West | r | Switzerland North
UAE Central | r | UAE North
UAE North | z | UAE Central
UK South | z | UK West
UK West | | UK South
West Central US | | West US 2
West Europe | z | North Europe
West India | | South India
West US | | East US
West US 2 | z | West Central US
West US 3 | z | East US
"""


def _region(line: str) -> Region:
    """One line of the table."""
    title, flags, pair = (part.strip() for part in line.split("|"))
    return Region(
        name=_name(title), title=title, zones="z" in flags, pair=_name(pair) or None, restricted="r" in flags
    )


REGIONS: dict[str, Region] = {region.name: region for region in map(_region, _TABLE.strip().splitlines())}
"""Every region of Azure's public cloud that its list names, by name."""

# Regions of the United States and the GPU families that Azure's own SKU list gave them, as kept by
# https://github.com/skypilot-org/skypilot-catalog (catalogs/v6/azure/vms.csv at 098741e, which covers these nine).
# The A100 page says that new capacity goes to NCads H100 v5 alone: the older families' lists no longer grow, so a
# region missing there is taken as absent. H100's list grows, so a region missing there is unknown.
_US = ("", "2", "3")
_COVERED = frozenset(
    [f"westus{n}" for n in _US]
    + ["eastus", "eastus2"]
    + [f"{part}centralus" for part in ("", "north", "south", "west")]
)
_LISTED = {
    "NVIDIA T4": _COVERED - {"westcentralus"},
    "NVIDIA A100": _COVERED - {"northcentralus", "westcentralus"},
    "NVIDIA H100 NVL": frozenset(["eastus", "eastus2", "southcentralus", "westus3"]),
}
_GROWING = {"NVIDIA H100 NVL"}


def find_region(name: str) -> Region | None:
    """The region of that name or title, letters' case and blanks aside, or None when Azure's list lacks it."""
    return REGIONS.get(_name(name))


def availability(size: Size, region: Region) -> Availability:
    """What the documents say of a GPU size in a region: "listed", "absent", or "unknown" where they say nothing."""
    listed = _LISTED.get(size.gpu_model)
    if listed is None:
        return "unknown"
    if region.name in listed:
        return "listed"
    return "absent" if region.name in _COVERED and size.gpu_model not in _GROWING else "unknown"


def regions_listed(size: Size) -> tuple[str, ...]:
    """Names of the regions that are known to have the size, sorted."""
    return tuple(sorted(_LISTED.get(size.gpu_model, ())))
