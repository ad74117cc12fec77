"""SSH for everybody."""

from infra.sound import group, security_group

security_group(group(), source_address_prefix="Internet", destination_port_range="22")
