"""Config values, whatever they are, as the typed settings: the one place that knows Pulumi's ways of writing them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec
from msgspec import inspect

from infra.settings.error import (
    LOCATION,
    PROJECT,
    SettingsError,
    full_key,
    listed,
    nearest,
    remove_with,
    set_with,
    shown,
)

T = TypeVar("T", bound=msgspec.Struct)


def read_struct(kind: type[T], values: Any, path: str = "") -> T:
    """
    A settings struct from a mapping with camelCase keys.

    path: the mapping's own key, "" for the whole stack. What is None is taken as not set. Lists and objects may come
    as JSON texts, numbers and booleans as their texts: that is how `pulumi config` hands them over.
    Raises SettingsError: an unknown key (with the nearest one), a missing one, a value of another kind.
    """
    described = inspect.type_info(kind)
    assert isinstance(described, inspect.StructType)
    found = _mapping(values, path, described)
    fields = {field.encode_name: field for field in described.fields}
    read: dict[str, Any] = {}
    for key, value in found.items():
        inner = f"{path}.{key}" if path else str(key)
        field = fields.get(key) if isinstance(key, str) else None
        if field is None:
            raise _unknown(inner, key, value, [name for name in fields if path or name != "location"], path)
        # Pulumi asks every stack for a key without default in Pulumi.yaml, so there an empty text stands for none.
        unset = value is None or (value == "" and field.default is None)
        if not unset:
            read[field.name] = _read(field.type, value, LOCATION if inner == "location" else inner, field.default)
    for field in described.fields:
        if field.required and field.name not in read:
            inner = f"{path}.{field.encode_name}" if path else field.encode_name
            raise _missing(LOCATION if inner == "location" else inner, field)
    return kind(**read)


def _mapping(values: Any, path: str, described: inspect.StructType) -> Mapping[Any, Any]:
    """The mapping that an object of settings is."""
    found = _from_json(values)
    if isinstance(found, Mapping):
        return found
    names = listed((field.encode_name for field in described.fields), "and")
    key = described.fields[0].encode_name
    example = f"{remove_with(path)} {set_with(f'{path}.{key}', _example(key))}" if path else ""
    raise SettingsError(full_key(path) if path else PROJECT, shown(values), f"It is an object: {names}.", example)


def _unknown(inner: str, key: Any, value: Any, known: list[str], path: str) -> SettingsError:
    """The error for a key that there is not."""
    near = nearest(key, known) if isinstance(key, str) else None
    name = full_key(inner)
    meant = f"{path}.{near}" if path and near else near
    given = f"no setting (it is given as {shown(value)})"
    allowed = f"There is no such key; the nearest is `{full_key(meant)}`." if meant else "There is no such key."
    if not meant:
        allowed += f" Keys there are: {listed(known, 'and')}."
    how = f"Rename it in the stack's file. {remove_with(inner)}"
    return SettingsError(name, given, allowed, how)


def _example(key: str) -> str:
    """A value for a key that has no default."""
    return {"name": "gpucluster", "objectId": "11111111-2222-3333-4444-555555555555"}[key]


def _missing(path: str, field: inspect.Field) -> SettingsError:
    """The error for a key that has to be set and is not."""
    meaning = _meaning(field.type)
    example = "eastus" if path == LOCATION else _example(field.encode_name)
    return SettingsError(full_key(path), "not set", f"It has no default: {meaning}.", set_with(path, example))


def _meaning(described: inspect.Type) -> str:
    """The description of a field, as written beside it."""
    if isinstance(described, inspect.Metadata):
        return str((described.extra_json_schema or {}).get("description", ""))
    return ""


def _read(described: inspect.Type, value: Any, path: str, default: Any = None) -> Any:
    """A value as its field's type. default: the field's own, the example in an error."""
    while isinstance(described, inspect.Metadata):
        described = described.type
    if isinstance(described, inspect.UnionType):
        described = next(kind for kind in described.types if not isinstance(kind, inspect.NoneType))
    match described:
        case inspect.BoolType():
            return _read_bool(value, path)
        case inspect.IntType():
            return _read_int(described, value, path, default)
        case inspect.LiteralType():
            return _read_choice([str(choice) for choice in described.values], value, path, default)
        case inspect.VarTupleType():
            return _read_list(described.item_type, value, path)
        case inspect.DictType():
            return _read_texts(value, path)
        case inspect.StructType():
            return read_struct(described.cls, value, path)
        case _:
            return _read_text(value, path, default)


def _read_bool(value: Any, path: str) -> bool:
    """true or false, or either word as text."""
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.strip().lower() in ("true", "false"):
        return value.strip().lower() == "true"
    raise SettingsError(full_key(path), shown(value), "It is `true` or `false`.", set_with(path, True))


def _read_int(described: inspect.IntType, value: Any, path: str, default: Any) -> int:
    """A whole number within its bounds, or its digits as text."""
    low, high = described.ge, described.le
    assert low is not None
    assert high is not None
    number: int | None = None
    if isinstance(value, int) and not isinstance(value, bool):
        number = value
    elif isinstance(value, float):
        number = int(value) if value.is_integer() else None
    elif isinstance(value, str) and re.fullmatch(r"\s*[+-]?[0-9]{1,18}\s*", value):
        number = int(value)
    if number is not None and low <= number <= high:
        return number
    example = default if number is None else int(min(max(number, low), high))
    allowed = f"It is a whole number from {low} to {high}."
    raise SettingsError(full_key(path), shown(value), allowed, set_with(path, example))


def _read_choice(choices: list[str], value: Any, path: str, default: Any) -> str:
    """One of a few words, in any letters' case."""
    by_lower = {choice.lower(): choice for choice in choices}
    found = by_lower.get(value.strip().lower()) if isinstance(value, str) else None
    if found is None:
        near = nearest(value, choices) if isinstance(value, str) else None
        near = near or (default if default in choices else choices[0])
        raise SettingsError(full_key(path), shown(value), f"It is {listed(choices)}.", set_with(path, near))
    return found


