"""
What a rule is, what it finds, and the declared resources as a rule sees them.

Rules are pure: they read what a program declared and nothing else. They import neither pulumi nor azure-native, so
the same rules run in the review, in the tests and inside the CrossGuard pack's own interpreter.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, Protocol

import msgspec

Severity = Literal["high", "medium", "low"]

UNKNOWN = "[unknown]"
"""In place of an input that is not known before the update, such as the id of a resource that is yet to be made."""


class Resource(Protocol):
    """One declared resource: what `infra.review.declare.Declared` offers, as far as rules read it."""

    @property
    def urn(self) -> str: ...
    @property
    def type(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def id(self) -> str: ...
    @property
    def parent(self) -> str | None: ...
    @property
    def inputs(self) -> Mapping[str, Any]: ...
    @property
    def outputs(self) -> Mapping[str, Any]: ...
    @property
    def protect(self) -> bool: ...
    @property
    def ignore_changes(self) -> Sequence[str]: ...
    @property
    def property_dependencies(self) -> Mapping[str, Sequence[str]]: ...


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """
    One thing that is wrong with one resource.

    problem: what was seen, one sentence; excepted_because: the reason of the exception that covers it, or None.
    """

    rule: str
    severity: Severity
    urn: str
    name: str
    problem: str
    fix: str
    excepted_because: str | None = None


Problem = tuple[Resource, str]


@dataclass(frozen=True, kw_only=True)
class Rule:
    """
    One rule: `look` yields each resource that breaks it, with what was seen there.

    why: what can happen if it stays; fix: what to write instead. `look` is None where the rule is about the
    exceptions themselves, which `check` alone can judge because it needs every other rule's findings.
    """

    id: str
    severity: Severity
    title: str
    why: str
    fix: str
    look: Callable[["Resources"], Iterable[Problem]] | None


class Resources:
    """The declared resources of one program, with the few questions that rules ask about them."""

    def __init__(self, declared: Sequence[Resource]) -> None:
        self.all = tuple(declared)

    @cached_property
    def _by_type(self) -> dict[str, list[Resource]]:
        by_type: dict[str, list[Resource]] = {}
        for resource in self.all:
            by_type.setdefault(plain_type(resource.type), []).append(resource)
        return by_type

    def of(self, *types: str) -> Iterator[Resource]:
        """Resources of these types, each written `module:Resource` as in `storage:StorageAccount`."""
        for type_ in types:
            yield from self._by_type.get(f"azure-native:{type_}", ())

    def named_in(self, resource: Resource, key: str, value: object, *types: str) -> Resource | None:
        """
        The resource of one of `types` that `value`, found somewhere under the input `key`, means.

        By its Azure id where that is known. Before the first `pulumi up` it is not: then by the dependency that the
        engine recorded for the input, if only one resource of these types is behind it.
        """
        candidates = list(self.of(*types))
        if isinstance(value, str) and value:
            low = value.lower()
            for candidate in candidates:
                own = candidate.id.lower()
                if own and (low == own or low.startswith(own + "/")):
                    return candidate
        behind = resource.property_dependencies.get(key, ())
        found = [candidate for candidate in candidates if candidate.urn in behind]
        return found[0] if len(found) == 1 else None

    def points_at(self, resource: Resource, key: str, target: Resource) -> bool:
        """Whether the input `key` of a resource is the target's id, or a part of it such as its blob service."""
        value = resource.inputs.get(key)
        if isinstance(value, str) and target.id:
            own = target.id.lower()
            if value.lower() == own or value.lower().startswith(own + "/"):
                return True
        return target.urn in resource.property_dependencies.get(key, ())


def plain_type(type_: str) -> str:
    """The type without an API version, such as that in `azure-native:storage/v20240101:StorageAccount`."""
    package, _, rest = type_.partition(":")
    module, _, name = rest.partition(":")
    return f"{package}:{module.partition('/')[0]}:{name}" if name else type_


def at(value: object, *path: str) -> Any:
    """What stands under nested keys, None where one of them is absent: `at(inputs, "properties", "sku", "name")`."""
    for key in path:
        if not isinstance(value, Mapping):
            return None
        value = value.get(key)
    return value


def rows(value: object) -> list[Mapping[str, Any]]:
    """The objects of a list, and nothing where there is no list."""
    return [row for row in value if isinstance(row, Mapping)] if isinstance(value, list | tuple) else []


def texts(*values: object) -> list[str]:
    """The texts among values and in the lists among them."""
    found: list[str] = []
    for value in values:
        if isinstance(value, str):
            found.append(value)
        elif isinstance(value, list | tuple):
            found.extend(item for item in value if isinstance(item, str))
    return found
