"""A private endpoint for storage whose public address still answers."""

from pulumi_azure_native import network

from infra.sound import group, storage_account, subnet

place = group()
account = storage_account(place)
network.PrivateEndpoint(
    "storage",
    resource_group_name=place.name,
    tags={"workspace": "small", "stack": "test", "managed-by": "pulumi"},
    subnet={"id": subnet(place).id},
    private_link_service_connections=[
        {"name": "blob", "private_link_service_id": account.id, "group_ids": ["blob"]},
    ],
)
