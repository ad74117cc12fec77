"""Rules about subnets, security rules, public addresses and the way out."""

import ipaddress
from collections.abc import Iterator, Mapping
from typing import Any

from infra.policy.rules import Problem, Resource, Resources, Rule, at, rows, texts

GROUP = "network:NetworkSecurityGroup"
INTERFACE = "network:NetworkInterface"
SCALE_SET = "compute:VirtualMachineScaleSet"
NETWORK = "network:VirtualNetwork"
SUBNET = "network:Subnet"

WIDEST_PREFIX = 8
ANYBODY = frozenset({"*", "any", "internet", "azurecloud"})
"""Sources that are not a few known networks. `AzureCloud` is every customer of Azure."""

# Azure allows no security group on the first two, and asks for its own rules on the third.
SUBNETS_WITHOUT_GROUP = frozenset({"GatewaySubnet", "AzureFirewallSubnet", "RouteServerSubnet"})


def is_wide(source: str) -> bool:
    """Whether a source is everybody, or a range wider than /8: `Internet`, `0.0.0.0/0`, `::/0`, `64.0.0.0/2`."""
    if source.lower() in ANYBODY or source.lower().startswith("azurecloud."):
        return True
    first, _, last = source.partition("-")
    try:
        if last:
            lowest, highest = ipaddress.ip_address(first.strip()), ipaddress.ip_address(last.strip())
            return int(highest) - int(lowest) >= 1 << (lowest.max_prefixlen - WIDEST_PREFIX)
        return ipaddress.ip_network(source, strict=False).prefixlen < WIDEST_PREFIX
    except ValueError:
        return False  # a service tag such as VirtualNetwork


def _opens(rule: Mapping[str, Any]) -> str | None:
    """The wide source that a security rule lets in, or None."""
    if str(rule.get("direction")).lower() != "inbound" or str(rule.get("access")).lower() != "allow":
        return None
    sources = texts(rule.get("sourceAddressPrefix"), rule.get("sourceAddressPrefixes"))
    if not sources and not rule.get("sourceApplicationSecurityGroups"):
        return "*"
    return next((source for source in sources if is_wide(source)), None)


def _ports(rule: Mapping[str, Any]) -> list[str]:
    return texts(rule.get("destinationPortRange"), rule.get("destinationPortRanges")) or ["*"]


def _includes(ranges: list[str], port: int) -> bool:
    for part in ranges:
        first, _, last = part.partition("-")
        if part == "*" or (first.isdigit() and int(first) <= port <= int(last or first)):
            return True
    return False


def _security_rules(resources: Resources) -> Iterator[tuple[Resource, str, Mapping[str, Any]]]:
    """Each security rule, whether written inside its group or as a resource of its own."""
    for group in resources.of(GROUP):
        for rule in rows(group.inputs.get("securityRules")):
            yield group, str(rule.get("name", "")), rule
    for resource in resources.of("network:SecurityRule"):
        yield resource, str(resource.inputs.get("securityRuleName") or resource.name), resource.inputs


def _open(resources: Resources, ssh: bool) -> Iterator[Problem]:
    for resource, name, rule in _security_rules(resources):
        source = _opens(rule)
        if source is not None and _includes(_ports(rule), 22) == ssh:
            yield resource, f"rule `{name}` lets `{source}` in to port {', '.join(_ports(rule))}"


def _port_open(resources: Resources) -> Iterator[Problem]:
    yield from _open(resources, ssh=False)


def _ssh_open(resources: Resources) -> Iterator[Problem]:
    yield from _open(resources, ssh=True)


def _without_group(resources: Resources) -> Iterator[Problem]:
    for network in resources.of(NETWORK):
        for subnet in rows(network.inputs.get("subnets")):
            if "addressPrefix" in subnet and not _has_group(subnet):
                yield network, f"its subnet `{subnet.get('name')}` has no network security group"
    for resource in resources.of(SUBNET):
        name = resource.inputs.get("subnetName") or resource.name
        if name not in SUBNETS_WITHOUT_GROUP and not resource.inputs.get("networkSecurityGroup"):
            yield resource, "it has no network security group"


