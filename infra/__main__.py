"""A Tensoryard workspace on Azure. Pulumi runs this file; read it as the table of contents."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # Pulumi starts in infra/, which is a package

import pulumi
from pulumi_azure_native import authorization

from infra import aliases, grants, protection, stack
from infra.access import Access
from infra.cluster import Cluster
from infra.diagnostics import Logs, LogsArgs
from infra.head import Head
from infra.network import Network
from infra.settings import Settings
from infra.workspace import Workspace, WorkspaceArgs

aliases.leave_out_versions()
settings = Settings.load(pulumi.Config("tensoryard"))
client = authorization.get_client_config_output()

place = stack.declare_place(settings)
logs = Logs("logs", LogsArgs(place=place, retention_days=settings.log_retention_days))
network = Network("network", stack.network_args(settings, place, logs.workspace_id))
workspace = Workspace(
    "workspace",
    WorkspaceArgs(place=place, settings=settings, network=network, logs=logs.workspace_id, tenant=client.tenant_id),
)
facts = stack.facts(settings, workspace)
clusters = [
    Cluster(cluster.name, stack.cluster_args(settings, cluster, place, network, facts))
    for cluster in settings.clusters
]
own = stack.head_facts(settings, client, place, workspace, clusters)
head = Head("head", stack.head_args(settings, place, network, facts, own, clusters))

access = Access("access", place, client.subscription_id, settings.workspace_name)
grants.give(access, settings, client.object_id, place.group_id, network, workspace, head, clusters)
if settings.protect_data:
    protection.lock(workspace.holders, [*workspace.below, *access.assignments], workspace)

pulumi.export("workspace", stack.outputs(settings, client, place, workspace, head.facts, clusters))
pulumi.export("access", access.table())
