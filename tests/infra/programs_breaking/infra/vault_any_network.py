"""A vault without a firewall."""

from infra.sound import group, vault

vault(group(), network_acls=None)
