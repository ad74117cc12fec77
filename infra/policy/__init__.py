"""
The workspace's security policy: pure rules over declared resources.

    check(declared) -> list[Finding]

The same rules run in the review of a pull request, in the tests, and as a CrossGuard pack (`infra/policy_pack`).
"""

from collections.abc import Sequence

from infra.policy import access, exceptions, machines, network, secrets, services, storage, upkeep
from infra.policy.rules import Finding, Resource, Resources, Rule, Severity

__all__ = ["RULES", "Finding", "Resource", "Rule", "Severity", "check"]

RULES: tuple[Rule, ...] = (
    *storage.RULES,
    *services.RULES,
    *access.RULES,
    *network.RULES,
    *machines.RULES,
    *secrets.RULES,
    *upkeep.RULES,
    *exceptions.RULES,
)

_ORDER = {"high": 0, "medium": 1, "low": 2}


def check(declared: Sequence[Resource]) -> list[Finding]:
    """
    What is wrong with these resources, worst first; an excused finding is still listed, with its reason.

    declared: everything that one program declared, exceptions included.
    """
    resources = Resources(declared)
    findings = [
        Finding(
            rule=rule.id,
            severity=rule.severity,
            urn=resource.urn,
            name=resource.name,
            problem=problem,
            fix=rule.fix,
        )
        for rule in RULES
        if rule.look is not None
        for resource, problem in rule.look(resources)
    ]
    judged = exceptions.apply(findings, resources, frozenset(rule.id for rule in RULES if rule.look is not None))
    return sorted(judged, key=lambda finding: (_ORDER[finding.severity], finding.excepted_because is not None))
