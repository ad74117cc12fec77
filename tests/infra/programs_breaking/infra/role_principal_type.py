"""A managed identity that is said to be a person, as the SDK fills in."""

from infra.sound import assignment, group

assignment(group(), principal_type=None)
