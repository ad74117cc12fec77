"""Storage that says it is protected, and is not."""

from infra.sound import TAGS, group, storage_account

storage_account(group(), tags={**TAGS, "data": "protected"})
