"""The stack that makes a workspace's clusters: its file, written by the program, and the `pulumi up` after it."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from tensoryard.errors import NotFoundError, TensoryardError, UsageError

if TYPE_CHECKING:
    from tensoryard.settings import AzureWorkspace
    from tensoryard.workspace import Workspace

STACK = "TYARD_STACK"
Change = Literal["add", "change", "remove"]
_LOOK_S = 0.1


class Declared(msgspec.Struct, frozen=True, kw_only=True):
    """
    What a stack's file has of a cluster since it was written.

    checkout: the folder of the program; changed: False when it stood there already; cluster: `vmSize`, `maxNodes`
    and `spot` as the file has them, empty for one that was taken out.
    """

    stack: str
    checkout: Path
    changed: bool
    cluster: dict[str, Any]

    @property
    def file(self) -> Path:
        return self.checkout / "stacks" / f"Pulumi.{self.stack}.yaml"

    @property
    def commands(self) -> str:
        """What makes it so, and lets this folder know of it."""
        return f"pulumi up --stack {self.stack} && tyard workspace connect --stack {self.stack}"


def declare(
    workspace: "Workspace", change: Change, cluster: Mapping[str, Any], called: str, stack: str | None = None
) -> Declared:
    """
    Write a cluster into the stack of a workspace: `stack`, else $TYARD_STACK, else the one of its name and region.

    cluster: its name, and the keys that it is to have, as the file names them; called: what errors begin with.
    Raises UsageError with the program's own words for what it refuses, NotFoundError outside of its checkout.
    """
    root = _checkout(Path.cwd(), called)
    stack = stack or os.environ.get(STACK)
    azure = workspace.settings().azure
    if stack is None and azure is None:
        raise UsageError(
            f"{called}: the workspace {workspace.root} is a folder, so no stack is known to be its own",
            f"export {STACK}=dev",
        )
    given: dict[str, Any] = {"cluster": dict(cluster)}
    given |= {"workspace": azure.name, "location": azure.location} if azure is not None else {}
    argv = [sys.executable, "-m", "infra.settings", f"--{change}-cluster", json.dumps(given)]
    done = subprocess.run([*argv, *([stack] if stack else [])], cwd=root, capture_output=True, text=True, check=False)
    if done.returncode:
        # The program's errors say what to do as their last sentence.
        raise UsageError(f"{called}: {done.stderr.strip().splitlines()[-1]}")
    found = json.loads(done.stdout)
    return Declared(stack=found.pop("stack"), checkout=root, changed=found.pop("changed"), cluster=found)


def check_pulumi() -> None:
    """Raises UsageError where Pulumi or its libraries are missing: before a file is written that waits for them."""
    from importlib.util import find_spec

    if find_spec("pulumi") is None or find_spec("pulumi_azure_native") is None:
        raise UsageError(f"pulumi up: the libraries for Azure are not in {sys.prefix}", "in the checkout: make infra")
    if shutil.which("pulumi") is None:
        raise UsageError("pulumi up: `pulumi` is not on the PATH", "install it: https://www.pulumi.com/docs/install/")


class Update:
    """
    A `pulumi up` of a stack, through Pulumi's Automation API, in a process that outlives this one.

    log: what Pulumi says, as it says it.
    """

    def __init__(self, workspace: "Workspace", declared: Declared) -> None:
        self._workspace = workspace
        self._declared = declared
        workspace.root.mkdir(parents=True, exist_ok=True)
        self.log = workspace.root / f"pulumi-up-{declared.stack}.log"
        with self.log.open("ab") as out:
            # Of the stack's updates, also of one that may be under way: Pulumi refuses the second.
            self._began = self._read = out.tell()
            self._process = subprocess.Popen(
                [sys.executable, "-m", "infra.up", declared.stack],
                cwd=declared.checkout,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def ended(self) -> bool:
        return self._process.poll() is not None

    @property
    def failed(self) -> bool:
        return self._process.poll() not in (None, 0)

    @property
    def error(self) -> TensoryardError:
        """Why it failed, by the last that it said."""
        said = self.log.read_bytes()[self._began :].decode(errors="replace")
        lines = said.strip().splitlines() or ["it said nothing"]
        return TensoryardError(
            f"pulumi up --stack {self._declared.stack} failed: {lines[-1]}", f"all it said: {self.log}"
        )

    def follow(self, say: Callable[[str], None]) -> None:
        """Say every line that Pulumi says, until it has ended."""
        while not self.ended:
            self.say_new(say)
            time.sleep(_LOOK_S)
        self.say_new(say)

    def say_new(self, say: Callable[[str], None]) -> None:
        """Say the lines that are new since the last call."""
        with self.log.open("rb") as file:
            file.seek(self._read)
            data = file.read()
        whole = data if self.ended else data[: data.rfind(b"\n") + 1]
        self._read += len(whole)
        for line in whole.decode(errors="replace").splitlines():
            say(line)

    def finish(self, connect_new: bool = False) -> bool:
        """
        Let the workspace's folder know of what an update that has ended made; whether it does.

        It does not where the folder stands for another one, nor, unless connect_new, where it stands for itself.
        Raises TensoryardError when the update failed.
        """
        from tensoryard import connection

        stack = self._declared.stack
        if self.failed:
            raise self.error
        known = self._workspace.settings().azure
        if known is None and not connect_new:
            return False
        outputs = connection.stack_outputs(stack, self._declared.checkout)
        made = connection.azure_workspace(outputs, f"the outputs of stack `{stack}`")
        if known is not None and _identity(known) != _identity(made):
            return False
        connection.connect(self._workspace.root, made)
        return True

    def interrupt(self) -> None:
        """Ask Pulumi to end in good order, as Ctrl-C does."""
        if not self.ended:
            os.killpg(self._process.pid, signal.SIGINT)


def _identity(azure: "AzureWorkspace") -> tuple[str, str]:
    return azure.subscription_id, azure.resource_group


def _checkout(start: Path, called: str) -> Path:
    """The nearest folder at or above that holds the workspace program."""
    for folder in (start, *start.parents):
        if (folder / "Pulumi.yaml").is_file() and (folder / "infra" / "settings" / "add_cluster.py").is_file():
            return folder
    raise NotFoundError(
        f"{called}: no workspace program at or above {start}, and a cluster is made by it",
        "start in a checkout of the Tensoryard repository",
    )
