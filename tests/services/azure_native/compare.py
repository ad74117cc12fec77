"""Plain values compared and looked into by property paths such as sku.capacity or subnets[0].name."""

from collections.abc import Iterator
from typing import Any

from .wire import Unknown


def differences(old: Any, new: Any, path: str = "", whole_lists: bool = False) -> dict[str, str]:
    """Where two values differ: {property path: ADD, DELETE or UPDATE}; whole_lists: a list counts as one value."""
    if isinstance(old, dict) and isinstance(new, dict):
        found: dict[str, str] = {}
        for key in sorted(set(old) | set(new)):
            inner = f"{path}.{key}" if path else key
            if key not in old or key not in new:
                found[inner] = "ADD" if key not in old else "DELETE"
            else:
                found |= differences(old[key], new[key], inner, whole_lists)
        return found
    if isinstance(old, list) and isinstance(new, list) and not whole_lists:
        found = {}
        for index in range(max(len(old), len(new))):
            inner = f"{path}[{index}]"
            if index >= len(old) or index >= len(new):
                found[inner] = "ADD" if index >= len(old) else "DELETE"
            else:
                found |= differences(old[index], new[index], inner)
        return found
    if path == "location" and isinstance(old, str) and isinstance(new, str):
        old, new = (text.lower().replace(" ", "") for text in (old, new))
    return {} if old == new and not isinstance(new, Unknown) else {path: "UPDATE"}


def at(value: Any, path: str) -> Any:
    """What is at a path of names, None where there is nothing."""
    for name in path.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return value


def texts(value: Any) -> Iterator[str]:
    """Every text in a value, however deep."""
    if isinstance(value, dict):
        for inner in value.values():
            yield from texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from texts(inner)
    elif isinstance(value, str):
        yield value


def given(properties: dict[str, Any]) -> dict[str, Any]:
    """Azure's answer in the shape of a request: the map of identities as a list again."""
    identities = at(properties, "identity.userAssignedIdentities")
    if isinstance(identities, dict):
        return properties | {"identity": properties["identity"] | {"userAssignedIdentities": [*identities]}}
    return properties
