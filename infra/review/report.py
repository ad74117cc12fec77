"""The review as Markdown for a pull request: sentences and tables made here, their order in report.md.j2."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from infra.review.access import Grant
from infra.review.changes import Change, Property
from infra.review.cost import Cost
from infra.review.create_only import short_type
from infra.review.document import Review, StackReview
from infra.review.prices import HOURS_A_MONTH, SPOT_PERCENT

LONGEST_VALUE = 120
LONGEST_DIFF = 60
_ID = re.compile(r"/subscriptions/[0-9a-f-]{36}/resourceGroups/[^/\s\"]+/providers/Microsoft\.[A-Za-z]+/")


def markdown(review: Review) -> str:
    """The whole document, ending in one line break."""
    import jinja2

    environment = jinja2.Environment(  # noqa: S701 - Markdown, not HTML: every value goes through a filter of its own
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "cell": cell,
        "code": code,
        "text": text,
        "value": value,
        "money": money,
        "kind": lambda change: short_type(change.type),
    }
    environment.globals |= {
        "sentence": sentence,
        "refused": refused,
        "row": row,
        "node_row": node_row,
        "diff": diff,
        "by_type": by_type,
        "roles": roles,
        "HOURS_A_MONTH": HOURS_A_MONTH,
        "SPOT_PERCENT": SPOT_PERCENT,
    }
    made = environment.get_template("report.md.j2").render(review=review)
    return re.sub(r"\n{3,}", "\n\n", made).strip() + "\n"


def text(words: Any) -> str:
    """Text whose own signs Markdown and HTML would take for markup; spans between backticks stay code."""
    parts = re.split(r"((?<!`)`[^`]+`(?!`))", " ".join(str(words).split()))
    return "".join(
        part if at % 2 else re.sub(r"([\\*_\[\]#~]|^[-+>])", r"\\\1", part).replace("<", "&lt;").replace("`", "\\`")
        for at, part in enumerate(parts)
    )


def cell(words: Any) -> str:
    """Text inside a table: on one line, with its bars escaped (GitHub reads bars in code as bars too)."""
    return text(words).replace("|", "\\|")


def code(words: Any) -> str:
    """A name or value as code, also inside a table; one with backticks gets longer fences."""
    shown = " ".join(str(words).split()).replace("|", "\\|") or " "
    longest = max((len(run) for run in re.findall("`+", shown)), default=0)
    fence = "`" * (longest + 1)
    room = " " if "`" in shown else ""
    return f"{fence}{room}{shown}{room}{fence}"


def value(given: Any) -> str:
    """A property's value as code, ids and long texts shortened; nothing where it is absent."""
    if given is None:
        return "(not set)"
    shown = given if isinstance(given, str) else json.dumps(given, ensure_ascii=False)
    shown = _ID.sub("…/", shown)
    return code(shown if len(shown) <= LONGEST_VALUE else f"{shown[: LONGEST_VALUE - 1]}…")


def money(amount: float, digits: int = 2) -> str:
    """An amount in US dollars."""
    return f"-${-amount:,.{digits}f}" if amount < 0 else f"${amount:,.{digits}f}"


def between(pair: tuple[float, float], digits: int = 2) -> str:
    """One amount, or the range where the two differ."""
    low, high = (money(amount, digits) for amount in pair)
    return low if low == high else f"{low} to {high}"


def _count(number: int, one: str, several: str | None = None) -> str:
    return f"{number} {one if number == 1 else several or f'{one}s'}"


def sentence(stack: StackReview) -> str:
    """The summary of one stack in a few sentences."""
    counts = stack.counts
    parts = [f"{counts[kind]} {kind}" for kind in ("created", "changed", "replaced", "removed") if counts.get(kind)]
    if stack.against == "base" and stack.unchanged:
        parts.append(f"{stack.unchanged} unchanged")
    words = [f"Resources: {', '.join(parts)}." if parts else "No resource is declared."]
    if stack.against == "base" and not stack.changes:
        words = [f"Nothing changes: all {stack.unchanged} resources stay as they are."]
    lost = [change for change in stack.changes if change.loses_data]
    if lost:
        names = ", ".join(f"`{change.name}`" for change in lost[:6]) + (" and more" if len(lost) > 6 else "")
        words.append(f"**Data goes with {names}.**")
    refused = [change for change in stack.changes if change.refused and change.kind == "changed"]
    if refused:
        words.append(f"Azure would refuse {_count(len(refused), 'of these updates', 'of these updates')}.")
    words.append(_finding_words(stack))
    words.append(_cost_words(stack))
    return " ".join(words)


