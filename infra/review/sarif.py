"""The review as SARIF 2.1.0, which GitHub shows beside the lines that it is about."""

from __future__ import annotations

from typing import Any

from infra import policy
from infra.review.changes import Change
from infra.review.document import Found, Review, StackReview

SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
LEVELS = {"high": "error", "medium": "warning", "low": "note"}
# GitHub sorts security findings by this figure. Source: GitHub docs, "SARIF support for code scanning"
SCORES = {"high": "8.0", "medium": "5.0", "low": "2.0"}

# What the review itself finds, beside the policy.
OWN = {
    "data-lost": ("Data is lost where this is applied", "error"),
    "update-refused": ("Azure refuses this update", "warning"),
    "settings-refused": ("The program refuses the stack's settings", "note"),
    "program-error": ("The program ends in an error", "error"),
}


def sarif(review: Review) -> dict[str, Any]:
    """The SARIF log. A finding of several stacks at one line is one result per stack: reasons may differ."""
    results = [result for stack in review.stacks for result in _results(stack)]
    rules = [
        {
            "id": rule.id,
            "shortDescription": {"text": rule.title},
            "fullDescription": {"text": rule.why},
            "help": {"text": rule.fix},
            "defaultConfiguration": {"level": LEVELS[rule.severity]},
            "properties": {"security-severity": SCORES[rule.severity], "tags": ["security"]},
        }
        for rule in policy.RULES
    ] + [
        {"id": id_, "shortDescription": {"text": title}, "defaultConfiguration": {"level": level}}
        for id_, (title, level) in OWN.items()
    ]
    places = {rule["id"]: at for at, rule in enumerate(rules)}
    for result in results:
        result["ruleIndex"] = places[result["ruleId"]]
    driver = {"name": "tyard infra review", "rules": rules}
    return {"$schema": SCHEMA, "version": "2.1.0", "runs": [{"tool": {"driver": driver}, "results": results}]}


def _results(stack: StackReview) -> list[dict[str, Any]]:
    if stack.broken is not None:
        text = f"stack {stack.stack}: {stack.broken}"
        return [_result("program-error", "error", text, "infra/__main__.py", 1, stack.stack)]
    found = [_finding(one, stack.stack) for one in stack.findings]
    found += [result for change in stack.changes for result in _change(change, stack.stack)]
    if stack.refusal is not None:
        refusal = stack.refusal
        text = f"stack {stack.stack}: {refusal.refused.text}"
        found.append(_result("settings-refused", "note", text, refusal.file, refusal.line, stack.stack))
        if refusal.instead is not None:
            found += _results(refusal.instead)
    return found


def _finding(found: Found, stack: str) -> dict[str, Any]:
    text = f"stack {stack}, {found.name}: {found.problem}. {found.why} {found.fix}"
    result = _result(found.rule, LEVELS[found.severity], text, found.file, found.line, f"{stack} {found.urn}")
    if found.excepted_because is not None:
        result["suppressions"] = [{"kind": "inSource", "justification": found.excepted_because}]
    return result


def _change(change: Change, stack: str) -> list[dict[str, Any]]:
    key = f"{stack} {change.urn}"
    if change.loses_data:
        text = f"stack {stack}: {change.name} is {change.kind}, with {change.holds}"
        text += f" ({change.why})" if change.why else ""
        return [_result("data-lost", "error", text, change.file, change.line, key)]
    if change.refused and change.kind == "changed":
        paths = ", ".join(found.path for found in change.properties if found.effect == "refused")
        text = f"stack {stack}: Azure takes no update of {paths} of {change.name}"
        return [_result("update-refused", "warning", text, change.file, change.line, key)]
    return []


def _result(rule: str, level: str, text: str, file: str, line: int, key: str) -> dict[str, Any]:
    place = {
        "physicalLocation": {
            "artifactLocation": {"uri": file or "infra/__main__.py"},
            "region": {"startLine": max(line, 1)},
        }
    }
    return {
        "ruleId": rule,
        "level": level,
        "message": {"text": text.replace("`", "'")},
        "locations": [place],
        "partialFingerprints": {"resource/v1": f"{rule} {key}"},
    }
