"""A scale set whose number of nodes the program resets."""

from infra.sound import group, scale_set

scale_set(group(), ignore_changes=())
