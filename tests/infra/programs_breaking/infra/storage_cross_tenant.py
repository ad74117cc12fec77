"""Storage that may be replicated to a stranger."""

from infra.sound import group, storage_account

storage_account(group(), allow_cross_tenant_replication=True)
