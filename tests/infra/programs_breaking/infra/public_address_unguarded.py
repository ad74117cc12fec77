"""A public address that nothing guards, in a subnet whose missing guard is excused."""

from infra.sound import exception, group, interface, subnet

place = group()
heads = subnet(place, guarded=False)
exception("subnet-without-group", heads, "This program is about the public address and not about its subnet")
interface(place, heads, public=True)
