"""Policy findings that are accepted, with the reason written beside the resource that they are about."""

from __future__ import annotations

import pulumi

TYPE = "tensoryard:policy:Exception"


def policy_exception(rule: str, resource: pulumi.CustomResource, because: str) -> None:
    """
    Accept one rule's finding on one resource.

    A component, so that it stands in the preview, in the state and in the review, where the policy pack sees it too.
    rule: id of a rule in infra/policy; because: a sentence saying what is accepted and what makes that safe.
    """
    name = f"{resource._name}.{rule}"
    # Not protected with its resource: a finding that went away must be able to take its exception along.
    options = pulumi.ResourceOptions(parent=resource, protect=False)
    exception = pulumi.ComponentResource(
        TYPE, name, {"rule": rule, "resource": resource.urn, "because": because}, options
    )
    exception.register_outputs({})
