"""An exception to what is not found."""

from infra.sound import exception, group, storage_account

exception("storage-any-network", storage_account(group()), "Nothing is wrong here, so nothing needs an excuse")
