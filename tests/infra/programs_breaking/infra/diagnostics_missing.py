"""Storage that nobody watches."""

from infra.sound import group, storage_account

storage_account(group(), recorded=False)
