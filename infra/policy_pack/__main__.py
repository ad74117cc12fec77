"""
The policy as a CrossGuard pack: `pulumi up --policy-pack infra/policy_pack`.

Each rule of `infra/policy` is one policy of the same name. A high finding fails the preview that precedes an update,
others are warnings, and one that an exception in the program covers is not reported. Rules look at a whole stack,
which the engine shows last: with `--skip-preview` they fail an update that has been made.

Proven by tests: the pack under the engine's own protocol and under the real engine, which starts it by a launcher.
Not proven: that the published CLI's Python language host starts it from PulumiPolicy.yaml.

Runs in an interpreter of its own, made by `tools/tool-venv policy-pack` (pulumi-policy needs protobuf 5). mypy checks
this file in that interpreter's environment: `mypy --strict --python-executable .venv-policy-pack/bin/python`.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from pulumi_policy import (
    EnforcementLevel,
    Policy,
    PolicyPack,
    PolicyResource,
    ReportViolation,
    ResourceValidationArgs,
    ResourceValidationPolicy,
    Severity,
    StackValidationArgs,
    StackValidationPolicy,
)
from pulumi_policy.proxy import UnknownValueError

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from infra.policy import RULES, Finding, Rule, check
from infra.policy.rules import UNKNOWN

LEVELS = {
    "high": EnforcementLevel.MANDATORY,
    "medium": EnforcementLevel.ADVISORY,
    "low": EnforcementLevel.ADVISORY,
}
SEVERITIES = {"high": Severity.HIGH, "medium": Severity.MEDIUM, "low": Severity.LOW}


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """One resource as the engine shows it to a stack policy, in the form that rules read."""

    urn: str
    type: str
    name: str
    id: str
    parent: str | None
    inputs: dict[str, Any]
    outputs: dict[str, Any]
    protect: bool
    ignore_changes: tuple[str, ...]
    property_dependencies: dict[str, tuple[str, ...]]


# What the program gave for each resource. The engine shows a stack policy only what came out, where an exception's
# reason or a machine's custom data is missing; it shows the inputs one by one before.
_inputs: dict[str, dict[str, Any]] = {}


def _plain(value: object) -> Any:
    """Plain JSON of what the engine passed on; what is not known before the update becomes `UNKNOWN`."""
    if isinstance(value, Mapping):
        return {key: _item(value, key) for key in value}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_item(value, index) for index in range(len(value))]
    return value


def _item(values: Any, key: object) -> Any:
    try:
        return _plain(values[key])
    except UnknownValueError:
        return UNKNOWN


def _seen(resource: PolicyResource) -> Seen:
    outputs = _plain(resource.props)
    return Seen(
        urn=resource.urn,
        type=resource.resource_type,
        name=resource.name,
        id=outputs.get("id") or "",
        parent=resource.parent.urn if resource.parent else None,
        inputs=_inputs.get(resource.urn, outputs),
        outputs=outputs,
        protect=bool(resource.opts.protect),
        ignore_changes=tuple(resource.opts.ignore_changes),
        property_dependencies={
            key: tuple(behind.urn for behind in resources)
            for key, resources in resource.property_dependencies.items()
        },
    )


def _remember(args: ResourceValidationArgs, _: ReportViolation) -> None:
    _inputs[args.urn] = _plain(args.props)


# What all rules found in the stack that is being looked at, and the rules that have reported theirs.
_found: list[Finding] = []
_reported: set[str] = set()


def _judge(rule: Rule) -> Callable[[StackValidationArgs, ReportViolation], None]:
    def judge(args: StackValidationArgs, report: ReportViolation) -> None:
        # Policies are asked in turn, each once for a look at the stack: one that was asked already begins the next.
        if not _reported or rule.id in _reported:
            _reported.clear()
            _found[:] = check([_seen(resource) for resource in args.resources])
        _reported.add(rule.id)
        for finding in _found:
            if finding.rule == rule.id and finding.excepted_because is None:
                report(_message(finding), finding.urn)

    return judge


def _message(finding: Finding) -> str:
    """The engine shows the rule's title and the resource above it."""
    return f"{finding.problem[0].upper()}{finding.problem[1:]}. {finding.fix}"


def policies() -> list[Policy]:
    """One policy a rule, after the one that remembers inputs for them and finds nothing itself."""
    return [
        ResourceValidationPolicy(
            name="inputs",
            description="Remembers what the program gave for each resource, for the other policies",
            validate=_remember,
            enforcement_level=EnforcementLevel.ADVISORY,
        ),
        *(
            StackValidationPolicy(
                name=rule.id,
                description=f"{rule.title}. {rule.why}",
                validate=_judge(rule),
                enforcement_level=LEVELS[rule.severity],
                display_name=rule.title,
                severity=SEVERITIES[rule.severity],
                remediation_steps=rule.fix,
            )
            for rule in RULES
        ),
    ]


if __name__ == "__main__":
    PolicyPack(name="tensoryard", policies=policies(), description="Tensoryard's security policy")
