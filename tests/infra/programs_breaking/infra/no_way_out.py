"""Flexible nodes in a subnet without a NAT gateway."""

from infra.sound import group, scale_set, subnet

place = group()
scale_set(place, where=subnet(place, way_out=False))
