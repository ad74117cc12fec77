"""The network's addresses: how the space is divided, and every check on CIDRs, all pure."""

from __future__ import annotations

import contextlib
import ipaddress
from ipaddress import IPv4Network
from typing import TYPE_CHECKING

import msgspec

from infra.settings.error import SettingsError, full_key, set_with, shown

if TYPE_CHECKING:
    from infra.settings.model import Settings

AZURE_RESERVED = 5
"""Addresses of every subnet that Azure keeps: the first four and the last."""
ENDPOINTS_NEEDED = 6
"""Private endpoints: storage 1, vault 1, registry 2 (its name and its data), and room for one more of each kind."""
LARGEST, SMALLEST = 8, 25
"""Prefix lengths between which the address space may lie."""

# https://learn.microsoft.com/azure/virtual-network/virtual-networks-faq: multicast and broadcast (with what lies
# between, reserved), loopback, link-local, and Azure's own DNS, health and wire server.
_NEVER = tuple(
    ipaddress.IPv4Network(text)
    for text in (
        "224.0.0.0/4",
        "255.255.255.255/32",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "168.63.129.16/32",
        "0.0.0.0/8",
    )
)
# What reaches a machine only from inside: no rule about the public internet can mean these.
_INSIDE = tuple(
    ipaddress.IPv4Network(text)
    for text in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", *(str(n) for n in _NEVER))
)
_EVERYONE = {"*", "internet", "any", "0.0.0.0/0", "::/0", "virtualnetwork", "azurecloud"}


class Layout(msgspec.Struct, frozen=True, kw_only=True):
    """The network's CIDRs, and the address inside `heads` that the head node always has."""

    address_space: str
    heads: str
    nodes: str
    endpoints: str
    head_address: str


def layout(settings: Settings) -> Layout:
    """The division of the address space, the settings' own subnets where they give some. Takes checked settings."""
    space = ipaddress.IPv4Network(settings.address_space)
    heads, nodes, endpoints = _default_subnets(space)
    first = ipaddress.IPv4Network(settings.heads_subnet) if settings.heads_subnet else heads
    return Layout(
        address_space=str(space),
        heads=str(first),
        nodes=settings.nodes_subnet or str(nodes),
        endpoints=settings.endpoints_subnet or str(endpoints),
        head_address=str(first[AZURE_RESERVED - 1]),
    )


def _default_subnets(space: IPv4Network) -> tuple[IPv4Network, IPv4Network, IPv4Network]:
    """
    Heads, nodes and endpoints within a space: the upper half for nodes, the first two small ones for the rest.

    Small is a /24, or an eighth of the space where that is less: 10.40.0.0/16 gives 10.40.0.0/24, 10.40.128.0/17 and
    10.40.1.0/24.
    """
    small = space.subnets(new_prefix=max(24, space.prefixlen + 3))
    heads, endpoints = next(small), next(small)
    _, nodes = space.subnets(prefixlen_diff=1)
    return heads, nodes, endpoints


def check_network(settings: Settings) -> None:
    """
    Whether address space and subnets are CIDRs, inside one another, apart from one another, and large enough.

    Raises SettingsError, the first thing found wrong.
    """
    space = _space(settings.address_space)
    defaults = dict(zip(("headsSubnet", "nodesSubnet", "endpointsSubnet"), _default_subnets(space), strict=True))
    given = {
        "headsSubnet": settings.heads_subnet,
        "nodesSubnet": settings.nodes_subnet,
        "endpointsSubnet": settings.endpoints_subnet,
    }
    subnets = {path: _subnet(path, text, space) if text else defaults[path] for path, text in given.items()}
    nodes = sum(cluster.max_nodes for cluster in settings.clusters)
    needs = {
        "headsSubnet": (1, "the head node"),
        "nodesSubnet": (nodes, f"{nodes} nodes, the sum of maxNodes"),
        "endpointsSubnet": (ENDPOINTS_NEEDED if settings.private_endpoints else 1, "private endpoints"),
    }
    for path, (count, what) in needs.items():
        _check_room(path, subnets[path], given[path] is not None, space, count, what)
    _check_apart(subnets, given)


def _space(text: str) -> IPv4Network:
    """The address space as a network."""
    path, how = "addressSpace", set_with("addressSpace", "10.40.0.0/16")
    space = _cidr(path, text, how)
    if not LARGEST <= space.prefixlen <= SMALLEST:
        raise SettingsError(
            full_key(path), shown(text), f"A network of this program is between a /{LARGEST} and a /{SMALLEST}.", how
        )
    for never in _NEVER:
        if space.overlaps(never):
            raise SettingsError(full_key(path), shown(text), f"Azure allows no network that overlaps {never}.", how)
    return space


def _subnet(path: str, text: str, space: IPv4Network) -> IPv4Network:
    """A subnet that the settings give, inside the space."""
    example = next(space.subnets(new_prefix=max(26, space.prefixlen + 1)))
    how = set_with(path, str(example))
    subnet = _cidr(path, text, how)
    if not subnet.subnet_of(space):
        allowed = f"A subnet lies inside the address space {space} (tensoryard:addressSpace)."
        raise SettingsError(full_key(path), shown(text), allowed, how)
    if subnet.prefixlen > 29:
        raise SettingsError(full_key(path), shown(text), "Azure's smallest subnet is a /29.", how)
    return subnet


