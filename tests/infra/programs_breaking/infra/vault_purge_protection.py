"""A vault whose secrets can be purged."""

from infra.sound import group, vault

vault(group(), enable_purge_protection=None)
