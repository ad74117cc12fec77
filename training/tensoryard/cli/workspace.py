"""`tyard workspace`: which workspace is used, and the way to one on Azure."""

import os
import shutil
import subprocess
from pathlib import Path
from typing import BinaryIO

import click
import msgspec

from tensoryard.cli.tables import print_json, print_table
from tensoryard.errors import NotFoundError, TensoryardError, UsageError
from tensoryard.settings import AzureWorkspace
from tensoryard.workspace import FOLDER, SETTINGS, Workspace

OUTPUT = "workspace"


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
        azure = _azure_workspace(outputs.read(), outputs.name)
    else:
        azure = _azure_workspace(_stack_outputs(str(stack)), f"the outputs of stack `{stack}`")
    folder = Path.cwd() / FOLDER
    if (folder / "runs").is_dir() or (folder / "models").is_dir():
        raise UsageError(
            f"{folder}: holds runs or models of its own, which nobody would find once it stands for `{azure.name}`",
            hint="connect from another folder: mkdir ../azure && cd ../azure",
        )
    chosen = Workspace(folder)
    settings = msgspec.structs.replace(chosen.settings(), name=azure.name, azure=azure)
    folder.mkdir(exist_ok=True)
    draft = folder / f"{SETTINGS}.{os.getpid()}.draft"
    draft.write_bytes(msgspec.json.format(msgspec.json.encode(settings), indent=2) + b"\n")
    draft.replace(folder / SETTINGS)
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


def _stack_outputs(stack: str) -> bytes:
    """What `pulumi` prints for a stack of the checkout around here."""
    here = Path.cwd()
    project = next((folder for folder in (here, *here.parents) if (folder / "Pulumi.yaml").is_file()), None)
    if project is None:
        raise NotFoundError(
            f"{here}: there is no Pulumi.yaml here or above, so no stack `{stack}` to ask",
            hint="in the checkout: pulumi stack output --json > x.json; here: tyard workspace connect x.json",
        )
    if shutil.which("pulumi") is None:
        raise NotFoundError(
            "tyard workspace connect: `pulumi` is not on the PATH",
            hint="install it (https://www.pulumi.com/docs/install/), or give a file with the stack's outputs",
        )
    argv = ["pulumi", "stack", "output", "--json", "--non-interactive", "--stack", stack]
    asked = subprocess.run(argv, cwd=project, capture_output=True, check=False)
    if asked.returncode:
        said = asked.stderr.decode(errors="replace").strip().removeprefix("error: ")
        raise TensoryardError(f"pulumi stack output --stack {stack}: {said}", hint="pulumi stack ls")
    return asked.stdout


def _azure_workspace(data: bytes, source: str) -> AzureWorkspace:
    """The output `workspace` among a stack's outputs. Raises UsageError that says what is missing where."""
    try:
        outputs = msgspec.json.decode(data, type=dict[str, msgspec.Raw])
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise UsageError(
            f"{source}: is not the JSON object that `pulumi stack output --json` prints",
            hint="pulumi stack output --json | tyard workspace connect -",
        ) from None
    if OUTPUT not in outputs:
        named = ", ".join(f"`{name}`" for name in outputs) or "none"
        raise UsageError(
            f"{source}: there is no output `{OUTPUT}`, got {named}",
            hint="the stack is not up yet, or not Tensoryard's: pulumi up",
        )
    try:
        return msgspec.json.decode(outputs[OUTPUT], type=AzureWorkspace)
    except msgspec.ValidationError as error:
        raise UsageError(
            f"{source}: the output `{OUTPUT}` is not one of this version of tyard: {error}",
            hint="`pulumi up` with the program of the same version",
        ) from None
