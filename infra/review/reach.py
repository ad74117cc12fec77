"""What can be reached from the internet: machines with a public address, and the services' own endpoints."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import msgspec

from infra.review.create_only import short_type
from infra.review.declare import Declared

FromWhere = Literal["anyone", "listed", "nobody"]
ANY = "the whole internet"


class Opening(msgspec.Struct, frozen=True, kw_only=True):
    """
    One door. address: host name or address; port: as the rule has it; source: in words; from_where: how wide that is;
    why: the rule's own description; guard: what stops somebody who gets that far.
    """

    name: str
    address: str
    port: str
    source: str
    from_where: FromWhere
    why: str
    guard: str
    urn: str


class Index:
    """Declared resources by type and by Azure id."""

    def __init__(self, resources: Sequence[Declared]) -> None:
        self.all = resources
        self._by_id = {resource.id.lower(): resource for resource in resources if resource.id}
        self._by_type: dict[str, list[Declared]] = {}
        for resource in resources:
            self._by_type.setdefault(short_type(resource.type), []).append(resource)

    def of(self, *types: str) -> list[Declared]:
        """Resources of these types, such as "network:Subnet"."""
        return [resource for type_ in types for resource in self._by_type.get(type_, [])]

    def at(self, id_: Any) -> Declared | None:
        """The resource with this id, or the nearest one above it (a container's account)."""
        text = str(id_ or "").lower()
        while text.count("/") > 2:
            if text in self._by_id:
                return self._by_id[text]
            text = text.rpartition("/")[0]
        return None


def dig(value: Any, *path: str) -> Any:
    """What stands under nested keys, None where one is absent."""
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def rows(value: Any) -> list[dict[str, Any]]:
    """The objects of a list, none where there is no list."""
    return [row for row in value if isinstance(row, dict)] if isinstance(value, list) else []


def openings(resources: Sequence[Declared]) -> list[Opening]:
    """Every door to the internet, the widest first; a service that is shut to it is listed as shut."""
    index = Index(resources)
    found = [*_machines(index), *_scale_sets(index), *_nat(index), *_services(index)]
    width = {"anyone": 0, "listed": 1, "nobody": 2}
    return sorted(found, key=lambda opening: (width[opening.from_where], opening.name, opening.port))


def _machines(index: Index) -> Iterator[Opening]:
    for nic in index.of("network:NetworkInterface"):
        for config in rows(nic.inputs.get("ipConfigurations")):
            address = index.at(dig(config, "publicIPAddress", "id"))
            if address is None:
                continue
            machine = _machine_of(index, nic)
            private = next(
                (
                    row.get("privateIPAddress")
                    for row in rows(nic.outputs.get("ipConfigurations"))
                    if row.get("name") == config.get("name")
                ),
                None,
            )
            groups = [
                index.at(dig(nic.inputs, "networkSecurityGroup", "id")),
                index.at(dig(_subnet(index, dig(config, "subnet", "id")), "networkSecurityGroup", "id")),
            ]
            shown = str(address.outputs.get("ipAddress") or "a public address")
            shown = f"{shown} (an example address)" if shown.startswith("203.0.113.") else shown
            yield from _doors(machine, shown, str(private or ""), [group for group in groups if group], address)


def _scale_sets(index: Index) -> Iterator[Opening]:
    for scale_set in index.of("compute:VirtualMachineScaleSet"):
        nics = dig(scale_set.inputs, "virtualMachineProfile", "networkProfile", "networkInterfaceConfigurations")
        for nic in rows(nics):
            for config in rows(nic.get("ipConfigurations")):
                if config.get("publicIPAddressConfiguration"):
                    groups = [
                        index.at(dig(nic, "networkSecurityGroup", "id")),
                        index.at(dig(_subnet(index, dig(config, "subnet", "id")), "networkSecurityGroup", "id")),
                    ]
                    shown = "a public address per node"
                    yield from _doors(scale_set, shown, "", [group for group in groups if group], scale_set)


def _doors(
    machine: Declared, address: str, private: str, groups: list[Declared], public: Declared
) -> Iterator[Opening]:
    about: dict[str, Any] = {"name": machine.name, "address": address, "urn": public.urn}
    guard = _login(machine)
    if not groups:
        basic = str(dig(public.inputs, "sku", "name") or "Basic") == "Basic"
        yield Opening(
            port="all" if basic else "none",
            source=ANY if basic else "nobody",
            from_where="anyone" if basic else "nobody",
            why="no security group stands before it",
            guard=guard if basic else "a Standard address without a security group lets nothing in",
            **about,
        )
        return
    doors = _allowed(groups[0], private)
    for group in groups[1:]:
        doors = list(_both(doors, _allowed(group, private)))
    if not doors:
        names = ", ".join(f"`{group.name}`" for group in groups)
        yield Opening(
            port="none",
            source="nobody",
            from_where="nobody",
            why="an address for outgoing traffic",
            guard=f"security group {names} lets nothing in from outside",
            **about,
        )
    for ports, source, why in doors:
        yield Opening(
            port=ports,
            source=ANY if _any(source) else source,
            from_where="anyone" if _any(source) else "listed",
            why=why,
            guard=guard,
            **about,
        )


Door = tuple[str, str, str]


def _allowed(group: Declared, private: str) -> list[Door]:
    """Ports, source and reason of each inbound rule that lets something in from public addresses."""
    doors: list[Door] = []
    shut: list[tuple[str, str]] = []
    rules = rows(group.inputs.get("securityRules"))
    for rule in sorted(rules, key=lambda rule: rule.get("priority") or 0):
        if str(rule.get("direction")).lower() != "inbound" or not _meant(rule, private):
            continue
        ports = _several(rule, "destinationPortRange")
        for source in _several(rule, "sourceAddressPrefix"):
            if not _public(source):
                continue
            if str(rule.get("access")).lower() == "deny":
                shut += [(port, source) for port in ports]
                continue
            open_ports = [port for port in ports if not any(_wider(port, source, *closed) for closed in shut)]
            if open_ports:
                protocol = str(rule.get("protocol") or "*").upper().replace("*", "any protocol")
                shown = ", ".join("all" if port == "*" else port for port in open_ports)
                doors.append(
                    (f"{shown} ({protocol})", source, str(rule.get("description") or rule.get("name") or ""))
                )
    return doors


def _both(one: list[Door], other: list[Door]) -> Iterator[Door]:
    """What two security groups one behind the other let in."""
    for ports, source, why in one:
        for ports_too, source_too, why_too in other:
            same = ports == ports_too or ports.startswith("all") or ports_too.startswith("all")
            if same and (_inside(source, source_too) or _inside(source_too, source)):
                narrow = source if _inside(source, source_too) else source_too
                yield (ports_too if ports.startswith("all") else ports), narrow, why or why_too


def _meant(rule: Mapping[str, Any], private: str) -> bool:
    """Whether a rule's destination takes in the machine's private address."""
    for destination in _several(rule, "destinationAddressPrefix") or ["*"]:
        if destination in ("*", "VirtualNetwork") or not private:
            return True
        try:
            if ipaddress.ip_address(private) in ipaddress.ip_network(destination, strict=False):
                return True
        except ValueError:
            return True
    return False


def _several(rule: Mapping[str, Any], key: str) -> list[str]:
    """A rule's value, written as one (`sourceAddressPrefix`) or as several (`sourceAddressPrefixes`)."""
    plural = f"{key}es" if key.endswith("x") else f"{key}s"
    return [str(value) for value in [rule.get(key), *(rule.get(plural) or [])] if value]


def _any(source: str) -> bool:
    return source.lower() in ("*", "internet", "any", "0.0.0.0/0", "::/0")


def _public(source: str) -> bool:
    """Whether a source may lie outside of the network: tags of Azure's own and private ranges do not."""
    if _any(source):
        return True
    try:
        return not ipaddress.ip_network(source, strict=False).is_private or _documentation(source)
    except ValueError:
        return source not in ("VirtualNetwork", "AzureLoadBalancer")


def _documentation(source: str) -> bool:
    """Ranges for examples count as public: examples of settings hold them."""
    examples = ("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24")
    return any(_inside(source, example) for example in examples)


def _inside(inner: str, outer: str) -> bool:
    if _any(outer):
        return True
    try:
        one, other = (ipaddress.ip_network(text, strict=False) for text in (inner, outer))
    except ValueError:
        return inner == outer
    return one.version == other.version and one.subnet_of(other)  # type: ignore[arg-type]


def _wider(port: str, source: str, closed_port: str, closed_source: str) -> bool:
    return closed_port in ("*", port) and _inside(source, closed_source)


def _machine_of(index: Index, nic: Declared) -> Declared:
    for machine in index.of("compute:VirtualMachine"):
        linked = rows(dig(machine.inputs, "networkProfile", "networkInterfaces"))
        if any(str(row.get("id", "")).lower() == nic.id.lower() for row in linked):
            return machine
    return nic


def _subnet(index: Index, id_: Any) -> Mapping[str, Any]:
    """A subnet's inputs, whether it is a resource of its own or stands inside its network."""
    found = index.at(id_)
    if found is None:
        return {}
    if short_type(found.type) == "network:Subnet":
        return found.inputs
    name = str(id_).rpartition("/")[2]
    return next((row for row in rows(found.inputs.get("subnets")) if row.get("name") == name), {})


def _login(machine: Declared) -> str:
    profile = dig(machine.inputs, "osProfile") or dig(machine.inputs, "virtualMachineProfile", "osProfile") or {}
    if dig(profile, "linuxConfiguration", "disablePasswordAuthentication") is True:
        return "SSH keys only, no password"
    return "passwords are allowed"


def _nat(index: Index) -> Iterator[Opening]:
    for gateway in index.of("network:NatGateway"):
        for linked in rows(gateway.inputs.get("publicIpAddresses")):
            address = index.at(linked.get("id"))
            yield Opening(
                name=gateway.name,
                address=f"{dig(address.outputs, 'ipAddress')} (an example address)"
                if address
                else "a public address",
                port="none",
                source="nobody",
                from_where="nobody",
                why="the way out for machines without a public address",
                guard="a NAT gateway takes no connection from outside",
                urn=gateway.urn,
            )


def _services(index: Index) -> Iterator[Opening]:
    for account in index.of("storage:StorageAccount"):
        given = account.inputs
        guards = [
            "Entra ID roles, shared keys off" if given.get("allowSharedKeyAccess") is False else "shared keys work",
            "no anonymous reading" if given.get("allowBlobPublicAccess") is False else "anonymous reading possible",
            "HTTPS only" if given.get("enableHttpsTrafficOnly", True) else "plain HTTP allowed",
        ]
        rules = given.get("networkRuleSet") or {}
        host = f"{account.outputs.get('name')}.blob.core.windows.net"
        yield _service(index, account, host, guards, given.get("publicNetworkAccess"), rules, "iPAddressOrRange")
    for registry in index.of("containerregistry:Registry"):
        given = registry.inputs
        guards = [
            "Entra ID roles, admin user off"
            if not given.get("adminUserEnabled")
            else "an admin user with a password",
            "no anonymous pull" if not given.get("anonymousPullEnabled") else "anonymous pull",
        ]
        host = str(registry.outputs.get("loginServer"))
        rules = given.get("networkRuleSet") or {}
        yield _service(index, registry, host, guards, given.get("publicNetworkAccess"), rules, "iPAddressOrRange")
    for vault in index.of("keyvault:Vault"):
        given = vault.inputs.get("properties") or {}
        guards = ["Entra ID roles" if given.get("enableRbacAuthorization") else "access policies"]
        host = str(dig(vault.outputs, "properties", "vaultUri") or "").removeprefix("https://").rstrip("/")
        rules = given.get("networkAcls") or {}
        yield _service(index, vault, host, guards, given.get("publicNetworkAccess"), rules, "value")
    for logs in index.of("operationalinsights:Workspace"):
        given = logs.inputs
        keyless = dig(given, "features", "disableLocalAuth") is True
        for kind, key in (("ingestion", "publicNetworkAccessForIngestion"), ("query", "publicNetworkAccessForQuery")):
            shut = str(given.get(key)).lower() == "disabled"
            yield Opening(
                name=f"{logs.name} ({kind})",
                address="Azure Monitor's shared endpoints",
                port="443",
                source="nobody" if shut else ANY,
                from_where="nobody" if shut else "anyone",
                why=f"Log Analytics, {kind}",
                guard="Entra ID roles" + ("" if keyless or kind == "query" else "; workspace keys work as well"),
                urn=logs.urn,
            )


def _service(
    index: Index, resource: Declared, host: str, guards: list[str], access: Any, rules: Mapping[str, Any], key: str
) -> Opening:
    """The door of a service with an endpoint of its own: shut, open to listed addresses, or open."""
    listed = [str(row.get(key) or row.get("value")) for row in rows(rules.get("ipRules"))]
    inside = [row.get("virtualNetworkResourceId") or row.get("id") for row in rows(rules.get("virtualNetworkRules"))]
    subnets = [str(id_).rpartition("/")[2] for id_ in inside if id_]
    within = f"; subnets {', '.join(subnets)} by service endpoint" if subnets else ""
    width: FromWhere = "anyone"
    source = ANY
    if str(access).lower() in ("disabled", "securedbyperimeter"):
        width, source = "nobody", "nobody: private endpoints only"
    elif str(rules.get("defaultAction", "Allow")).lower() == "deny":
        width = "listed" if listed else "nobody"
        source = f"{', '.join(listed) or 'nobody'}{within}"
    trusted = str(rules.get("bypass") or "").lower() == "azureservices"
    return Opening(
        name=resource.name,
        address=host,
        port="443",
        source=source + ("; Azure's trusted services" if trusted and width != "anyone" else ""),
        from_where=width,
        why={
            "storage:StorageAccount": "people and nodes read and write datasets, runs and models",
            "containerregistry:Registry": "nodes pull images, the head pushes them",
            "keyvault:Vault": "head and nodes read the cluster's munge key",
        }.get(short_type(resource.type), ""),
        guard="; ".join(guards),
        urn=resource.urn,
    )
