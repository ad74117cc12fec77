"""The one error of a stack's settings, and how its parts are written: key, value, what is allowed, how to set it."""

from __future__ import annotations

import difflib
import json
import re
import shlex
from collections.abc import Iterable
from typing import Any

PROJECT = "tensoryard"
LOCATION = "azure-native:location"


class SettingsError(Exception):
    """
    A setting that cannot become a workspace, told in one paragraph.

    key: the config key as Pulumi writes it, such as `tensoryard:clusters[0].vmSize`; given: the value, as text;
    allowed: what may stand there, whole sentences; how: the command or the step that puts it right.
    """

    def __init__(self, key: str, given: str, allowed: str, how: str) -> None:
        self.key = _one_line(key)
        self.given = _one_line(given)
        self.allowed = _one_line(allowed)
        self.how = _one_line(how)
        super().__init__(f"`{self.key}` is {self.given}: {self.allowed} {self.how}".strip())


def _one_line(text: str) -> str:
    """The text without line breaks, control characters or halves of characters, so that it prints anywhere."""
    printable = "".join(c if c.isprintable() or c.isspace() else ascii(c)[1:-1] for c in text)
    return " ".join(printable.split())


def full_key(path: str) -> str:
    """The key as Pulumi names it: `tensoryard:` before every path, but for the region, which is azure-native's."""
    return path if path == LOCATION else f"{PROJECT}:{path}"


def shown(value: Any) -> str:
    """The value as a person wrote it, in backticks, shortened where it is long, whatever it is."""
    if isinstance(value, str):
        text = value if value and "`" not in value else json.dumps(value)
    else:
        try:
            text = json.dumps(value)
        except (TypeError, ValueError, RecursionError):
            text = f"a {type(value).__name__}"
    if len(text) > 60:
        text = text[:57] + "..."
    return f"`{text}`"


def set_with(path: str, value: str | int | bool) -> str:
    """The sentence with the exact `pulumi config set` command that gives the key this value."""
    return f"Set it with `{command(path, value)}`."


def command(path: str, value: str | int | bool) -> str:
    """
    The `pulumi config set` command that gives the key this value, quoted for a shell.

    A key that reaches into a list or an object needs `--path`, and there Pulumi makes numbers of texts that look like
    numbers, unless it is told that they are texts.
    """
    key = full_key(path)
    text = value if isinstance(value, str) else json.dumps(value)
    words = ["pulumi", "config", "set", shlex.quote(key), shlex.quote(text)]
    if not re.fullmatch(r"[\w:-]+", key):
        words.insert(3, "--path")
        if isinstance(value, str) and re.fullmatch(r"\d+|true|false", value):
            words += ["--type", "string"]
    return " ".join(words)


def remove_with(path: str) -> str:
    """The sentence with the `pulumi config rm` command that takes a key, an item or a name away."""
    key = full_key(path)
    option = "" if re.fullmatch(r"[\w:-]+", key) else "--path "
    return f"Remove it with `pulumi config rm {option}{shlex.quote(key)}`."


def nearest(given: str, known: Iterable[str]) -> str | None:
    """The known word most like the one given, letters' case aside, or None when nothing is near."""
    by_lower = {word.lower(): word for word in known}
    found = difflib.get_close_matches(given.lower()[:100], by_lower, n=1, cutoff=0.6)
    return by_lower[found[0]] if found else None


def listed(words: Iterable[str], last: str = "or") -> str:
    """Words as prose, each in backticks: `a`, `b` or `c`."""
    *firsts, end = [f"`{word}`" for word in words]
    return f"{', '.join(firsts)} {last} {end}" if firsts else end
