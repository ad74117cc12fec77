"""
The images that a Dockerfile is built on, and the same Dockerfile with other names for them. Pure.

Those of `FROM`, `COPY --from` and `RUN --mount=from=`, less stages of the file itself and `scratch`.
Source: https://docs.docker.com/reference/dockerfile/ (parser directives, ARG before FROM, here-documents).
"""

import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from tensoryard.environment.image_unpack import machine
from tensoryard.errors import JobError

_DIRECTIVE = re.compile(r"\s*#\s*(\w+)\s*=\s*(\S+)\s*$")
_HEREDOC = re.compile(r"(?:^|\s)\d*<<-?([\"']?)([A-Za-z_][\w.-]*)\1(?=[\s;&|>)]|$)")
_FROM = re.compile(r"\s*FROM(?:\s+--\S+)*\s+(\S+)(?:\s+AS\s+(\S+))?\s*$", re.IGNORECASE)
_COPY = re.compile(r"\s*COPY\s(?:\s*--\S+)*?\s*--from=(\S+)", re.IGNORECASE)
_MOUNT = re.compile(r"\s--mount=(?:\S*,)?from=([^\s,]+)", re.IGNORECASE)
_ARG = re.compile(r"\s*ARG\s+(.*)$", re.IGNORECASE | re.DOTALL)
_GIVEN = re.compile(r"([A-Za-z_]\w*)(?:=(\"[^\"]*\"|'[^']*'|\S*))?")
_VARIABLE = re.compile(r"\$(?:([A-Za-z_]\w*)|\{([A-Za-z_]\w*)(?::([-+])([^}]*))?\})")


class Base(NamedTuple):
    """An image that a Dockerfile names. name: with its variables replaced; line: from 1; start, end: in the text."""

    name: str
    line: int
    start: int
    end: int


class Bases(NamedTuple):
    """named: every place, in order; last: the name that the last stage begins with in the end, "" for scratch."""

    named: tuple[Base, ...]
    last: str


def bases(text: str, file: str = "Dockerfile") -> Bases:
    """
    The images that a Dockerfile is built on.

    file: its name, for errors. Raises JobError with the line where a name has a variable without a value.
    """
    known = {"TARGETOS": "linux", "BUILDOS": "linux", "TARGETARCH": machine(), "BUILDARCH": machine()}
    known |= {f"{whose}PLATFORM": f"linux/{machine()}" for whose in ("TARGET", "BUILD")}
    stages: dict[str, str] = {}
    found: list[Base] = []
    last, begun = "", False
    for line, instruction, places in _instructions(text):

        def add(match: re.Match[str], name: str, line: int = line, places: list[int] = places) -> None:
            found.append(Base(name, line, places[match.start(1)], places[match.end(1) - 1] + 1))

        if match := _FROM.match(instruction):
            begun = True
            name = _expanded(match[1].strip("\"'"), known, f"{file}:{line}: FROM")
            last = stages.get(name.lower(), name)
            if name.lower() not in stages and name != "scratch":
                add(match, name)
            if match[2]:
                stages[match[2].lower()] = last
        elif not begun and (match := _ARG.match(instruction)):
            for one, value in _GIVEN.findall(match[1]):
                if value:
                    known[one] = _expanded(value.strip("\"'"), known, f"{file}:{line}: ARG")
        elif instruction.lstrip()[:4].upper() in ("COPY", "RUN ", "RUN\t"):
            for match in (*_COPY.finditer(instruction), *_MOUNT.finditer(instruction)):
                # A number is a stage's; variables are taken by some builders only.
                if match[1].lower() not in stages and not match[1].isdigit() and "$" not in match[1]:
                    add(match, match[1])
    return Bases(tuple(found), "" if last == "scratch" else last)


def renamed(text: str, found: Bases, names: Mapping[str, str]) -> str:
    """A Dockerfile with other names for what it is built on; names: the new by the old."""
    for base in reversed(found.named):
        text = text[: base.start] + names.get(base.name, base.name) + text[base.end :]
    return text


def _instructions(text: str) -> Iterator[tuple[int, str, list[int]]]:
    """Each instruction: the number of its first line, its text without line breaks, where each character stands."""
    lines = text.splitlines(keepends=True)
    starts = [0]
    for one in lines:
        starts.append(starts[-1] + len(one))
    escape, at = "\\", 0
    while at < len(lines) and (directive := _DIRECTIVE.match(lines[at])):
        escape = directive[2] if directive[1].lower() == "escape" else escape
        at += 1
    while at < len(lines):
        first, parts, places = at, "", list[int]()
        while at < len(lines):
            line = lines[at].rstrip()
            at += 1
            if line.lstrip().startswith("#") or (parts and not line):  # within an instruction too
                continue
            goes_on = line.endswith(escape)
            line = line.removesuffix(escape)
            places += range(starts[at - 1], starts[at - 1] + len(line))
            parts += line
            if not goes_on:
                break
        if parts.lstrip()[:4].upper() in ("RUN ", "COPY", "ADD "):
            at = _after_documents(parts, lines, at)
        if parts.strip():
            yield first + 1, parts, places


def _after_documents(instruction: str, lines: list[str], at: int) -> int:
    """The line after the here-documents of an instruction."""
    for _, end in _HEREDOC.findall(instruction):
        after = next((number for number in range(at, len(lines)) if lines[number].strip() == end), None)
        if after is None:  # it was none
            return at
        at = after + 1
    return at


def _expanded(word: str, known: Mapping[str, str], place: str) -> str:
    def value(found: re.Match[str]) -> str:
        name, how, other = found[1] or found[2], found[3], found[4]
        if how == "+":
            return other if known.get(name) else ""
        if known.get(name):
            return known[name]
        if how == "-":
            return other
        raise JobError(
            f"{place}: got `{word}`, and `{name}` has no value",
            hint=f"`ARG {name}=...` above the first FROM gives it one",
        )

    return _VARIABLE.sub(value, word)
