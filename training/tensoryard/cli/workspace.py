"""`tyard workspace`: which workspace is used, and the way to one on Azure."""

from pathlib import Path
from typing import BinaryIO

import click

from tensoryard import connection
from tensoryard.cli.tables import print_json, print_table
from tensoryard.errors import UsageError
from tensoryard.settings import AzureWorkspace
from tensoryard.workspace import FOLDER, Workspace


@click.group()
def workspace() -> None:
    """
    Say which workspace is used, and connect to one on Azure.

    \b
    Examples:
      tyard workspace show
      tyard workspace connect --stack dev
    """


@workspace.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def show(as_json: bool) -> None:
    """
    Show the workspace that commands use from here.

    \b
    Examples:
      tyard workspace show
      TYARD_WORKSPACE=~/other tyard workspace show --json
    """
    found = Workspace.from_config()
    settings = found.settings()
    if as_json:
        print_json({"name": found.name, "root": str(found.root), "azure": settings.azure})
        return
    print_table((), [("name", found.name), ("folder", str(found.root))])
    if settings.azure:
        _print_azure(settings.azure)


@workspace.command()
@click.argument("outputs", type=click.File("rb"), required=False)
@click.option("--stack", metavar="NAME", help="Ask `pulumi` for this stack's outputs.")
def connect(outputs: BinaryIO | None, stack: str | None) -> None:
    """
    Use a workspace on Azure from this folder on.

    OUTPUTS: what `pulumi stack output --json` printed, `-` for stdin. Writes .tensoryard/workspace.json, which holds
    names and addresses and no secret: whoever uses it signs in as themselves.

    \b
    Examples:
      tyard workspace connect --stack dev
      pulumi stack output --json | tyard workspace connect -
    """
    if (outputs is None) == (stack is None):
        raise UsageError(
            "tyard workspace connect: give either --stack or the outputs",
            hint="tyard workspace connect --stack dev",
        )
    if outputs is not None:
        azure = connection.azure_workspace(outputs.read(), outputs.name)
    else:
        azure = connection.azure_workspace(connection.stack_outputs(str(stack)), f"the outputs of stack `{stack}`")
    connection.connect(Path.cwd() / FOLDER, azure)
    click.echo(f"Connected {Path.cwd()} to `{azure.name}`")
    _print_azure(azure)


def _print_azure(azure: AzureWorkspace) -> None:
    rows = [
        ("subscription", azure.subscription_id),
        ("resource group", f"{azure.resource_group} in {azure.location}"),
        ("storage", azure.blob_endpoint),
        ("registry", azure.registry.login_server),
        ("head node", azure.head.public_address or f"{azure.head.private_address}, from inside the network"),
    ]
    for name, cluster in azure.clusters.items():
        gpus = f"{cluster.gpu_count} x {cluster.gpu_model}"
        kind = ", Spot" if cluster.spot else ""
        rows.append(("compute target", f"{name}: 0 to {cluster.max_nodes} nodes of {cluster.vm_size} ({gpus}){kind}"))
    print_table((), rows)
