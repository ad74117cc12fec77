"""Every sound part at once: breaks no rule."""

from infra.sound import assignment, group, interface, machine, registry, scale_set, subnet, vault

place = group()
assignment(place)
registry(place)
vault(place)
nodes = subnet(place)
interface(place, nodes, public=True)
machine(place)
scale_set(place, where=nodes)
