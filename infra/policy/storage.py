"""Rules about the storage account and its containers."""

from collections.abc import Callable, Iterator

from infra.policy.rules import Problem, Resources, Rule, at

ACCOUNT = "storage:StorageAccount"
SOFT_DELETE_DAYS_LEAST = 7


def _account(key: str, right: Callable[[object], bool], problem: str) -> Callable[[Resources], Iterator[Problem]]:
    """Accounts whose input `key` is not right; `{}` in the problem stands for what was given."""

    def look(resources: Resources) -> Iterator[Problem]:
        for account in resources.of(ACCOUNT):
            given = account.inputs.get(key)
            if not right(given):
                yield account, problem.format("is not set" if given is None else f"is {given!r}")

    return look


def _public_blobs(resources: Resources) -> Iterator[Problem]:
    for account in resources.of(ACCOUNT):
        if account.inputs.get("allowBlobPublicAccess") is not False:
            yield account, "`allowBlobPublicAccess` is not false, so one container setting publishes its blobs"
    for container in resources.of("storage:BlobContainer"):
        if container.inputs.get("publicAccess") not in (None, "None"):
            yield container, f"`publicAccess` is {container.inputs['publicAccess']!r}: anybody can read its blobs"


def _any_network(resources: Resources) -> Iterator[Problem]:
    for account in resources.of(ACCOUNT):
        if account.inputs.get("publicNetworkAccess") in ("Disabled", "SecuredByPerimeter"):
            continue
        if at(account.inputs, "networkRuleSet", "defaultAction") != "Deny":
            yield account, "every network may reach it: `networkRuleSet.defaultAction` is not `Deny`"


def _local_users(resources: Resources) -> Iterator[Problem]:
    for account in resources.of(ACCOUNT):
        if account.inputs.get("isSftpEnabled") is True:
            yield account, "`isSftpEnabled` is true: SFTP signs in with local users and passwords"
        elif account.inputs.get("isLocalUserEnabled") is not False:
            yield account, "`isLocalUserEnabled` is not false"


def _no_soft_delete(resources: Resources) -> Iterator[Problem]:
    for account in resources.of(ACCOUNT):
        for what, key in (("blobs", "deleteRetentionPolicy"), ("containers", "containerDeleteRetentionPolicy")):
            kept = [
                at(service.inputs, key, "days") or 0
                for service in resources.of("storage:BlobServiceProperties")
                if at(service.inputs, key, "enabled") is True
                and "accountName" in service.inputs
                and _is_of(resources, service.inputs["accountName"], service.property_dependencies, account.urn)
            ]
            if max(kept, default=0) < SOFT_DELETE_DAYS_LEAST:
                yield account, f"deleted {what} are kept {int(max(kept, default=0))} days"


def _is_of(resources: Resources, name: object, dependencies: object, urn: str) -> bool:
    """Whether a child's account is this one: there is only one, or its name or the engine's record says so."""
    accounts = list(resources.of(ACCOUNT))
    if len(accounts) == 1:
        return True
    owner = next(account for account in accounts if account.urn == urn)
    return name in (owner.outputs.get("name"), owner.inputs.get("accountName")) or urn in (
        at(dependencies, "accountName") or ()
    )


RULES = (
    Rule(
        id="storage-public-blobs",
        severity="high",
        title="Blobs can be read without an identity",
        why="Training data and models would be public to whoever guesses an address.",
        fix="Set `allowBlobPublicAccess` to false and leave `publicAccess` of containers at `None`.",
        look=_public_blobs,
    ),
    Rule(
        id="storage-any-network",
        severity="high",
        title="Storage can be reached from any network",
        why="A stolen token works from anywhere; a network rule would stop it.",
        fix="Set `tensoryard:privateEndpoints` to true, or name the networks in `tensoryard:clientSources`.",
        look=_any_network,
    ),
    Rule(
        id="storage-shared-key",
        severity="high",
        title="Storage accepts its account keys",
        why="An account key opens everything, names nobody in the logs and never ends.",
        fix="Set `allowSharedKeyAccess` to false: absent means true.",
        look=_account("allowSharedKeyAccess", lambda given: given is False, "`allowSharedKeyAccess` {}"),
    ),
    Rule(
        id="storage-old-tls",
        severity="high",
        title="Storage accepts TLS below 1.2",
        why="Azure's own default for the field is TLS 1.0, which can be broken.",
        fix="Set `minimumTlsVersion` to `TLS1_2`.",
        look=_account("minimumTlsVersion", lambda given: given in ("TLS1_2", "TLS1_3"), "`minimumTlsVersion` {}"),
    ),
    Rule(
        id="storage-plain-http",
        severity="high",
        title="Storage answers over plain http",
        why="Tokens and data would cross the network readable.",
        fix="Set `enableHttpsTrafficOnly` to true.",
        look=_account("enableHttpsTrafficOnly", lambda given: given is True, "`enableHttpsTrafficOnly` {}"),
    ),
    Rule(
        id="storage-local-users",
        severity="medium",
        title="Storage has local users or SFTP",
        why="Local users have passwords of their own, outside Entra ID and its logs.",
        fix="Set `isLocalUserEnabled` and `isSftpEnabled` to false.",
        look=_local_users,
    ),
    Rule(
        id="storage-cross-tenant",
        severity="medium",
        title="Blobs may be replicated to another tenant",
        why="One replication rule would copy all data to a stranger's account.",
        fix="Set `allowCrossTenantReplication` to false.",
        look=_account(
            "allowCrossTenantReplication", lambda given: given is False, "`allowCrossTenantReplication` {}"
        ),
    ),
    Rule(
        id="storage-soft-delete",
        severity="high",
        title="Deleted data is gone at once",
        why="One wrong command would lose runs and models for good.",
        fix=f"Keep deleted blobs and containers {SOFT_DELETE_DAYS_LEAST} days or more (`tensoryard:softDeleteDays`).",
        look=_no_soft_delete,
    ),
)
