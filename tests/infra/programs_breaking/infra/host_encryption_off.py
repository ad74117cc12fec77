"""A head node whose temp disk is not encrypted."""

from infra.sound import group, machine

machine(group(), security_profile={"security_type": "TrustedLaunch"})
