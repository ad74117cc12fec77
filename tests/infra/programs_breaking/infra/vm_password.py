"""A head node that takes passwords."""

from infra.sound import group, machine

machine(group(), os_profile={"linux_configuration": {"disable_password_authentication": False}})