def refused(stack: StackReview) -> str:
    """The outcome of a refused stack for a table's cell."""
    refusal = stack.refusal
    if refusal is None:
        return ""
    words = f"refused: {code(refusal.refused.key)} is {cell(refusal.refused.given)}"
    if refusal.instead is not None and refusal.instead.status == "reviewed":
        words += f". With {code(refusal.successor)} instead: {cell(_cost_words(refusal.instead))}"
    return words


def _finding_words(stack: StackReview) -> str:
    found = stack.open_findings
    accepted = f"{_count(len(stack.accepted), 'exception')} {'is' if len(stack.accepted) == 1 else 'are'} accepted"
    if not found:
        return f"No policy finding is open; {accepted}."
    worst = found[0]
    named = f"the worst ({worst.severity}): {worst.title[:1].lower()}{worst.title[1:]} (`{worst.name}`)"
    new = sum(bool(one.new) for one in found)
    news = f", {new} of them new" if stack.against == "base" else ""
    return f"{_count(len(found), 'open policy finding')}{news}, {named}; {accepted}."


def _cost_words(stack: StackReview) -> str:
    cost = stack.cost
    if cost is None:
        return ""
    words = f"At rest about {money(cost.monthly)} a month"
    if stack.cost_before is not None:
        change = round(cost.monthly - stack.cost_before, 2)
        words += f" ({'+' if change > 0 else ''}{money(change)} against the base)" if change else " (as in the base)"
    hours = [f"{between(node.hourly, 3)} for `{node.cluster}`" for node in cost.nodes if node.hourly]
    return f"{words}{', and per node-hour ' + ', '.join(hours) if hours else ''}."


def row(change: Change, found: Property) -> str:
    """One changed property as a table row."""
    effect = {"replaced": "**forces the replacement**", "refused": "**Azure refuses this update**", None: ""}
    source = f"{effect[found.effect]} ({cell(found.source)})" if found.effect else "in place"
    after = text(found.after) if str(found.after).startswith("(known") else value(found.after)
    return f"| {code(found.path)} | {value(found.before)} | {after} | {source} |"


def diff(found: Property) -> str:
    """The lines of a changed text, as many as a reader takes in, inside a fence that the text cannot end."""
    lines = list(found.lines[:LONGEST_DIFF])
    if len(found.lines) > LONGEST_DIFF:
        lines.append(f"… and {len(found.lines) - LONGEST_DIFF} lines more")
    longest = max((len(run) for run in re.findall("`{3,}", "\n".join(lines))), default=2)
    fence = "`" * (longest + 1)
    return f"{fence}diff\n" + "\n".join(lines) + f"\n{fence}"


def node_row(cost: Cost) -> list[str]:
    """The table rows of what an hour of each cluster's nodes costs."""
    rows = []
    for node in cost.nodes:
        hourly = between(node.hourly, 3) if node.hourly else "unknown"
        everyone = "unknown"
        if node.all_nodes is not None:
            everyone = f"{between(node.all_nodes)} ({node.max_nodes} nodes)"
        size = f"{code(node.size)}{', Spot' if node.spot else ''}"
        cells = [
            code(node.cluster),
            size,
            hourly,
            everyone,
            cell(node.quota),
            cell(node.arithmetic),
            cell(node.source),
        ]
        rows.append(f"| {' | '.join(cells)} |")
    return rows


def by_type(changes: Sequence[Change]) -> list[str]:
    """Created resources by type, as table rows."""
    types: dict[str, list[Change]] = {}
    for change in changes:
        types.setdefault(short_type(change.type), []).append(change)
    return [
        f"| {code(type_)} | {len(found)} | {', '.join(code(change.name) for change in found)} |"
        for type_, found in sorted(types.items())
    ]


def roles(grants: Sequence[Grant]) -> list[tuple[str, tuple[str, ...]]]:
    """The program's own roles with what each allows, sorted."""
    return sorted({grant.role: grant.actions for grant in grants if grant.actions}.items())
