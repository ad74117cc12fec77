"""The way from a folder to a workspace on Azure: a stack's outputs, and the workspace.json that they become."""

import os
import shutil
import subprocess
from pathlib import Path

import msgspec

from tensoryard.errors import NotFoundError, TensoryardError, UsageError
from tensoryard.settings import AzureWorkspace
from tensoryard.workspace import SETTINGS, Workspace

OUTPUT = "workspace"


def connect(folder: Path, azure: AzureWorkspace) -> None:
    """
    Make a `.tensoryard` folder stand for a workspace on Azure; what else it sets stays.

    Raises UsageError where it holds runs or models of its own.
    """
    if (folder / "runs").is_dir() or (folder / "models").is_dir():
        raise UsageError(
            f"{folder}: holds runs or models of its own, which nobody would find once it stands for `{azure.name}`",
            hint="connect from another folder of the checkout, where the stack is found: mkdir azure && cd azure",
        )
    settings = msgspec.structs.replace(Workspace(folder).settings(), name=azure.name, azure=azure)
    folder.mkdir(exist_ok=True)
    draft = folder / f"{SETTINGS}.{os.getpid()}.draft"
    draft.write_bytes(msgspec.json.format(msgspec.json.encode(settings), indent=2) + b"\n")
    draft.replace(folder / SETTINGS)


def stack_outputs(stack: str, start: Path | None = None) -> bytes:
    """What `pulumi` prints for a stack of the checkout around a folder, the current one unless said."""
    here = start or Path.cwd()
    project = next((folder for folder in (here, *here.parents) if (folder / "Pulumi.yaml").is_file()), None)
    if project is None:
        raise NotFoundError(
            f"{here}: there is no Pulumi.yaml here or above, so no stack `{stack}` to ask",
            hint="in the checkout: pulumi stack output --json > x.json; here: tyard workspace connect x.json",
        )
    if shutil.which("pulumi") is None:
        raise NotFoundError(
            f"`pulumi` is not on the PATH, to be asked for the outputs of stack `{stack}`",
            hint="install it (https://www.pulumi.com/docs/install/), or give `tyard workspace connect` a file with "
            "the stack's outputs",
        )
    argv = ["pulumi", "stack", "output", "--json", "--non-interactive", "--stack", stack]
    asked = subprocess.run(argv, cwd=project, capture_output=True, check=False)
    if asked.returncode:
        said = asked.stderr.decode(errors="replace").strip().removeprefix("error: ")
        raise TensoryardError(f"pulumi stack output --stack {stack}: {said}", hint="pulumi stack ls")
    return asked.stdout


def azure_workspace(data: bytes, source: str) -> AzureWorkspace:
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
