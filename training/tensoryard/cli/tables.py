"""How commands print data: JSON for programs, aligned columns for people."""

from collections.abc import Sequence
from typing import Any

import click


def minute(at: str) -> str:
    """The minute of an ISO 8601 time, as tables show it (UTC)."""
    return at[:16].replace("T", " ")


def pairs(values: dict[str, Any], empty: str = "-") -> str:
    """Names and values on one line, floats to four digits; empty where there is none."""
    return (
        " ".join(
            f"{key}={value:.4g}" if isinstance(value, float) else f"{key}={value}" for key, value in values.items()
        )
        or empty
    )


def short_json(value: Any) -> str:
    """A value as JSON on one line, cut to 100 characters."""
    import msgspec

    text = msgspec.json.encode(value).decode()
    return text if len(text) <= 100 else f"{text[:97]}..."


def print_json(value: Any) -> None:
    """Prints a value as indented JSON to stdout."""
    import msgspec

    click.echo(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())


def print_table(header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    """Prints rows to stdout in aligned columns, below a header where there is one."""
    lines = [tuple(map(_one_line, line)) for line in ([header, *rows] if header else rows)]
    widths = [max(len(line[at]) for line in lines) for at in range(len(lines[0]))]
    for line in lines:
        click.echo("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip())


def _one_line(text: str) -> str:
    """The text without what would break a line or steer a terminal: a tag may hold anything."""
    return (
        text
        if text.isprintable()
        else "".join(sign if sign.isprintable() else "\N{REPLACEMENT CHARACTER}" for sign in text)
    )
