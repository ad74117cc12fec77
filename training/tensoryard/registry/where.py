"""`run=mnist-0007 and accuracy>=0.97`: which versions are meant, as a small strict language."""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from tensoryard.errors import UsageError
from tensoryard.registry.records import ModelVersion

_NAME = re.compile(r"""\s*(?:'([^']+)'|"([^"]+)"|([^\W\d][\w./-]*))""")
_OP = re.compile(r"\s*(>=|<=|!=|=|>|<)")
_VALUE = re.compile(r"""\s*(?:'([^']*)'|"([^"]*)"|([^\s'"=<>!]+))""")
_AND = re.compile(r"\s+and(?=\s)", re.IGNORECASE)
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]{1,3})?", re.IGNORECASE)
_DATE = re.compile(r"[0-9]{4}(-[0-9]{2}(-[0-9]{2}([T ][0-9:.]*Z?)?)?)?")
_ALLOWED = (
    "a condition is NAME OP VALUE, OP is one of = != < <= > >=, conditions are joined by `and`, and what holds "
    "blanks or signs stands in quotes"
)
_EXAMPLE = "such as \"run=mnist-0007 and accuracy>=0.97 and tags.stage='ready to serve'\""
_LONGEST = 2000

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
_WHOLE = {"version", "size"}
_DIGESTS = {"tree", "code", "data", "environment"}
_INDEXED = {"run", "code", "data", "tree", "version"}


class Clause(NamedTuple):
    """
    One condition.

    name: a field of every version, else a metric or a tag; `metrics.`, `tags.` or `properties.` before it says which.
    value: as it was written, unquoted.
    """

    name: str
    op: str
    value: str


def parse_where(text: str) -> tuple[Clause, ...]:
    """The conditions of a text, all of which have to hold. Raises UsageError that says what is allowed."""
    if len(text) > _LONGEST:
        raise UsageError(f"where: got {len(text)} characters, at most {_LONGEST} are read")
    clauses: list[Clause] = []
    at = 0
    while True:
        name, at = _next(text, at, _NAME, "a name")
        op, at = _next(text, at, _OP, "one of = != < <= > >=")
        value, at = _next(text, at, _VALUE, "a value")
        clauses.append(_checked(name, op, value))
        if not text[at:].strip():
            return tuple(clauses)
        _, at = _next(text, at, _AND, "`and`")


def holds(clause: Clause, version: ModelVersion) -> bool:
    """Whether a version fulfils a condition; one that has nothing by that name fulfils none, not even `!=`."""
    seen = value_of(clause.name, version)
    if seen is None:
        return False
    if clause.name in _FIELDS:
        if clause.name in _WHOLE:
            return _compared(int(seen), clause.op, int(clause.value))
        # Of a time as much is compared as was given: a day is all of it.
        return _compared(
            str(seen)[: len(clause.value)] if clause.name == "created" else seen, clause.op, clause.value
        )
    numbers = _number(seen), _number(clause.value)
    if None not in numbers:
        return _compared(numbers[0], clause.op, numbers[1])
    return clause.op in ("=", "!=") and _compared(str(seen), clause.op, clause.value)


def value_of(name: str, version: ModelVersion) -> Any:
    """What a version has by a name: a field, else a metric, else a tag; None for nothing."""
    if name in _FIELDS:
        return _FIELDS[name](version)
    kind, dot, rest = name.partition(".")
    homes = _homes(version)
    if dot and kind in homes:
        return homes[kind].get(rest)
    return homes["metrics"].get(name, version.tags.get(name))


def names_of(version: ModelVersion) -> set[str]:
    """Every name that a condition on a version can have."""
    homes = _homes(version)
    return {*_FIELDS, *homes["metrics"], *homes["tags"], *(f"properties.{name}" for name in homes["properties"])}


def may_be_missing(name: str) -> bool:
    """Whether a version without such a name is nothing strange: it says itself whose name it is."""
    return name in _FIELDS or name.startswith(("metrics.", "tags.", "properties."))


def indexed(clauses: Iterable[Clause]) -> dict[str, str]:
    """The index tags that every version meant has, as far as conditions say so; see `records.index_tags`."""
    narrow = {clause.name: clause.value for clause in clauses if clause.op == "=" and clause.name in _INDEXED}
    if "version" in narrow:
        narrow["version"] = f"{int(narrow['version']):08d}"
    return narrow


def _next(text: str, at: int, pattern: re.Pattern[str], what: str) -> tuple[str, int]:
    """(what is written there without its quotes, where it ends)."""
    found = pattern.match(text, at)
    if found is None:
        there = f"got {text[at : at + 40].strip()!a}" if text[at:].strip() else "the text ends"
        raise UsageError(f"where: {text[:200]!a}: at character {at + 1} comes {what}, {there}: {_ALLOWED}", _EXAMPLE)
    return next((group for group in found.groups() if group is not None), ""), found.end()


def _checked(name: str, op: str, value: str) -> Clause:
    given = f"got {value[:100]!a}"
    if name in _WHOLE and not re.fullmatch(r"[0-9]{1,18}", value):
        raise UsageError(f"where: `{name}` is a whole number, {given}", _EXAMPLE)
    if name == "created":
        if not _DATE.fullmatch(value):
            rule = "is a time in UTC or its beginning, such as 2026-11 or 2026-11-23T14:05"
            raise UsageError(f"where: `created` {rule}, {given}", _EXAMPLE)
        value = value.replace(" ", "T")
    elif name in _FIELDS and name not in _WHOLE and op not in ("=", "!="):
        raise UsageError(f"where: `{name}` has no order, so it is compared by = or !=, got {op}", _EXAMPLE)
    elif name not in _FIELDS and op not in ("=", "!=") and _number(value) is None:
        raise UsageError(f"where: {name!a} is compared with a number by {op}, {given}", _EXAMPLE)
    if name in _DIGESTS:
        value = value.removeprefix("sha256:").lower()
    return Clause(name, op, value)


def _homes(version: ModelVersion) -> dict[str, Mapping[str, Any]]:
    metrics = version.lineage.get("metrics")
    return {
        "metrics": metrics if isinstance(metrics, dict) else {},
        "tags": version.tags,
        "properties": version.properties,
    }


def _number(value: Any) -> float | None:
    if isinstance(value, bool | int | float):
        try:
            return float(value)
        except OverflowError:  # a whole number of more digits than a float has
            return None
    return float(value) if isinstance(value, str) and _NUMBER.fullmatch(value) else None


def _compared(left: Any, op: str, right: Any) -> bool:
    if op in ("=", "!="):
        return bool((left == right) == (op == "="))
    return bool(left < right if op[0] == "<" else left > right) or (op.endswith("=") and bool(left == right))
