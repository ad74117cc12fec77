"""A container whose blobs anybody can read."""

from infra.sound import container, group, storage_account

place = group()
container(place, storage_account(place), public_access="Blob")
