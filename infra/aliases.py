"""Which aliases the program's resources have: those of types that moved, and no API version of a type."""

from __future__ import annotations

import re

import pulumi

# A token of azure-native that names an API version, such as azure-native:storage/v20240101:StorageAccount.
_VERSIONED = re.compile(r"[^:]+:[^:]+/v\d{6,}[^:]*:[^:]+")


def leave_out_versions() -> None:
    """
    Spare every later resource of the stack the aliases that name an API version.

    azure-native gives each resource one for every version that its type has had, 60 and more, and making their URNs
    takes half of the program's time. They are for stacks that declared such a version, which this program never did.
    An alias by which a type moved to another module names none, and stays.
    """
    pulumi.runtime.register_stack_transformation(_without_versions)


def _without_versions(args: pulumi.ResourceTransformationArgs) -> pulumi.ResourceTransformationResult:
    if args.opts.aliases is not None:
        args.opts.aliases = [
            alias
            for alias in args.opts.aliases
            if not (isinstance(alias, pulumi.Alias) and _VERSIONED.fullmatch(str(alias.type_)))
        ]
    return pulumi.ResourceTransformationResult(args.props, args.opts)