def _has_group(subnet: Mapping[str, Any]) -> bool:
    return bool(subnet.get("networkSecurityGroup")) or subnet.get("name") in SUBNETS_WITHOUT_GROUP


def _subnet(resources: Resources, user: Resource, key: str, configuration: Mapping[str, Any]) -> Mapping[str, Any]:
    """The inputs of the subnet that an address configuration stands in; nothing where it is not of this program."""
    subnet_id = at(configuration, "subnet", "id")
    subnet = resources.named_in(user, key, subnet_id, SUBNET)
    if subnet is not None:
        return subnet.inputs
    network = resources.named_in(user, key, subnet_id, NETWORK)
    inline = rows(network.inputs.get("subnets")) if network is not None else []
    wanted = str(subnet_id or "").rpartition("/")[2]
    return next((subnet for subnet in inline if subnet.get("name") == wanted), {})


def _public_address(resources: Resources) -> Iterator[Problem]:
    for interface in resources.of(INTERFACE):
        for configuration in rows(interface.inputs.get("ipConfigurations")):
            if not configuration.get("publicIPAddress"):
                continue
            subnet = _subnet(resources, interface, "ipConfigurations", configuration)
            if not interface.inputs.get("networkSecurityGroup") and not subnet.get("networkSecurityGroup"):
                yield interface, "it has a public address, and no security group on it or on its subnet"
    for scale_set in resources.of(SCALE_SET):
        for interface_configuration, configuration in _scale_set_addresses(scale_set):
            if not configuration.get("publicIPAddressConfiguration"):
                continue
            subnet = _subnet(resources, scale_set, "virtualMachineProfile", configuration)
            if not interface_configuration.get("networkSecurityGroup") and not subnet.get("networkSecurityGroup"):
                yield scale_set, "its nodes get public addresses, and no security group guards them"


def _scale_set_addresses(scale_set: Resource) -> Iterator[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    profile = at(scale_set.inputs, "virtualMachineProfile", "networkProfile", "networkInterfaceConfigurations")
    for interface in rows(profile):
        for configuration in rows(interface.get("ipConfigurations")):
            yield interface, configuration


def _no_way_out(resources: Resources) -> Iterator[Problem]:
    for scale_set in resources.of(SCALE_SET):
        if scale_set.inputs.get("orchestrationMode") != "Flexible":
            continue
        ways = [
            configuration.get("publicIPAddressConfiguration")
            or configuration.get("loadBalancerBackendAddressPools")
            or _subnet(resources, scale_set, "virtualMachineProfile", configuration).get("natGateway")
            for _, configuration in _scale_set_addresses(scale_set)
        ]
        if not any(ways):
            yield scale_set, "its subnet has no NAT gateway, and Flexible nodes have no way out of their own"


RULES = (
    Rule(
        id="ssh-open",
        severity="high",
        title="SSH is open to the world",
        why="Port 22 of every public address is tried within minutes, day and night.",
        fix="Name the networks of the people who log in, in `tensoryard:sshSources`; none means no public address.",
        look=_ssh_open,
    ),
    Rule(
        id="port-open",
        severity="high",
        title="A port is open to the world",
        why="Nothing of the workspace needs to be called from outside: the head node pulls its work.",
        fix="Remove the security rule, or name the source networks (none wider than /8).",
        look=_port_open,
    ),
    Rule(
        id="subnet-without-group",
        severity="high",
        title="A subnet has no network security group",
        why="Whatever gets a public address there later is open on every port.",
        fix="Give the subnet a network security group.",
        look=_without_group,
    ),
    Rule(
        id="public-address-unguarded",
        severity="high",
        title="A public address has no security group in front of it",
        why="Every port that the machine opens is open to the world.",
        fix="Put a network security group with the allowed sources on the interface or on its subnet.",
        look=_public_address,
    ),
    Rule(
        id="no-way-out",
        severity="high",
        title="Nodes cannot reach the internet",
        why="Their first boot would wait for packages and images until it fails.",
        fix="Give the nodes' subnet a NAT gateway.",
        look=_no_way_out,
    ),
)
