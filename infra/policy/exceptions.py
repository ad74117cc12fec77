"""
Justified exceptions: a resource of type `tensoryard:policy:Exception` beside the one that it excuses.

Its inputs are `rule` (a rule's id), `resource` (the urn of the excused resource) and `because` (why it is all right).
"""

import re
from collections.abc import Sequence

import msgspec

from infra.policy.rules import Finding, Resource, Resources, Rule

EXCEPTION = "tensoryard:policy:Exception"

UNEXPLAINED = Rule(
    id="exception-unexplained",
    severity="high",
    title="An exception gives no reason",
    why="Nobody can later tell whether it still holds; it excuses nothing.",
    fix="Write `because` as a sentence: what is accepted here, and what makes that safe.",
    look=None,
)
UNUSED = Rule(
    id="exception-unused",
    severity="medium",
    title="An exception excuses nothing",
    why="It would hide the finding if that came back, after everybody has forgotten why.",
    fix="Remove the exception, or correct its rule and resource.",
    look=None,
)
RULES = (UNEXPLAINED, UNUSED)

WORDS_LEAST = 5


def apply(findings: Sequence[Finding], resources: Resources, known_rules: frozenset[str]) -> list[Finding]:
    """The findings, each with the reason of the exception that covers it, and what is wrong with the exceptions."""
    excused: dict[tuple[str, str], str] = {}
    wrong: list[Finding] = []
    found = {(finding.rule, finding.urn) for finding in findings}
    for exception in resources.all:
        if exception.type != EXCEPTION:
            continue
        rule, urn, because = (str(exception.inputs.get(key) or "") for key in ("rule", "resource", "because"))
        if len(re.findall(r"\w+", because)) < WORDS_LEAST:
            wrong.append(_finding(UNEXPLAINED, exception, f"`because` of the exception to `{rule}` is {because!r}"))
        elif rule not in known_rules:
            wrong.append(_finding(UNUSED, exception, f"there is no rule `{rule}`"))
        elif (rule, urn) not in found:
            name = urn.rpartition("::")[2] or "no resource"
            wrong.append(_finding(UNUSED, exception, f"`{rule}` finds nothing wrong with `{name}`"))
        else:
            excused[rule, urn] = because
    return [
        msgspec.structs.replace(finding, excepted_because=excused.get((finding.rule, finding.urn)))
        for finding in findings
    ] + wrong


def _finding(rule: Rule, exception: Resource, problem: str) -> Finding:
    return Finding(
        rule=rule.id, severity=rule.severity, urn=exception.urn, name=exception.name, problem=problem, fix=rule.fix
    )
