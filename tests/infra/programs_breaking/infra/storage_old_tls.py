"""Storage that takes the TLS of 2006."""

from infra.sound import group, storage_account

storage_account(group(), minimum_tls_version="TLS1_1")
