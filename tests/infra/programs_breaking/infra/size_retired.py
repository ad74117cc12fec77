"""The nodes that this project was first asked for."""

from infra.sound import group, scale_set

scale_set(group(), size="Standard_NC6")
