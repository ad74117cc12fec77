"""A registry for everybody."""

from infra.sound import group, registry

registry(group(), anonymous_pull_enabled=True)
