"""Mermaid pictures of the network and of who may do what, as GitHub draws them in Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from infra.review.access import Grant
from infra.review.create_only import short_type
from infra.review.declare import Declared
from infra.review.reach import Index, Opening, dig, rows

LARGEST = 60
"""More arrows than this and GitHub's picture is unreadable: the tables below it say the same."""


class _Drawing:
    """Lines of a flowchart; every node gets an id of its own, so that no name can break the grammar."""

    def __init__(self, direction: str) -> None:
        self.lines = [f"flowchart {direction}"]
        self._ids: dict[str, str] = {}
        self._depth = 1

    def add(self, line: str) -> None:
        self.lines.append("  " * self._depth + line)

    def id_of(self, key: str) -> str:
        """The same id for the same key."""
        return self._ids.setdefault(key.lower(), f"n{len(self._ids) + 1}")

    def knows(self, key: str) -> bool:
        return key.lower() in self._ids

    def node(self, key: str, *words: str, shape: str = "[]") -> str:
        """A node with its words on lines below one another; one is drawn once."""
        if not self.knows(key):
            opening, closing = {"[]": "[]", "()": ("([", "])"), "{}": ("{{", "}}"), "db": ("[(", ")]")}[shape]
            self.add(f'{self.id_of(key)}{opening}"{"<br/>".join(label(word) for word in words if word)}"{closing}')
        return self.id_of(key)

    def group(self, key: str, *words: str) -> None:
        self.add(f'subgraph {self.id_of(key)}["{"<br/>".join(label(word) for word in words if word)}"]')
        self._depth += 1

    def end(self) -> None:
        self._depth -= 1
        self.add("end")

    def arrow(self, start: str, end: str, words: str = "", kind: str = "-->") -> None:
        self.add(f'{start} {kind}|"{label(words)}"| {end}' if words else f"{start} {kind} {end}")

    def text(self) -> str:
        return "\n".join(self.lines) + "\n"


def label(words: str) -> str:
    """Text that may stand between quotes in Mermaid: its own signs and HTML as numbered entities."""
    kept = "".join(sign if sign.isprintable() else " " for sign in words)
    return "".join(f"#{ord(sign)};" if sign in '"#;<>&`|{}[]()\\' else sign for sign in kept)


def network(resources: Sequence[Declared], openings: Sequence[Opening]) -> str:
    """The internet, the network with its subnets and machines, the way out, and the services with their doors."""
    index, drawing = Index(resources), _Drawing("LR")
    drawing.node("internet", "Internet", shape="()")
    for net in index.of("network:VirtualNetwork"):
        prefixes = dig(net.inputs, "addressSpace", "addressPrefixes") or []
        drawing.group(net.id, f"network {net.name}", ", ".join(map(str, prefixes)))
        for id_, name, prefix in _subnets(index, net):
            drawing.group(id_, f"subnet {name}", prefix)
            _inside(index, drawing, id_)
            drawing.end()
        drawing.end()
    for gateway in index.of("network:NatGateway"):
        drawing.node(gateway.id, "NAT gateway", gateway.name, shape="{}")
        drawing.arrow(drawing.id_of(gateway.id), drawing.id_of("internet"), "outgoing only")
        for subnet in index.of("network:Subnet"):
            if index.at(dig(subnet.inputs, "natGateway", "id")) is gateway and drawing.knows(subnet.id):
                drawing.arrow(drawing.id_of(subnet.id), drawing.id_of(gateway.id))
    services = index.of("storage:StorageAccount", "containerregistry:Registry", "keyvault:Vault")
    for service in services:
        shape = "db" if "Storage" in service.type else "[]"
        drawing.node(service.id, _kind(service), service.name, shape=shape)
    _private(index, drawing)
    _rules(index, drawing)
    by_urn = {resource.urn: resource for resource in resources}
    for opening in openings:
        target = by_urn.get(opening.urn)
        if opening.from_where == "nobody" or target is None:
            continue
        end = target.id if drawing.knows(target.id) else _behind(index, target)
        if drawing.knows(end):
            drawing.arrow(
                drawing.id_of("internet"), drawing.id_of(end), f"{opening.port} from {opening.source}", kind="==>"
            )
    return drawing.text()


def access(grants: Sequence[Grant]) -> str:
    """Identities on the left, what they may touch on the right, the roles and reasons on the arrows."""
    drawing = _Drawing("LR")
    if not grants:
        drawing.node("nobody", "No role is assigned")
        return drawing.text()
    for grant in grants:
        shape = "()" if grant.kind != "identity" else "{}"
        drawing.node(f"who {grant.kind} {grant.identity}", grant.identity.replace("`", ""), grant.kind, shape=shape)
    pairs: dict[tuple[str, str], list[Grant]] = {}
    for grant in grants:
        scope = f"what {grant.scope_type} {grant.scope}"
        shape = "db" if grant.scope_type in ("container", "storage account") else "[]"
        drawing.node(scope, grant.scope, grant.scope_type, shape=shape)
        pairs.setdefault((f"who {grant.kind} {grant.identity}", scope), []).append(grant)
    for (who, scope), held in list(pairs.items())[:LARGEST]:
        words = "; ".join(f"{grant.role}: {_short(grant.why)}" for grant in held)
        drawing.arrow(drawing.id_of(who), drawing.id_of(scope), words)
    return drawing.text()


def _short(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57].rstrip()}..."


