"""A data role on the whole resource group."""

from infra.sound import assignment, group

place = group()
assignment(place, scope=place.id)
