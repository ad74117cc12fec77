"""Storage that keeps deleted blobs for a day."""

from infra.sound import group, storage_account

storage_account(group(), kept_days=1)