def _subnets(index: Index, net: Declared) -> list[tuple[str, str, str]]:
    """Id, name and range of each subnet, declared on its own or inside its network."""
    own = [
        (subnet.id, str(subnet.outputs.get("name")), str(subnet.inputs.get("addressPrefix") or ""))
        for subnet in index.of("network:Subnet")
        if subnet.id.lower().startswith(f"{net.id}/".lower())
    ]
    listed = [
        (f"{net.id}/subnets/{row.get('name')}", str(row.get("name")), str(row.get("addressPrefix") or ""))
        for row in rows(net.inputs.get("subnets"))
    ]
    return own + listed


def _inside(index: Index, drawing: _Drawing, subnet: str) -> None:
    """The machines, scale sets and private endpoints of one subnet."""
    here = subnet.lower()
    for nic in index.of("network:NetworkInterface"):
        configs = rows(nic.outputs.get("ipConfigurations"))
        mine = [config for config in configs if str(dig(config, "subnet", "id") or "").lower() == here]
        if mine:
            machine = next(
                (
                    found
                    for found in index.of("compute:VirtualMachine")
                    if nic.id
                    in [row.get("id") for row in rows(dig(found.inputs, "networkProfile", "networkInterfaces"))]
                ),
                nic,
            )
            size = dig(machine.inputs, "hardwareProfile", "vmSize") or ""
            drawing.node(machine.id, machine.name, str(size), str(mine[0].get("privateIPAddress") or ""))
    for scale_set in index.of("compute:VirtualMachineScaleSet"):
        path = ("virtualMachineProfile", "networkProfile", "networkInterfaceConfigurations")
        if any(
            str(dig(config, "subnet", "id") or "").lower() == here
            for nic in rows(dig(scale_set.inputs, *path))
            for config in rows(nic.get("ipConfigurations"))
        ):
            spot = dig(scale_set.inputs, "virtualMachineProfile", "priority") == "Spot"
            size = str(dig(scale_set.inputs, "sku", "name") or "") + (", Spot" if spot else "")
            drawing.node(scale_set.id, f"scale set {scale_set.name}", size, "0 nodes at rest")
    for endpoint in index.of("network:PrivateEndpoint"):
        if str(dig(endpoint.inputs, "subnet", "id") or "").lower() == here:
            drawing.node(endpoint.id, "private endpoint", endpoint.name)
    if drawing.lines[-1].lstrip().startswith("subgraph"):  # Mermaid draws no box around nothing
        drawing.node(f"{subnet}#empty", "nothing yet")


def _private(index: Index, drawing: _Drawing) -> None:
    for endpoint in index.of("network:PrivateEndpoint"):
        for link in rows(endpoint.inputs.get("privateLinkServiceConnections")):
            target = index.at(link.get("privateLinkServiceId"))
            if target is not None and drawing.knows(target.id) and drawing.knows(endpoint.id):
                drawing.arrow(drawing.id_of(endpoint.id), drawing.id_of(target.id), "private link")
    for service in index.of("storage:StorageAccount", "keyvault:Vault"):
        rules = service.inputs.get("networkRuleSet") or dig(service.inputs, "properties", "networkAcls") or {}
        for row in rows(rules.get("virtualNetworkRules")):
            subnet = str(row.get("virtualNetworkResourceId") or row.get("id") or "")
            if drawing.knows(subnet):
                drawing.arrow(drawing.id_of(subnet), drawing.id_of(service.id), "service endpoint", kind="-.->")


def _rules(index: Index, drawing: _Drawing) -> None:
    """What the security groups let from one subnet into another."""
    prefixes = {
        str(subnet.inputs.get("addressPrefix")): subnet.id
        for subnet in index.of("network:Subnet")
        if drawing.knows(subnet.id)
    }
    for subnet in index.of("network:Subnet"):
        group = index.at(dig(subnet.inputs, "networkSecurityGroup", "id"))
        if group is None or not drawing.knows(subnet.id):
            continue
        for rule in rows(group.inputs.get("securityRules")):
            if rule.get("access") != "Allow" or rule.get("direction") != "Inbound":
                continue
            sources = [rule.get("sourceAddressPrefix"), *(rule.get("sourceAddressPrefixes") or [])]
            ports = [rule.get("destinationPortRange"), *(rule.get("destinationPortRanges") or [])]
            shown = ", ".join("all" if port == "*" else str(port) for port in ports if port)
            for source in sources:
                if str(source) in prefixes:
                    drawing.arrow(
                        drawing.id_of(prefixes[str(source)]),
                        drawing.id_of(subnet.id),
                        f"{str(rule.get('protocol') or '').upper().replace('*', 'any')} {shown}",
                    )


def _behind(index: Index, address: Declared) -> str:
    """The id of the machine behind a public address."""
    for nic in index.of("network:NetworkInterface"):
        for config in rows(nic.inputs.get("ipConfigurations")):
            if index.at(dig(config, "publicIPAddress", "id")) is address:
                for machine in index.of("compute:VirtualMachine"):
                    linked = rows(dig(machine.inputs, "networkProfile", "networkInterfaces"))
                    if nic.id in [row.get("id") for row in linked]:
                        return machine.id
                return nic.id
    return address.id


def _kind(resource: Declared) -> str:
    return {
        "storage:StorageAccount": "storage account",
        "containerregistry:Registry": "registry",
        "keyvault:Vault": "vault",
    }.get(short_type(resource.type), resource.type)
