"""A subnet that nothing guards."""

from infra.sound import group, subnet

subnet(group(), guarded=False)
