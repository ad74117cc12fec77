"""What the program would change against its base: created, changed, replaced or removed, property by property."""

from __future__ import annotations

import base64
import binascii
import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import msgspec

from infra.review.create_only import HOLDS_DATA, effect_of, short_type
from infra.review.declare import Declared

Kind = Literal["created", "changed", "replaced", "removed"]
ABSENT = msgspec.UNSET
NEW = "(known after the replacement)"


class Property(msgspec.Struct, frozen=True, kw_only=True):
    """
    One changed property: path such as `subnets[nodes].addressPrefix`, values before and after, absent ones None.

    effect: "replaced" where it makes the provider replace the resource, "refused" where Azure refuses the update;
    source: where that is known from; lines: a diff, for texts of many lines.
    """

    path: str
    before: Any = None
    after: Any = None
    effect: Literal["replaced", "refused"] | None = None
    source: str | None = None
    lines: tuple[str, ...] = ()


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """
    What happens to one resource. holds: the data in it, None where it has none; why: the reason of a replacement.

    protected: Pulumi's `protect` or a lock refuses the deletion; parent: the component's name; file, line: where the
    program declares it (of a removed one: where the base did).
    """

    urn: str
    type: str
    name: str
    kind: Kind
    parent: str | None = None
    holds: str | None = None
    why: str | None = None
    protected: bool = False
    properties: tuple[Property, ...] = ()
    file: str = ""
    line: int = 0

    @property
    def loses_data(self) -> bool:
        """Whether data goes with it."""
        return self.holds is not None and self.kind in ("replaced", "removed")

    @property
    def refused(self) -> bool:
        """Whether Azure would refuse the change half-way."""
        return any(found.effect == "refused" for found in self.properties)


def compare(base: Sequence[Declared], head: Sequence[Declared]) -> list[Change]:
    """
    The changes that make the base's resources the head's, the worst first; components and the stack are left out.

    A resource is the same one where its URN, or an alias of the head's, is the same. Whatever takes a value from a
    replaced resource gets a new value too, and is itself replaced where that property cannot be changed in place.
    """
    before = {resource.urn: resource for resource in base if resource.custom}
    pairs: list[tuple[Declared | None, Declared]] = []
    renamed: dict[str, str] = {}
    for resource in head:
        if not resource.custom:
            continue
        urn = next((urn for urn in (resource.urn, *resource.aliases) if urn in before), None)
        old = before.pop(urn) if urn else None
        pairs.append((old, resource))
        if old is not None and old.id != resource.id and old.urn != resource.urn and _auto_named(old, resource):
            renamed |= {resource.id: old.id, resource.outputs["name"]: old.outputs["name"]}
    names = {resource.urn: resource.name for resource in (*base, *head) if not resource.custom}
    changes: dict[str, Change] = {}
    replaced: set[str] = set()
    locked = _locked(head) | _locked(base)
    for old, new in _in_order(pairs):
        change = _change(old, new, replaced, renamed, names.get(new.parent or ""))
        if change is None:
            continue
        if old is not None and change.kind == "replaced":
            replaced.add(new.urn)
            change = msgspec.structs.replace(change, protected=old.protect or old.id in locked)
        changes[new.urn] = change
    for old in before.values():
        changes[old.urn] = Change(
            urn=old.urn,
            type=old.type,
            name=old.name,
            kind="removed",
            parent=names.get(old.parent or ""),
            holds=HOLDS_DATA.get(short_type(old.type)),
            protected=old.protect or old.id in locked,
            file=old.file,
            line=old.line,
        )
    return sorted(changes.values(), key=_worst_first)


def _worst_first(change: Change) -> tuple[int, str, str]:
    kinds = {"removed": 1, "replaced": 2, "changed": 3, "created": 4}
    return (0 if change.loses_data else kinds[change.kind]), change.type, change.name


def _auto_named(old: Declared, new: Declared) -> bool:
    """Whether the provider made both names up: it keeps the one that is there."""
    hexes = re.compile(r"[0-9a-f]{8}$")
    return bool(hexes.search(str(old.outputs.get("name"))) and hexes.search(str(new.outputs.get("name"))))


def _locked(resources: Sequence[Declared]) -> set[str]:
    """Ids of what a CanNotDelete or ReadOnly lock stands on."""
    return {
        str(lock.inputs.get("scope"))
        for lock in resources
        if short_type(lock.type).startswith("authorization:ManagementLock") and lock.inputs.get("scope")
    }


def _in_order(pairs: Sequence[tuple[Declared | None, Declared]]) -> Iterator[tuple[Declared | None, Declared]]:
    """Each resource after all that it depends on."""
    waiting = {new.urn: (old, new) for old, new in pairs}
    done: set[str] = set()

    def visit(urn: str) -> Iterator[tuple[Declared | None, Declared]]:
        if urn in done or urn not in waiting:
            return
        done.add(urn)
        for dependency in waiting[urn][1].dependencies:
            yield from visit(dependency)
        yield waiting[urn]

    for urn in waiting:
        yield from visit(urn)


