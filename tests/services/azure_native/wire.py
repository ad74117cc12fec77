"""Pulumi's property values on the wire, as Python values and back."""

from typing import Any

from google.protobuf import struct_pb2

UNKNOWN_MARK = "04da6b54-80e4-46f7-96ec-b56ff0331ba9"


class Unknown:
    """A value that a preview cannot know yet."""

    def __repr__(self) -> str:
        return "unknown"


UNKNOWN = Unknown()


def read(value: struct_pb2.Struct | struct_pb2.Value) -> Any:
    """The value in Python: whole numbers as int (the wire knows floats only), nulls left out of objects."""
    if isinstance(value, struct_pb2.Struct):
        pairs = ((key, read(inner)) for key, inner in sorted(value.fields.items()))
        return {key: inner for key, inner in pairs if inner is not None}
    match value.WhichOneof("kind"):
        case "struct_value":
            return read(value.struct_value)
        case "list_value":
            return [read(inner) for inner in value.list_value.values]
        case "number_value":
            return int(value.number_value) if value.number_value.is_integer() else value.number_value
        case "bool_value":
            return value.bool_value
        case "string_value":
            return UNKNOWN if value.string_value == UNKNOWN_MARK else value.string_value
    return None


def write(properties: dict[str, Any]) -> struct_pb2.Struct:
    struct = struct_pb2.Struct()
    struct.update({key: _plain(value) for key, value in properties.items()})
    return struct


def _plain(value: Any) -> Any:
    if value is UNKNOWN:
        return UNKNOWN_MARK
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    return value
