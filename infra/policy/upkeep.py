"""Rules about diagnostics, tags, and the protection of what holds data."""

from collections.abc import Iterator

from infra.policy.rules import Problem, Resources, Rule, at

DATA_HOLDERS = ("storage:StorageAccount", "containerregistry:Registry", "keyvault:Vault")
LOCK = "authorization:ManagementLockByScope"
PROTECTED_TAG = ("data", "protected")

TAGS_WANTED = ("workspace", "stack", "managed-by")
TAGGED = (
    "resources:ResourceGroup",
    *DATA_HOLDERS,
    "compute:VirtualMachine",
    "compute:VirtualMachineScaleSet",
    "managedidentity:UserAssignedIdentity",
    "network:NatGateway",
    "network:NetworkInterface",
    "network:NetworkSecurityGroup",
    "network:PrivateEndpoint",
    "network:PublicIPAddress",
    "network:VirtualNetwork",
    "operationalinsights:Workspace",
)


def _no_diagnostics(resources: Resources) -> Iterator[Problem]:
    settings = list(resources.of("monitor:DiagnosticSetting"))
    for resource in resources.of(*DATA_HOLDERS):
        if not any(resources.points_at(setting, "resourceUri", resource) for setting in settings):
            yield resource, "no diagnostic setting sends its logs anywhere"


def _no_tags(resources: Resources) -> Iterator[Problem]:
    for resource in resources.of(*TAGGED):
        missing = [tag for tag in TAGS_WANTED if not at(resource.inputs, "tags", tag)]
        if missing:
            yield resource, f"it lacks the tags {', '.join(f'`{tag}`' for tag in missing)}"


def _unprotected(resources: Resources) -> Iterator[Problem]:
    key, value = PROTECTED_TAG
    locks = [lock for lock in resources.of(LOCK) if lock.inputs.get("level") in ("CanNotDelete", "ReadOnly")]
    for resource in resources.of(*DATA_HOLDERS):
        if at(resource.inputs, "tags", key) != value:
            continue
        missing = [] if resource.protect else ["Pulumi's `protect`"]
        if not any(resources.points_at(lock, "scope", resource) for lock in locks):
            missing.append("a `CanNotDelete` lock")
        if missing:
            yield resource, f"it is tagged `{key}: {value}` and lacks {' and '.join(missing)}"


RULES = (
    Rule(
        id="data-unprotected",
        severity="high",
        title="What is said to be protected can be deleted",
        why="The tag promises that neither `pulumi destroy` nor the portal can delete it by accident.",
        fix="Declare it with `protect` and a `CanNotDelete` lock, as `tensoryard:protectData` does.",
        look=_unprotected,
    ),
    Rule(
        id="diagnostics-missing",
        severity="medium",
        title="Nobody records who used it",
        why="After a leak there is no way to tell who read what.",
        fix="Declare a diagnostic setting that sends its logs to the Log Analytics workspace.",
        look=_no_diagnostics,
    ),
    Rule(
        id="tags-missing",
        severity="low",
        title="A resource does not say what it belongs to",
        why="Its cost cannot be told from that of others, and nobody dares to delete it.",
        fix=f"Give it the tags {', '.join(f'`{tag}`' for tag in TAGS_WANTED)}.",
        look=_no_tags,
    ),
)
