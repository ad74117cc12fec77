"""Storage that does not say that its keys are off: they are on."""

from infra.sound import group, storage_account

storage_account(group(), allow_shared_key_access=None)
