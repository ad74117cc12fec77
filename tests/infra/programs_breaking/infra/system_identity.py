"""A Flexible scale set with an identity of its own."""

from infra.sound import group, scale_set

scale_set(group(), identity={"type": "SystemAssigned"})
