"""Storage that every network may reach."""

from infra.sound import group, storage_account

storage_account(group(), network_rule_set={"default_action": "Allow"})
