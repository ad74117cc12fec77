"""`run=mnist-0007 and accuracy>=0.97`: which versions are meant, as a small strict language."""

import re
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from tensoryard.errors import UsageError
from tensoryard.registry.records import ModelVersion

_CLAUSE = re.compile(
    r"""\s*(?P<name>[^\W\d][\w./-]*)\s*(?P<op>>=|<=|!=|=|>|<)\s*(?P<value>'[^']*'|"[^"]*"|[^\s'"=<>!]+)\s*"""
)
_AND = re.compile(r"and\s", re.IGNORECASE)
_ALLOWED = (
    "a condition is NAME OP VALUE, OP is one of = != < <= > >=, conditions are joined by `and`, and a value with "
    "blanks stands in quotes"
)
_EXAMPLE = "such as `run=mnist-0007 and accuracy>=0.97 and tags.stage='ready to serve'`"

_FIELDS: dict[str, Callable[[ModelVersion], Any]] = {
    "model": lambda version: version.name,
    "version": lambda version: version.version,
    "run": lambda version: version.run_id,
    "created": lambda version: version.created_at,
    "by": lambda version: version.created_by,
    "size": lambda version: version.size_bytes,
    "tree": lambda version: version.tree_digest,
    "experiment": lambda version: version.lineage.get("experiment"),
    "code": lambda version: version.lineage.get("snapshot"),
    "data": lambda version: version.lineage.get("data_digest"),
    "environment": lambda version: version.lineage.get("environment"),
    "tensorflow": lambda version: version.lineage.get("tensorflow"),
}
_NUMBERS = {"version", "size"}
_TIMES = {"created"}
_INDEXED = {"run", "code", "data", "tree", "version"}


class Clause(NamedTuple):
    """One condition. name: a field of every version, else a metric or a tag; value: as it was written, unquoted."""

    name: str
    op: str
    value: str


def parse_where(text: str) -> tuple[Clause, ...]:
    """The conditions of a text, all of which have to hold. Raises UsageError that says what is allowed."""
    clauses: list[Clause] = []
    at = 0
    while True:
        found = _CLAUSE.match(text, at)
        if found is None:
            raise UsageError(f"where: got `{text}`, which cannot be read from `{text[at:]}` on: {_ALLOWED}", _EXAMPLE)
        value = found["value"]
        clauses.append(_checked(Clause(found["name"], found["op"], value[1:-1] if value[0] in "'\"" else value)))
        at = found.end()
        if at == len(text):
            return tuple(clauses)
        joined = _AND.match(text, at)
        if joined is None:
            raise UsageError(f"where: got `{text}`, expected `and` before `{text[at:]}`: {_ALLOWED}", _EXAMPLE)
        at = joined.end()


def holds(clause: Clause, version: ModelVersion) -> bool:
    """Whether a version fulfils a condition; one that has nothing by that name fulfils none."""
    seen = value_of(clause.name, version)
    if seen is None:
        return False
    if clause.name not in _TIMES:
        numbers = _number(seen), _number(clause.value)
        if None not in numbers and clause.name not in _FIELDS.keys() - _NUMBERS:
            return _compared(numbers[0], clause.op, numbers[1])
        if clause.op not in ("=", "!="):
            return False
    return _compared(str(seen), clause.op, clause.value)


def value_of(name: str, version: ModelVersion) -> Any:
    """What a version has by a name: a field, else a metric, else a tag; None for nothing."""
    if name in _FIELDS:
        return _FIELDS[name](version)
    kind, dot, rest = name.partition(".")
    metrics = version.lineage.get("metrics")
    homes = {"metrics": metrics if isinstance(metrics, dict) else {}, "tags": version.tags}
    if dot and kind in homes:
        return homes[kind].get(rest)
    return homes["metrics"].get(name, version.tags.get(name))


def names_of(versions: Iterable[ModelVersion]) -> set[str]:
    """Every name that a condition on one of these versions can have."""
    names = set(_FIELDS)
    for version in versions:
        metrics = version.lineage.get("metrics")
        names.update(metrics if isinstance(metrics, dict) else (), version.tags)
    return names


def indexed(clauses: Iterable[Clause]) -> dict[str, str]:
    """The index tags that every version meant has, as far as conditions say so; see `records.index_tags`."""
    narrow = {clause.name: clause.value for clause in clauses if clause.op == "=" and clause.name in _INDEXED}
    if "version" in narrow:
        narrow["version"] = f"{int(narrow['version']):08d}"
    return narrow


def _checked(clause: Clause) -> Clause:
    name, op, value = clause
    if name in _NUMBERS and not re.fullmatch(r"[0-9]{1,18}", value):
        raise UsageError(f"where: `{name}` is a whole number, got `{value}`")
    if name in _FIELDS and name not in _NUMBERS | _TIMES and op not in ("=", "!="):
        raise UsageError(f"where: `{name}` has no order, so it is compared by = or !=, got `{op}`")
    if name not in _FIELDS and op not in ("=", "!=") and _number(value) is None:
        raise UsageError(f"where: `{name}` is compared as a number by {op}, got `{value}`")
    return clause


def _number(value: Any) -> float | None:
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


def _compared(left: Any, op: str, right: Any) -> bool:
    answers = {
        "=": left == right,
        "!=": left != right,
        "<": left < right,
        "<=": left <= right,
        ">": left > right,
        ">=": left >= right,
    }
    return bool(answers[op])
