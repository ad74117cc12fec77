"""Nodes that own a container."""

from infra.sound import AZURE, assignment, group

assignment(group(), role_definition_id=f"{AZURE}/8e3af657-a8ff-443c-a75c-2fe8c4bcb635")
