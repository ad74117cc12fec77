"""Jupyter for everybody."""

from infra.sound import group, security_group

security_group(group(), source_address_prefix="0.0.0.0/0", destination_port_range="8888")
