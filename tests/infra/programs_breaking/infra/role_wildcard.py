"""A custom role that grows with Azure."""

from pulumi_azure_native import authorization

from infra.sound import group

place = group()
authorization.RoleDefinition(
    "tagger",
    role_name="Blob tagger",
    scope=place.id,
    assignable_scopes=[place.id],
    permissions=[{"data_actions": ["Microsoft.Storage/storageAccounts/blobServices/containers/blobs/*"]}],
)
