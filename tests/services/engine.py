"""
Pulumi's real engine over the unmodified program of this checkout, with the stand-in for azure-native and for Azure.

The engine reads this checkout's Pulumi.yaml and stacks/, and runs infra/__main__.py as an inline program: in this
process, for the language host, which would start it in one of its own, is not among the CLI's modules.
"""

import contextlib
import json
import os
import runpy
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pulumi.automation as auto
from pulumi.automation._stack import StackInitMode

from services.azure_native.cloud import Cloud
from services.azure_native.provider import serve

ROOT = Path(__file__).parents[2]


def pulumi_cli() -> Path:
    """The folder of the `pulumi` that the tests use, built if need be. Raises AssertionError with what to install."""
    done = subprocess.run([ROOT / "tools" / "pulumi-cli"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.strip())


@dataclass(frozen=True)
class Outcome:
    """
    What one operation did.

    steps: of each resource that was not left as it is, "module:Type name" and what was done to it, in order;
    changed: of each of them the property paths that differ; error: what the engine said where it failed, else "".
    """

    steps: list[tuple[str, str]]
    changed: dict[str, list[str]]
    same: int
    error: str
    output: str
    seconds: float
    outputs: dict[str, Any] = field(default_factory=dict)

    def did(self, what: str) -> list[str]:
        """The resources with which this was done ("create", "update", "replace", "delete", ...), sorted."""
        return sorted(resource for resource, done in self.steps if done == what)

    @property
    def summary(self) -> dict[str, int]:
        return dict(Counter(done for _, done in self.steps))


class Engine:
    """
    A Pulumi of its own in a folder: its home, state, Azure, copies of the stacks.

    The stand-in for azure-native runs in this process, and the engine is told its port: a process of its own for each
    operation would load the SDK each time, which takes longer than all that it then does.
    """

    def __init__(self, folder: Path, cli: Path) -> None:
        self.folder = folder
        self.program: Callable[[], None] = run_program
        self.azure = Cloud(folder / "azure")
        self._command = auto.PulumiCommand(str(cli.parent))
        self._provider, port = serve(self.azure)
        self._env = {
            "PULUMI_HOME": str(folder / "home"),
            "PULUMI_BACKEND_URL": f"file://{folder / 'state'}",
            "PULUMI_CONFIG_PASSPHRASE": "tests",
            "PULUMI_SKIP_UPDATE_CHECK": "true",
            "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "true",
            "PULUMI_IGNORE_AMBIENT_PLUGINS": "true",
            "PULUMI_DEBUG_PROVIDERS": f"azure-native:{port}",
            "GOGC": "800",  # memory for time: it lives for seconds
        }
        self.project = folder / "project"
        for place in ("state", "home", "azure"):
            (folder / place).mkdir(parents=True)
        # Copies: the engine writes the stack's salt into its file.
        (self.project / "infra").mkdir(parents=True)
        shutil.copy(ROOT / "Pulumi.yaml", self.project)
        shutil.copytree(ROOT / "stacks", self.project / "stacks")
        self._stacks: dict[str, auto.Stack] = {}

    def close(self) -> None:
        self._provider.stop(grace=None).wait()

    @property
    def environ(self) -> dict[str, str]:
        """What a process of its own needs to use this Pulumi."""
        path = os.pathsep.join([str(Path(self._command.command).parent), os.environ.get("PATH", "")])
        return {**os.environ, **self._env, "PATH": path}

    def config(self, stack: str, key: str, value: str, path: bool = False) -> None:
        """`pulumi config set`, with --path for a key such as clusters[0].maxNodes."""
        self._stack(stack).set_config(key, auto.ConfigValue(value), path=path)

    def unset(self, stack: str, key: str) -> None:
        self._stack(stack).remove_config(key)

    def preview(self, stack: str, policy_pack: Path | None = None) -> Outcome:
        packs = [str(policy_pack)] if policy_pack else None
        return self._run(lambda on: self._stack(stack).preview(**on, policy_packs=packs))

    def up(self, stack: str, refresh: bool | None = None) -> Outcome:
        done = self._run(lambda on: self._stack(stack).up(**on, refresh=refresh))
        if not done.error:
            resources = self.state(stack)["resources"]
            done.outputs.update(next(each for each in resources if each["type"] == "pulumi:pulumi:Stack")["outputs"])
        return done

    def refresh(self, stack: str) -> Outcome:
        return self._run(lambda on: self._stack(stack).refresh(**on), refreshing=True)

    def destroy(self, stack: str) -> Outcome:
        return self._run(lambda on: self._stack(stack).destroy(**on))

    def unprotect(self, stack: str) -> None:
        """`pulumi state unprotect --all`, which a destroy of protected resources asks for first."""
        self.cli("state", "unprotect", "--all", "--yes", "--stack", stack)

    def cli(self, *arguments: str) -> str:
        done = self._command.run(list(arguments), str(self.project), dict(self._env))
        return str(done.stdout)

    def state(self, stack: str) -> dict[str, Any]:
        """The stack's state as `pulumi stack export` gives it, without its processes."""
        file = self.folder / "state" / ".pulumi" / "stacks" / "tensoryard" / f"{stack}.json"
        return dict(json.loads(file.read_text("utf-8"))["checkpoint"]["latest"])

    def state_file(self) -> str:
        """Everything that the backend keeps, as text: state, history and backups."""
        files = (file for file in (self.folder / "state").rglob("*") if file.is_file())
        return "\n".join(file.read_text("utf-8", errors="replace") for file in files)

    def _stack(self, name: str) -> auto.Stack:
        if name not in self._stacks:
            workspace = auto.LocalWorkspace(
                work_dir=str(self.project),
                env_vars=dict(self._env),
                pulumi_command=self._command,
                program=self.program,
            )
            self._stacks[name] = _Stack(name, workspace, StackInitMode.CREATE)
        return self._stacks[name]

    def _run(self, operation: Callable[[dict[str, Any]], Any], refreshing: bool = False) -> Outcome:
        steps: list[tuple[str, str]] = []
        changed: dict[str, list[str]] = {}
        same = 0
        said: list[str] = []

        def on_event(event: auto.EngineEvent) -> None:
            nonlocal same
            if event.diagnostic_event is not None and event.diagnostic_event.severity == "error":
                said.append(event.diagnostic_event.message)
            # What a refresh found is known only after it; everything else is announced before.
            found = event.res_outputs_event if refreshing else event.resource_pre_event
            if found is None:
                return
            about = found.metadata
            if about.op in ("same", "refresh"):
                # An update that refreshes first announces that too, of each resource.
                same += about.op == "same" or refreshing
                return
            resource = _short(about.urn)
            steps.append((resource, str(getattr(about.op, "value", about.op))))
            if about.detailed_diff:
                changed[resource] = sorted(about.detailed_diff)

        error, output = "", ""
        started = time.monotonic()
        try:
            result = operation({"on_event": on_event, "color": "never"})
            output = str(result.stdout)
        except auto.CommandError as failed:
            error = "\n".join(said) or str(failed)
            output = str(failed)
        seconds = time.monotonic() - started
        return Outcome(steps, changed, same, error, output, seconds)


class _Stack(auto.Stack):
    """Asks nothing after an operation: each answer would be a process or two, and is in the state or unused."""

    def outputs(self) -> auto.OutputMap:
        return {}

    def info(self, show_secrets: bool = True) -> auto.UpdateSummary:
        return auto.UpdateSummary("", datetime.now(UTC), "", {}, {}, "")


def run_program() -> None:
    """Runs infra/__main__.py as Pulumi would: its modules loaded afresh, nothing of it left behind."""
    with _fresh_program():
        runpy.run_path(str(ROOT / "infra" / "__main__.py"), run_name="__main__")


@contextlib.contextmanager
def _fresh_program() -> Iterator[None]:
    kept = {name: module for name, module in sys.modules.items() if name.split(".")[0] == "infra"}
    searched = list(sys.path)
    for name in kept:
        del sys.modules[name]
    try:
        yield
    finally:
        for name in [name for name in sys.modules if name.split(".")[0] == "infra"]:
            del sys.modules[name]
        sys.modules.update(kept)
        sys.path[:] = searched


def _short(urn: str) -> str:
    """ "storage:StorageAccount storage" of a URN."""
    _, _, types, name = urn.split("::", 3)
    return f"{types.rpartition('$')[2].removeprefix('azure-native:')} {name}"