def _check_room(path: str, subnet: IPv4Network, own: bool, space: IPv4Network, count: int, what: str) -> None:
    """Whether the subnet holds that many machines. own: the settings gave it, else it follows from the space."""
    if subnet.num_addresses >= count + AZURE_RESERVED:
        return
    prefix = 32 - (count + AZURE_RESERVED - 1).bit_length()
    allowed = (
        f"It has room for {subnet.num_addresses - AZURE_RESERVED} machines (Azure keeps {AZURE_RESERVED} addresses "
        f"of every subnet) and needs room for {count}: {what}. A /{prefix} is large enough."
    )
    if own:
        raise SettingsError(full_key(path), shown(str(subnet)), allowed, _how_larger(path, space, prefix))
    # The upper half of the space is the nodes', so the space that fits is one step larger than their subnet.
    larger = f"10.0.0.0/{max(LARGEST, prefix - 1)}"
    given = f"{shown(str(space))}, whose part for `{full_key(path)}` is {subnet}"
    raise SettingsError(full_key("addressSpace"), given, allowed, set_with("addressSpace", larger))


def _how_larger(path: str, space: IPv4Network, prefix: int) -> str:
    """How to make a subnet larger: within the space where it fits there, else together with the space."""
    if prefix > space.prefixlen:
        last = IPv4Network((int(space.broadcast_address) - 2 ** (32 - prefix) + 1, prefix))
        return set_with(path, str(last))
    return f"Take a larger address space too. {set_with('addressSpace', f'10.0.0.0/{max(LARGEST, prefix - 1)}')}"


def _check_apart(subnets: dict[str, IPv4Network], given: dict[str, str | None]) -> None:
    """Whether no two subnets share an address; told of the one that the settings gave."""
    paths = list(subnets)
    for index, first in enumerate(paths):
        for second in paths[index + 1 :]:
            if not subnets[first].overlaps(subnets[second]):
                continue
            own, other = (second, first) if given[second] else (first, second)
            free = "" if given[other] else ", which follows from the address space as it is not set"
            raise SettingsError(
                full_key(own),
                shown(str(subnets[own])),
                f"It overlaps `{full_key(other)}`, {subnets[other]}{free}. Subnets share no address.",
                f"Choose a part of `tensoryard:addressSpace` outside {subnets[other]}, or set `{full_key(other)}`.",
            )


def check_sources(path: str, texts: tuple[str, ...], *, public: bool) -> tuple[str, ...]:
    """
    The CIDRs of a list of allowed sources, single addresses as /32, sorted as given.

    path: the list's key; public: only addresses of the public internet make sense there. Raises SettingsError for
    what is no IPv4 CIDR, and for what lets in nearly everyone: "*", "Internet", 0.0.0.0/0, or networks wider than a
    /8, alone or together.
    """
    networks = [_source(f"{path}[{index}]", text, public) for index, text in enumerate(texts)]
    for network in ipaddress.collapse_addresses(networks):
        if network.prefixlen < LARGEST:
            raise SettingsError(
                full_key(path),
                shown(", ".join(texts)),
                f"Together they let in {network}, and that is nearly everyone: a /{LARGEST} is the most.",
                set_with(f"{path}[0]", "203.0.113.7/32"),
            )
    return tuple(str(network) for network in networks)


def _source(path: str, text: str, public: bool) -> IPv4Network:
    """One allowed source."""
    how = f"{set_with(path, '203.0.113.7/32')} Your own address: `curl -4 https://ifconfig.me`."
    if text.strip().lower() in _EVERYONE:
        allowed = "That is everyone. Allowed are IPv4 CIDRs of the places that people really come from."
        raise SettingsError(full_key(path), shown(text), allowed, how)
    network = _cidr(path, text, how)
    if network.prefixlen < LARGEST:
        allowed = f"That lets in {network.num_addresses:,} addresses; none is to be wider than a /{LARGEST}."
        raise SettingsError(full_key(path), shown(text), allowed, how)
    if any(network.overlaps(never) for never in (_INSIDE if public else _NEVER)):
        allowed = "No one comes from there: " + (
            "these are private or reserved addresses, and the services see people's public ones."
            if public
            else "these addresses are reserved."
        )
        raise SettingsError(full_key(path), shown(text), allowed, how)
    return network


def _cidr(path: str, text: str, how: str) -> IPv4Network:
    """A text as an IPv4 network; one with host bits set is told which two networks it may mean."""
    allowed = "Allowed is an IPv4 network, written address/length, such as 10.40.0.0/16."
    try:
        network = IPv4Network(text, strict=False)
    except ValueError:
        with contextlib.suppress(ValueError):
            ipaddress.IPv6Network(text, strict=False)
            allowed = f"The workspace's network is IPv4. {allowed}"
        raise SettingsError(full_key(path), shown(text), allowed, how) from None
    address = text.split("/")[0]
    if str(network.network_address) != address:
        allowed = f"The address is not the first of its network: meant is {network}, or {address}/32 for it alone."
        raise SettingsError(full_key(path), shown(text), allowed, set_with(path, str(network)))
    if text not in (str(network), address):
        raise SettingsError(full_key(path), shown(text), allowed, set_with(path, str(network)))
    return network
