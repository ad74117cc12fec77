"""An identity that does not say what it belongs to."""

from pulumi_azure_native import managedidentity

from infra.sound import group

managedidentity.UserAssignedIdentity("nodes", resource_group_name=group().name)