def _read_list(item: inspect.Type, value: Any, path: str) -> tuple[Any, ...]:
    """A list, each of its items read."""
    found = _from_json(value)
    if not isinstance(found, (list, tuple)):
        described = item.type if isinstance(item, inspect.Metadata) else item
        if isinstance(described, inspect.StructType):
            first = described.fields[0].encode_name
            how = set_with(f"{path}[0].{first}", _example(first))
        else:
            how = set_with(f"{path}[0]", found if isinstance(found, str) else "1")
        raise SettingsError(full_key(path), shown(value), "It is a list.", f"{remove_with(path)} {how}")
    return tuple(_read(item, each, f"{path}[{index}]") for index, each in enumerate(found))


def _read_texts(value: Any, path: str) -> dict[str, str]:
    """An object whose values are texts."""
    found = _from_json(value)
    if not isinstance(found, Mapping):
        how = f"{remove_with(path)} {set_with(f'{path}.team', 'vision')}"
        raise SettingsError(full_key(path), shown(value), "It is an object of names and texts.", how)
    return {_read_text(key, path): _read_text(each, f"{path}.{key}") for key, each in found.items()}


def _read_text(value: Any, path: str, default: Any = None) -> str:
    """A text; a number or a boolean as YAML and Pulumi make them of texts that look so, as the text it was."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int) and abs(value) < 10**18:
        return str(value)
    if isinstance(value, str):
        return value
    example = default if isinstance(default, str) else "text"
    raise SettingsError(full_key(path), shown(value), "It is a text.", set_with(path, example))


def _from_json(value: Any) -> Any:
    """A list or an object that came as JSON text, as that; anything else as it is."""
    if isinstance(value, str) and value.lstrip()[:1] in ("[", "{"):
        try:
            return msgspec.json.decode(value.encode())
        except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
            return value
    return value
