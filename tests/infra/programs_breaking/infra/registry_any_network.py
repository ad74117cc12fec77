"""A registry without a firewall."""

from infra.sound import group, registry

registry(group(), sku={"name": "Basic"}, network_rule_set=None)
