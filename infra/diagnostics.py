"""The Log Analytics workspace, and what sends its logs there."""

from __future__ import annotations

from dataclasses import dataclass

import pulumi
from pulumi_azure_native import monitor, operationalinsights

from infra.names import Place

# Categories by the service's own names.
# Source: https://learn.microsoft.com/azure/azure-monitor/reference/logs-index
BLOB_CHANGES = ("StorageWrite", "StorageDelete")
BLOB_READS = ("StorageRead",)
REGISTRY = ("ContainerRegistryLoginEvents", "ContainerRegistryRepositoryEvents")
VAULT = ("AuditEvent",)
SECURITY_GROUP = ("NetworkSecurityGroupEvent", "NetworkSecurityGroupRuleCounter")


@dataclass(frozen=True, kw_only=True)
class LogsArgs:
    """place; retention_days: 30 to 730."""

    place: Place
    retention_days: int


class Logs(pulumi.ComponentResource):
    """Log Analytics. workspace_id: its ARM id."""

    def __init__(self, name: str, args: LogsArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("tensoryard:infra:Logs", name, {}, opts)
        logs = operationalinsights.Workspace(
            "logs",
            resource_group_name=args.place.group,
            location=args.place.location,
            tags=args.place.tags,
            sku=operationalinsights.WorkspaceSkuArgs(name="PerGB2018"),
            retention_in_days=args.retention_days,
            # Whoever may read a resource reads its logs; the workspace's own shared keys open nothing.
            features=operationalinsights.WorkspaceFeaturesArgs(
                disable_local_auth=True, enable_log_access_using_only_resource_permissions=True
            ),
            opts=pulumi.ResourceOptions(parent=self),
        )
        self.workspace_id = logs.id
        self.register_outputs({"workspaceId": logs.id})


def record(
    name: str,
    resource: pulumi.Input[str],
    categories: tuple[str, ...],
    logs: pulumi.Output[str],
    parent: pulumi.Resource,
) -> pulumi.Resource:
    """
    Send a resource's logs to Log Analytics.

    resource: ARM id, of the blob service and not the account for storage; categories: names of its logs.
    """
    return monitor.DiagnosticSetting(
        f"{name}-logs",
        name="tensoryard",
        resource_uri=resource,
        workspace_id=logs,
        logs=[monitor.DiagnosticsLogSettingsArgs(category=category, enabled=True) for category in categories],
        opts=pulumi.ResourceOptions(parent=parent),
    )
