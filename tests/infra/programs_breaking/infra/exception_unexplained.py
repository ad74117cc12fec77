"""An exception without a reason, to nothing."""

from infra.sound import exception, group

exception("storage-any-network", group(), "fine")
