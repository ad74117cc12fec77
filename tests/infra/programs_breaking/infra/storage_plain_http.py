"""Storage over plain http."""

from infra.sound import group, storage_account

storage_account(group(), enable_https_traffic_only=False)
