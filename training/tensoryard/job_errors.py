"""What is wrong with a field of a job: the place, what was given and what is allowed, in words and not in types."""

import difflib
import re
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from tensoryard.errors import JobError
from tensoryard.job import DatastoreReference, Job, ParameterServer, ParameterServerTraining
from tensoryard.slurm_target import SlurmOptions, SlurmTarget

FieldPath = tuple[str | int, ...]


class Place(NamedTuple):
    """Where a field was given, a line of the file or an option, and its value as it stands there."""

    text: str
    written: str | None = None


Places = dict[FieldPath, Place]

_KINDS = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "str": "text",
    "null": "nothing",
    "object": "a mapping of `name: value`",
    "array": "a list",
    "dict": "a mapping of `name: value`",
    "list": "a list",
    "NoneType": "nothing",
}


_REFERENCE = "`{datastore: default, path: ...}`"


def kind(value: Any) -> str:
    """What kind of value it is, as "a list"."""
    return _KINDS.get(type(value).__name__, type(value).__name__)


def where(path: Path, places: Places, at: FieldPath) -> str:
    """Where a field was given, or the nearest that holds it."""
    while at and at not in places:
        at = at[:-1]
    return places[at].text if at else str(path)


def explained(
    message: str, path: Path, fields: dict[str, Any], places: Places, struct: type[msgspec.Struct] = Job
) -> JobError:
    """
    msgspec's `Expected ... - at `$.a.b`` with the place, the value that was given and the nearest name.

    struct: what the fields were to be.
    """
    rule, _, at_text = message.partition(" - at `")
    at: FieldPath = tuple(
        int(index) if index.isdigit() else index or name
        for name, index in re.findall(r"\.([^.\[]+)|\[(\d+|\.\.\.)\]", at_text.rstrip("`"))
    )
    if "..." in at:
        # msgspec does not say which entry of a mapping it is: the first that is refused by itself.
        number = at.index("...")
        at = (*at[:number], _refused(struct, fields, at[:number]), *at[number + 1 :])
    unknown = re.search(r"unknown field `(.+)`", rule)
    if unknown:
        name = unknown[1]
        allowed = _known_fields(at) if at else [field.name for field in msgspec.structs.fields(struct)]
        named = {field: field for field in allowed}
        if not at and isinstance(params := fields.get("script_params"), dict):
            # Who means the script's own epochs writes `epochs`.
            named = {str(param).lstrip("-"): f"script_params.{param}" for param in params} | named
        near = difflib.get_close_matches(name, named, n=1, cutoff=0.5)
        fields_allowed = ", ".join(f"`{field}`" for field in allowed)
        hint = f"did you mean `{named[near[0]]}`?" if near else f"allowed are {fields_allowed}"
        return JobError(f"{where(path, places, (*at, name))}: unknown field `{name}`", hint)
    missing = re.search(r"missing required field `(.+)`", rule)
    if missing:
        within = f"{_named(at)}: " if at else ""
        message = f"{where(path, places, at)}: {within}the field `{missing[1]}` is missing"
        return JobError(message, hint=f"add `{missing[1]}: ...`")
    value = _value(fields, at)
    written = None
    given = kind(value)
    if not isinstance(value, (dict, list)) and value is not None:
        # As it stands there: YAML makes `true` of yes, and the reader looks for a yes.
        written = (places[at].written if at in places else None) or str(value)
        given = f"`{written}`"
    expected = _expected(rule, at)
    return JobError(
        f"{where(path, places, at)}: {_named(at)}: got {given}, expected {expected}",
        _hint(at, given, written, expected),
    )


def _named(at: FieldPath) -> str:
    """script_params.--data, or pip_packages[0]."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in at).removeprefix(".")


def _expected(rule: str, at: FieldPath) -> str:
    """msgspec's rule in words: "Expected `int | null`, got `str`" is "a whole number"."""
    if at[:1] == ("distributed_training",) and len(at) == 1:
        return "`mpi`, `multi_worker_mirrored` or `parameter_server: {...}`"
    if at == ("compute_target",):
        return "a name such as `local`, or `slurm: {...}`"
    if at[:1] == ("compute_targets",) and len(at) == 2:
        return '{"slurm": {...}}'
    if at[:1] == ("script_params",) and len(at) == 2:
        return f"text, a number, nothing or {_REFERENCE}"
    if at[:1] == ("inputs",) and len(at) == 2:
        return _REFERENCE
    if rule.startswith("Invalid enum value"):
        return "`mount` or `download`"
    types = re.search(r"Expected `([^`]+)`", rule)
    bound = re.search(r">= (\d+)", rule)
    if types is None:
        return rule[0].lower() + rule[1:]
    names = [_KINDS.get(name, name) for name in types[1].split(" | ") if name != "null"]
    return " or ".join(names) + (f", at least {bound[1]}" if bound else "")


def _hint(at: FieldPath, given: str, written: str | None, expected: str) -> str | None:
    if at == ("compute_target",):
        return "for example `compute_target: {slurm: {partition: gpu}}`; leave it out for this machine"
    if at == ("distributed_training",):
        return (
            "for example `distributed_training: mpi`, or "
            "`distributed_training: {parameter_server: {worker_count: 2, parameter_server_count: 1}}`; "
            "leave it out for one process"
        )
    if expected == "text" and given == "nothing":
        return 'an empty text is written ""'
    if expected == "text" and written is not None:
        return f'put it in quotes: "{written}"'
    if expected == "a list" and written is not None:
        return f"write it as a list: [{written}]"
    return None


def _value(fields: Any, at: FieldPath) -> Any:
    for part in at:
        try:
            fields = fields[part]
        except (KeyError, IndexError, TypeError):
            break
    return fields


def _refused(struct: Any, fields: dict[str, Any], at: FieldPath) -> str:
    """The name of the first entry of a mapping whose value its field does not take."""
    field = next(field for field in msgspec.structs.fields(struct) if field.name == at[0])
    for name, value in _value(fields, at).items():
        try:
            msgspec.convert({name: value}, field.type)
        except msgspec.ValidationError:
            return str(name)
    return "..."


def _known_fields(at: FieldPath) -> list[str]:
    struct: Any = Job
    if at[:1] == ("distributed_training",):
        struct = ParameterServer if len(at) > 1 else ParameterServerTraining
    elif at[:1] == ("compute_target",):
        struct = SlurmOptions if len(at) > 1 else SlurmTarget
    elif at[:1] == ("compute_targets",):
        struct = SlurmOptions if len(at) > 2 else SlurmTarget
    elif at:
        struct = DatastoreReference
    return [field.name for field in msgspec.structs.fields(struct)]