def _change(
    old: Declared | None, new: Declared, replaced: set[str], renamed: Mapping[str, str], parent: str | None
) -> Change | None:
    about: dict[str, Any] = {
        "urn": new.urn,
        "type": new.type,
        "name": new.name,
        "parent": parent,
        "holds": HOLDS_DATA.get(short_type(new.type)),
        "file": new.file,
        "line": new.line,
    }
    if old is None:
        return Change(kind="created", **about)
    found = [
        _property(new, path, before, after)
        for path, before, after in differences(old.inputs, _with(renamed, new.inputs))
        if not _ignored(new.ignore_changes, path)
    ]
    seen = {re.split(r"[.\[]", item.path)[0] for item in found}
    for path, urns in new.property_dependencies.items():
        behind = sorted(urn.rpartition("::")[2] for urn in urns if urn in replaced)
        if behind and path not in seen and path in new.inputs and not _ignored(new.ignore_changes, path):
            effect = effect_of(new.type, path, declared=new.replace_on_changes)
            found.append(
                Property(
                    path=path,
                    before=old.inputs.get(path),
                    after=f"{NEW}: `{'`, `'.join(behind)}`",
                    effect=effect[0] if effect else None,
                    source=effect[1] if effect else None,
                )
            )
    if old.protect != new.protect:
        found.append(Property(path="(protect)", before=old.protect, after=new.protect))
    if not found:
        return None
    forcing = [item.path for item in found if item.effect == "replaced"]
    return Change(
        kind="replaced" if forcing else "changed",
        why=f"`{'`, `'.join(forcing)}` cannot be changed in place" if forcing else None,
        properties=tuple(found),
        **about,
    )


def _property(resource: Declared, path: str, before: Any, after: Any) -> Property:
    values = [None if value is ABSENT else value for value in (before, after)]
    effect = effect_of(resource.type, path, values[0], values[1], resource.replace_on_changes)
    texts = [_text(value) for value in values]
    lines: tuple[str, ...] = ()
    if any("\n" in text for text in texts):
        diff = difflib.unified_diff(texts[0].splitlines(), texts[1].splitlines(), "before", "after", n=2, lineterm="")
        lines = tuple(diff)[2:]
        counts = [sum(line.startswith(sign) for line in lines) for sign in "-+"]
        values = [f"{len(text.splitlines())} lines" if text else None for text in texts]
        values[1] = f"{values[1]} ({counts[1]} added, {counts[0]} removed)"
    return Property(
        path=path,
        before=values[0],
        after=values[1],
        effect=effect[0] if effect else None,
        source=effect[1] if effect else None,
        lines=lines,
    )


def _text(value: Any) -> str:
    """A text of many lines, also where it travels as Base64 as cloud-init does; else ""."""
    if not isinstance(value, str):
        return ""
    if "\n" in value:
        return value
    if len(value) > 80 and re.fullmatch(r"[A-Za-z0-9+/]+=*", value):
        try:
            return base64.b64decode(value, validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            return ""
    return ""


def differences(before: Any, after: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """
    Each path at which two JSON values differ, with the value on either side, ABSENT where there is none.

    Objects in lists are told apart by their `name` where all have one, else by position; other lists are one value.
    """
    if isinstance(before, dict) and isinstance(after, dict):
        for key in sorted(before.keys() | after.keys()):
            inner = f"{path}.{key}" if path else key
            yield from differences(before.get(key, ABSENT), after.get(key, ABSENT), inner)
    elif _rows(before) and _rows(after):
        left, right = _by_name(before), _by_name(after)
        for key in left | right:
            yield from differences(left.get(key, ABSENT), right.get(key, ABSENT), f"{path}[{key}]")
    elif type(before) is not type(after) or before != after:
        yield path, before, after


def _rows(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(row, dict) for row in value)


def _by_name(rows: list[dict[str, Any]]) -> dict[str, Any]:
    names = [row.get("name") for row in rows]
    named = all(isinstance(name, str) for name in names) and len(set(names)) == len(names)
    return {str(name) if named else str(at): row for at, (name, row) in enumerate(zip(names, rows, strict=True))}


def _ignored(patterns: Sequence[str], path: str) -> bool:
    """Whether `ignore_changes` covers a path; an index in brackets may be `*`."""
    for pattern in patterns:
        expression = re.escape(pattern).replace(re.escape("[*]"), r"\[[^]]*]").replace(re.escape("*"), "[^.]*")
        if re.match(rf"{expression}($|[.\[])", path):
            return True
    return False


def _with(renamed: Mapping[str, str], value: Any) -> Any:
    """The value with the ids and names that aliased resources keep in place of those made up for their new URN."""
    if not renamed:
        return value
    if isinstance(value, dict):
        return {_with(renamed, key): _with(renamed, inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_with(renamed, inner) for inner in value]
    if isinstance(value, str):
        for new in sorted(renamed, key=len, reverse=True):
            value = value.replace(new, renamed[new])
    return value
