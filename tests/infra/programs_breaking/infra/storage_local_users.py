"""Storage with SFTP."""

from infra.sound import group, storage_account

storage_account(group(), is_sftp_enabled=True, is_hns_enabled=True)
