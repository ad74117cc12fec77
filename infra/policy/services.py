"""Rules about the container registry, the Key Vault, and private endpoints beside public access."""

from collections.abc import Iterator

from infra.policy.rules import Problem, Resource, Resources, Rule, at

REGISTRY = "containerregistry:Registry"
VAULT = "keyvault:Vault"
STORAGE = "storage:StorageAccount"
SOFT_DELETE_DAYS_LEAST = 7


def is_closed(resource: Resource) -> bool:
    """Whether a storage account, registry or vault has no public network access at all."""
    inputs = resource.inputs
    return "Disabled" in (inputs.get("publicNetworkAccess"), at(inputs, "properties", "publicNetworkAccess"))


def _registry_any_network(resources: Resources) -> Iterator[Problem]:
    for registry in resources.of(REGISTRY):
        if not is_closed(registry) and at(registry.inputs, "networkRuleSet", "defaultAction") != "Deny":
            yield registry, "every network may reach it: public access is on and no network rule denies the rest"


def _vault_any_network(resources: Resources) -> Iterator[Problem]:
    for vault in resources.of(VAULT):
        if not is_closed(vault) and at(vault.inputs, "properties", "networkAcls", "defaultAction") != "Deny":
            yield vault, "every network may reach it: `networkAcls.defaultAction` is not `Deny`"


def _admin_user(resources: Resources) -> Iterator[Problem]:
    for registry in resources.of(REGISTRY):
        if registry.inputs.get("adminUserEnabled") is True:
            yield registry, "`adminUserEnabled` is true"


def _anonymous_pull(resources: Resources) -> Iterator[Problem]:
    for registry in resources.of(REGISTRY):
        if registry.inputs.get("anonymousPullEnabled") is True:
            yield registry, "`anonymousPullEnabled` is true"


def _public_beside_private(resources: Resources) -> Iterator[Problem]:
    if not any(resources.of("network:PrivateEndpoint")):
        return
    for resource in resources.of(STORAGE, REGISTRY, VAULT):
        if not is_closed(resource):
            yield resource, "the stack has private endpoints, yet its public network access is on"


def _without_rbac(resources: Resources) -> Iterator[Problem]:
    for vault in resources.of(VAULT):
        if at(vault.inputs, "properties", "enableRbacAuthorization") is not True:
            yield vault, "`enableRbacAuthorization` is not true"
        elif at(vault.inputs, "properties", "accessPolicies"):
            yield vault, "it has access policies beside role assignments"


def _vault_soft_delete(resources: Resources) -> Iterator[Problem]:
    for vault in resources.of(VAULT):
        properties = vault.inputs.get("properties")
        days = at(properties, "softDeleteRetentionInDays")
        if at(properties, "enableSoftDelete") is False:
            yield vault, "`enableSoftDelete` is false"
        elif days is not None and days < SOFT_DELETE_DAYS_LEAST:
            yield vault, f"deleted secrets are kept {int(days)} days"


def _purge_protection(resources: Resources) -> Iterator[Problem]:
    for vault in resources.of(VAULT):
        if at(vault.inputs, "properties", "enablePurgeProtection") is not True:
            yield vault, "`enablePurgeProtection` is not true"


RULES = (
    Rule(
        id="registry-admin-user",
        severity="high",
        title="The registry has an admin user",
        why="One shared password may push any image, and names nobody in the logs.",
        fix="Set `adminUserEnabled` to false; nodes pull by their identity (AcrPull).",
        look=_admin_user,
    ),
    Rule(
        id="registry-anonymous-pull",
        severity="high",
        title="The registry gives images to anybody",
        why="Images hold the team's code and the names of its packages.",
        fix="Set `anonymousPullEnabled` to false.",
        look=_anonymous_pull,
    ),
    Rule(
        id="registry-any-network",
        severity="low",
        title="The registry can be reached from any network",
        why="A stolen token works from anywhere; a network rule would stop it.",
        fix="Set `tensoryard:registrySku` to `Premium`, and `privateEndpoints` or `clientSources`.",
        look=_registry_any_network,
    ),
    Rule(
        id="vault-any-network",
        severity="medium",
        title="The Key Vault can be reached from any network",
        why="A stolen token works from anywhere; a network rule would stop it.",
        fix="Set `tensoryard:privateEndpoints` to true, or name the networks in `tensoryard:clientSources`.",
        look=_vault_any_network,
    ),
    Rule(
        id="public-beside-private",
        severity="high",
        title="Public access stays on beside private endpoints",
        why="The private endpoint looks like protection, while the public address still answers.",
        fix="Set `publicNetworkAccess` to `Disabled` on storage, registry and vault.",
        look=_public_beside_private,
    ),
    Rule(
        id="vault-without-rbac",
        severity="high",
        title="The Key Vault uses access policies instead of roles",
        why="Whoever may write the vault may give himself its secrets.",
        fix="Set `properties.enableRbacAuthorization` to true and declare no access policies.",
        look=_without_rbac,
    ),
    Rule(
        id="vault-soft-delete",
        severity="high",
        title="Deleted secrets are gone at once",
        why="One wrong command would lock the cluster out of its own key for good.",
        fix=f"Leave soft delete on and keep deleted secrets {SOFT_DELETE_DAYS_LEAST} days or more.",
        look=_vault_soft_delete,
    ),
    Rule(
        id="vault-purge-protection",
        severity="medium",
        title="Deleted secrets can be purged before their time",
        why="An intruder, or a script, can delete and purge in one go.",
        fix="Set `properties.enablePurgeProtection` to true.",
        look=_purge_protection,
    ),
)
