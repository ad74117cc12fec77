"""The review as one document: what JSON prints, and what the Markdown and SARIF are made from."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec

from infra import policy, sizes
from infra.review import access, base, changes, cost, declare, picture, reach
from infra.review.access import Grant
from infra.review.changes import Change
from infra.review.cost import Cost
from infra.review.declare import Declaration, Declared, Refused
from infra.review.reach import Opening

FORMAT = 1
SEVERITIES = ("high", "medium", "low")


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """
    One policy finding. title, why, fix: of its rule; problem: what was seen; excepted_because: the reason of an
    accepted exception; new: whether the base did not have it, None without a base; file, line: of the resource.
    """

    rule: str
    severity: policy.Severity
    name: str
    urn: str
    title: str
    problem: str
    why: str
    fix: str
    excepted_because: str | None = None
    new: bool | None = None
    file: str = ""
    line: int = 0


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """
    Settings that the program refused. line: in the stack's file; size: the retired size where that is the reason,
    successor: what Microsoft names instead; instead: the review with the successor.
    """

    refused: Refused
    file: str
    line: int
    size: str | None = None
    retired_on: str | None = None
    successor: str | None = None
    instead: StackReview | None = None


class StackReview(msgspec.Struct, frozen=True, kw_only=True):
    """
    One stack. against: "base", or why there is nothing to compare with; unchanged: count of resources that stay as
    they are; cost_before: monthly at rest in the base, None without one; network, access: Mermaid flowcharts.
    A removed stack is one that only the base has settings for.
    """

    stack: str
    status: Literal["reviewed", "refused", "broken", "removed"]
    against: str
    broken: str | None = None
    refusal: Refusal | None = None
    messages: tuple[str, ...] = ()
    changes: tuple[Change, ...] = ()
    unchanged: int = 0
    openings: tuple[Opening, ...] = ()
    grants: tuple[Grant, ...] = ()
    cost: Cost | None = None
    cost_before: float | None = None
    findings: tuple[Found, ...] = ()
    network: str = ""
    access: str = ""

    @property
    def open_findings(self) -> list[Found]:
        """Findings that nobody has accepted."""
        return [found for found in self.findings if found.excepted_because is None]

    @property
    def accepted(self) -> list[Found]:
        """Findings with an exception."""
        return [found for found in self.findings if found.excepted_because is not None]

    @property
    def counts(self) -> dict[str, int]:
        """Changes by kind."""
        return dict(Counter(change.kind for change in self.changes))


class Review(msgspec.Struct, frozen=True, kw_only=True):
    """All stacks asked for. base: the git revision compared with, or None."""

    format: int = FORMAT
    base: str | None = None
    stacks: tuple[StackReview, ...] = ()

    def worst(self) -> str | None:
        """The highest severity that somebody still has to deal with."""
        found = {found.severity for stack in self.stacks for found in stack.open_findings}
        return next((severity for severity in SEVERITIES if severity in found), None)


def review(root: Path, stacks: Sequence[str], ref: str | None) -> Review:
    """
    The review of these stacks as they stand in the folder root, against the git revision ref where one is given.

    Raises base.BaseError where ref cannot be compared with.
    """
    if ref is None:
        made = [_review(root, declare.declaration(root, stack), None, NO_BASE) for stack in stacks]
        return Review(stacks=tuple(made))
    with base.unpacked(root, ref) as folder:
        if folder is None:
            against = f"`{ref}` has no program yet: everything is created"
            made = [_review(root, declare.declaration(root, stack), None, against) for stack in stacks]
            return Review(base=ref, stacks=tuple(made))
        there = declare.stacks(folder)
        shared = [stack for stack in stacks if stack in there]
        process = base.start(folder, shared) if shared else None
        try:
            heads = [declare.declaration(root, stack) for stack in stacks]
            bases = base.result(process) if process else {}
        finally:
            if process and process.poll() is None:
                process.kill()
                process.wait()
        made = [_against(root, head, bases.get(head.stack), ref) for head in heads]
        kept = declare.stacks(root)
        if list(stacks) == kept:
            made += [StackReview(stack=name, status="removed", against="base") for name in there if name not in kept]
    return Review(base=ref, stacks=tuple(made))


NO_BASE = "no base was named: everything is shown as created"


def _against(root: Path, head: Declaration, old: Declaration | None, ref: str) -> StackReview:
    if old is None:
        return _review(root, head, None, f"`{ref}` has no such stack: everything is created")
    if old.refused is not None:
        reason = f"at `{ref}` the program refused this stack's settings: everything is created"
        return _review(root, head, None, reason)
    if old.broken is not None:
        reason = f"at `{ref}` the program ended in an error ({old.broken}): everything is shown as created"
        return _review(root, head, None, reason)
    return _review(root, head, old.resources, "base")


def _review(root: Path, head: Declaration, old: Sequence[Declared] | None, against: str) -> StackReview:
    if head.broken is not None:
        return StackReview(stack=head.stack, status="broken", against=against, broken=head.broken)
    if head.refused is not None:
        refusal = _refusal(root, head, head.refused, old, against)
        return StackReview(stack=head.stack, status="refused", against=against, refusal=refusal)
    found = changes.compare(old or (), head.resources)
    openings = reach.openings(head.resources)
    grants = access.grants(head.resources)
    own = sum(resource.custom for resource in head.resources)
    return StackReview(
        stack=head.stack,
        status="reviewed",
        against=against,
        messages=head.messages,
        changes=tuple(found),
        unchanged=own - sum(change.kind != "removed" for change in found),
        openings=tuple(openings),
        grants=tuple(grants),
        cost=cost.estimate(head.resources),
        cost_before=cost.estimate(old).monthly if old is not None else None,
        findings=tuple(_findings(head.resources, old)),
        network=picture.network(head.resources, openings),
        access=picture.access(grants),
    )


def _findings(resources: Sequence[Declared], old: Sequence[Declared] | None) -> list[Found]:
    rules = {rule.id: rule for rule in policy.RULES}
    places = {resource.urn: resource for resource in resources}
    before = {(found.rule, found.urn) for found in policy.check(old)} if old is not None else None
    made = []
    for found in policy.check(resources):
        rule, place = rules[found.rule], places.get(found.urn)
        made.append(
            Found(
                rule=found.rule,
                severity=found.severity,
                name=found.name,
                urn=found.urn,
                title=rule.title,
                problem=found.problem,
                why=rule.why,
                fix=found.fix,
                excepted_because=found.excepted_because,
                new=None if before is None else (found.rule, found.urn) not in before,
                file=place.file if place else "",
                line=place.line if place else 0,
            )
        )
    return sorted(made, key=lambda found: (SEVERITIES.index(found.severity), found.rule, found.name))


def _refusal(
    root: Path, head: Declaration, refused: Refused, old: Sequence[Declared] | None, against: str
) -> Refusal:
    """The refusal with its place in the stack's file and, for a retired size, what its successor would make."""
    file = f"stacks/Pulumi.{head.stack}.yaml"
    retired = _retired(refused, head.config)
    if retired is None:
        return Refusal(refused=refused, file=file, line=_line(root / file, refused.key, None))
    size, config = retired
    instead = declare.declaration(root, head.stack, config)
    return Refusal(
        refused=refused,
        file=file,
        line=_line(root / file, refused.key, size.name),
        size=size.name,
        retired_on=size.retired_on.isoformat() if size.retired_on else None,
        successor=size.successor,
        # A second refusal of the same kind would end nowhere: it is told by itself.
        instead=_review(root, instead, old, against) if instead.refused is None else None,
    )


def _retired(refused: Refused, config: dict[str, Any]) -> tuple[sizes.Size, dict[str, Any]] | None:
    """The retired size that was refused, and the config with every retired one replaced by its successor."""
    place = re.search(r"clusters\[(\d+)\]\.vmSize$", refused.key)
    key = refused.key.partition("[")[0]
    clusters = config.get(key)
    if place is None or not isinstance(clusters, list) or int(place[1]) >= len(clusters):
        return None
    named = str(clusters[int(place[1])].get("vmSize") or "")
    size = sizes.find(named)
    if size is None or size.successor is None:
        return None
    replaced = []
    for cluster in clusters:
        own = sizes.find(str(cluster.get("vmSize") or ""))
        replaced.append({**cluster, "vmSize": own.successor} if own and own.successor else cluster)
    return size, {key: replaced}


def _line(path: Path, key: str, value: str | None) -> int:
    """The line of a stack's file that holds a value, or the key's last name; 1 where neither stands there."""
    lines = path.read_text("utf-8").splitlines() if path.exists() else []
    name = re.split(r"[.:]", re.sub(r"\[\d+]", "", key))[-1]
    for text in (value, f"{name}:"):
        for number, line in enumerate(lines, 1):
            if text and text in line:
                return number
    return 1
