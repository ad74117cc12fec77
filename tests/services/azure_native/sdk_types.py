"""What the SDK's own classes say of a resource: its inputs with their types, which are required, and its outputs."""

import collections.abc
import functools
import gc
import importlib
import inspect
import threading
import types
import typing
from enum import Enum
from typing import Any

import pulumi
from pulumi import _types

from .kinds import KINDS
from .wire import UNKNOWN

OPEN_ENUMS = {"VirtualMachineSizeTypes"}
"""Enums whose own documentation says that they are out of date: any text goes."""


# The SDK imports its modules at their first use, which two threads must not do at once.
_lock = threading.RLock()


@functools.cache
def resource_class(token: str) -> type | None:
    """The SDK's class of "azure-native:storage:StorageAccount", None where it has none."""
    package, module, name = token.split(":")
    if package != "azure-native":
        return None
    with _lock:
        try:
            return getattr(importlib.import_module(f"pulumi_azure_native.{module}"), name, None)
        except ModuleNotFoundError:
            return None


@functools.cache
def load() -> None:
    """
    Loads the SDK's modules of all kinds, and has the collector of garbage pass by what is in them from then on.

    Its 240,000 lasting objects are a third of all the time of whatever makes many short-lived ones afterwards.
    """
    collecting = gc.isenabled()
    gc.disable()
    for token in KINDS:
        resource_class(f"azure-native:{token}")
    gc.freeze()
    if collecting:
        gc.enable()


@functools.cache
def args_class(token: str) -> type:
    # Not f"{name}Args": where a nested type has that name the resource's own is called ...InitArgs.
    resource = resource_class(token)
    assert resource is not None
    module = importlib.import_module(resource.__module__)
    return getattr(module, next(name for name in module.__all__ if name.endswith("Args")))


def inputs_of(token: str) -> set[str]:
    with _lock:
        return set(_hints(args_class(token)))


@functools.cache
def outputs_of(token: str) -> set[str]:
    resource = resource_class(token)
    assert resource is not None
    with _lock:
        return set(_types.resource_types(resource)) - {"id", "urn"}


def faults(token: str, inputs: dict[str, Any]) -> list[tuple[str, str]]:
    """Everything wrong with a resource's inputs, as (property path, what is wrong)."""
    with _lock:
        return list(_object("", args_class(token), inputs))


@functools.cache
def _hints(cls: type) -> dict[str, Any]:
    return _types._raw_return_hints(cls)


@functools.cache
def _required(cls: type) -> set[str]:
    wire_names = _types.input_type_py_to_pulumi_names(cls)
    parameters = inspect.signature(cls).parameters.values()
    return {wire_names[each.name] for each in parameters if each.default is inspect.Parameter.empty}


def _object(path: str, cls: type, value: dict[str, Any]) -> collections.abc.Iterator[tuple[str, str]]:
    hints = _hints(cls)
    for name in sorted(_required(cls) - set(value)):
        yield _join(path, name), "is required and missing"
    for name, inner in value.items():
        if name.startswith("__"):
            continue
        if name not in hints:
            yield _join(path, name), f"is not a property of {cls.__name__}; those are {', '.join(sorted(hints))}"
        else:
            yield from _value(_join(path, name), hints[name], inner)


def _value(path: str, hint: Any, value: Any) -> collections.abc.Iterator[tuple[str, str]]:
    if value is UNKNOWN:
        return
    members = list(_members(hint))
    enums = [member for member in members if isinstance(member, type) and issubclass(member, Enum)]
    if enums and isinstance(value, str) and not any(enum.__name__ in OPEN_ENUMS for enum in enums):
        allowed = [each.value for enum in enums for each in enum]
        if value not in allowed:
            yield path, f"is {value!r}; {enums[0].__name__} has {', '.join(map(str, allowed))}"
        return
    tries = [list(_member(path, member, value)) for member in members]
    if tries and all(tries):
        # Of several forms the one that fits best says most.
        yield from min(tries, key=len)


def _member(path: str, member: Any, value: Any) -> collections.abc.Iterator[tuple[str, str]]:
    if member is Any:
        return
    origin = typing.get_origin(member)
    if origin in (collections.abc.Sequence, list):
        if not isinstance(value, list):
            yield path, f"is {_shown(value)}; a list is expected"
            return
        for index, inner in enumerate(value):
            yield from _value(f"{path}[{index}]", typing.get_args(member)[0], inner)
    elif origin in (collections.abc.Mapping, dict):
        if not isinstance(value, dict):
            yield path, f"is {_shown(value)}; a mapping is expected"
            return
        for key, inner in value.items():
            yield from _value(_join(path, key), typing.get_args(member)[1], inner)
    elif isinstance(member, type) and _types.is_input_type(member):
        if not isinstance(value, dict):
            yield path, f"is {_shown(value)}; {member.__name__} is expected"
            return
        yield from _object(path, member, value)
    elif isinstance(member, type) and issubclass(member, Enum):
        if value not in [each.value for each in member]:
            yield path, f"is {_shown(value)}; {member.__name__} is expected"
    else:
        kinds = {str: str, bool: bool, int: int, float: (int, float)}
        wanted = kinds.get(member)
        if wanted is None:
            raise TypeError(f"{path}: the SDK declares {member!r}, which this check does not know")
        if not isinstance(value, wanted) or (isinstance(value, bool) and member is not bool):
            yield path, f"is {_shown(value)}; {member.__name__} is expected"


def _members(hint: Any) -> collections.abc.Iterator[Any]:
    """The plain types of an annotation, without Optional, Awaitable and Output."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        for inner in typing.get_args(hint):
            yield from _members(inner)
    elif hint is not type(None) and typing.get_origin(hint) not in (collections.abc.Awaitable, pulumi.Output):
        yield hint


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
