"""A vault that forgets at once."""

from infra.sound import group, vault

vault(group(), enable_soft_delete=False)
