"""A registry with one password for all."""

from infra.sound import group, registry

registry(group(), admin_user_enabled=True)
