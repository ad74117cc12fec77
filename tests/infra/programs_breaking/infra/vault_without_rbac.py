"""A vault with access policies."""

from infra.sound import group, vault

vault(group(), enable_rbac_authorization=False)
