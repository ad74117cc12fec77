"""The settings as a table for people: key, type, default, meaning, all out of the types in infra/settings.py."""

from __future__ import annotations

import json
from typing import Any

import msgspec
from msgspec import inspect

from infra.settings.error import LOCATION
from infra.settings.model import Settings

BEGIN, END = "<!-- settings: begin -->", "<!-- settings: end -->"


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """
    One setting. key: "headSize", "clusters[].vmSize"; kind: Pulumi's word for its type; choices: the texts or the
    bounds allowed, "" where any; default: its JSON value, None = not set; required: has no default.
    """

    key: str
    kind: str
    choices: str
    default: Any
    required: bool
    meaning: str


def rows(kind: type[msgspec.Struct] = Settings, prefix: str = "") -> list[Row]:
    """A row for each field of a settings struct, those of its parts after it."""
    described = inspect.type_info(kind)
    assert isinstance(described, inspect.StructType)
    found: list[Row] = []
    for field in described.fields:
        plain, meaning = _plain(field.type)
        default = None if field.default is msgspec.NODEFAULT else field.default
        if field.default_factory is not msgspec.NODEFAULT:
            default = field.default_factory()
        key = f"{prefix}{field.encode_name}"
        found.append(
            Row(
                key=LOCATION if key == "location" else key,
                kind=_kind(plain),
                choices=_choices(plain),
                default=_as_json(default),
                required=field.required,
                meaning=meaning,
            )
        )
        if isinstance(plain, inspect.VarTupleType) and isinstance(plain.item_type, inspect.StructType):
            found += rows(plain.item_type.cls, f"{key}[].")
    return found


def _plain(described: inspect.Type) -> tuple[inspect.Type, str]:
    """A field's type without what is written about it, and its description."""
    meaning = ""
    while isinstance(described, inspect.Metadata):
        meaning = meaning or str((described.extra_json_schema or {}).get("description", ""))
        described = described.type
    if isinstance(described, inspect.UnionType):
        described = next(each for each in described.types if not isinstance(each, inspect.NoneType))
    return described, meaning


def _kind(described: inspect.Type) -> str:
    """Pulumi's word for a type."""
    match described:
        case inspect.BoolType():
            return "boolean"
        case inspect.IntType():
            return "integer"
        case inspect.VarTupleType():
            return "array"
        case inspect.DictType() | inspect.StructType():
            return "object"
        case _:
            return "string"


def _choices(described: inspect.Type) -> str:
    """What the type allows, as text."""
    match described:
        case inspect.LiteralType():
            return ", ".join(f"`{each}`" for each in described.values)
        case inspect.IntType():
            return f"{described.ge} to {described.le}"
        case _:
            return ""


def _as_json(default: Any) -> Any:
    """A default as a stack file would write it; a part's own defaults are left out of it."""
    if isinstance(default, tuple):
        return [_as_json(each) for each in default]
    if isinstance(default, msgspec.Struct):
        fields = msgspec.structs.fields(type(default))
        return {each.encode_name: getattr(default, each.name) for each in fields if each.required}
    return default


def markdown() -> str:
    """The table, a line each."""
    lines = ["| Key | Type | Default | Meaning |", "| --- | --- | --- | --- |"]
    for row in rows():
        key = row.key if ":" in row.key else f"tensoryard:{row.key}"
        default = "required" if row.required else "not set" if row.default is None else f"`{json.dumps(row.default)}`"
        meaning = f"{row.meaning}: {row.choices}" if row.choices else row.meaning
        lines.append(f"| `{key}` | {row.kind} | {default} | {meaning} |")
    return "\n".join(lines) + "\n"
