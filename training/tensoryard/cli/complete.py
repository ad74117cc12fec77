"""
The RUN and MODEL of a command, and what a shell is offered for them.

A shell asks at every Tab: this reads names of the store and imports next to nothing.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING

import click
from click.shell_completion import CompletionItem

from tensoryard.errors import TensoryardError

if TYPE_CHECKING:
    from tensoryard.run import RunRecord
    from tensoryard.store import Store
    from tensoryard.workspace import Workspace

_OFFERED = 50


class _Named(click.ParamType[str]):
    """A name of the workspace's store, completed from those that are there."""

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        from tensoryard.workspace import Workspace

        try:
            known = self.known(Workspace.from_config().store, incomplete, ctx)
            return [CompletionItem(name) for name in known if name.startswith(incomplete)][:_OFFERED]
        except TensoryardError:  # a completion has nowhere to say so
            return []

    def known(self, store: "Store", incomplete: str, ctx: click.Context) -> Iterable[str]:
        raise NotImplementedError


class RunName(_Named):
    """An id, a number or `latest`; ids are offered newest first."""

    name = "run"

    def known(self, store: "Store", incomplete: str, ctx: click.Context) -> Iterable[str]:
        return ["latest", *_runs(store)]


class TaskName(_Named):
    """A log of the run that the command names before it: a task, preparing or launch."""

    name = "task"

    def known(self, store: "Store", incomplete: str, ctx: click.Context) -> Iterable[str]:
        from tensoryard.store import keys

        text = ctx.params.get("run") or "latest"
        runs = _runs(store)
        if text == "latest":
            run = next(iter(runs), "")
        else:
            run = next((run for run in runs if run == text or run.endswith(f"-{text.zfill(4)}")), "")
        return [name.removesuffix(".log") for name in store.children(keys.run(run, "logs/"))] if run else []


class DataPath(_Named):
    """A folder or file of the datastore, one level at a time as a shell does with files."""

    name = "path"

    def known(self, store: "Store", incomplete: str, ctx: click.Context) -> Iterable[str]:
        from tensoryard.store import keys

        folder, slash, _ = incomplete.rpartition("/")
        return [f"{folder}{slash}{name}" for name in store.children(keys.data_below(folder))]


class ModelName(_Named):
    name = "name"

    def known(self, store: "Store", incomplete: str, ctx: click.Context) -> Iterable[str]:
        from tensoryard.store import keys

        return [name.rstrip("/") for name in store.children(keys.MODELS) if name.endswith("/")]


class ModelReference(ModelName):
    """`digits`, `digits:3` or `digits@champion`; after `:` and `@` the model's versions and aliases are offered."""

    name = "model"

    def known(self, store: "Store", incomplete: str, ctx: click.Context) -> Iterable[str]:
        from tensoryard.store import keys

        model, colon, _ = incomplete.partition(":")
        if colon:
            children = store.children(keys.model(model, "versions/"))
            return [f"{model}:{number}" for number in sorted(filter(None, map(keys.parse_numbered, children)))[::-1]]
        model, at, _ = incomplete.partition("@")
        if at:
            return [f"{model}@{alias.rstrip('/')}" for alias in store.children(keys.model_aliases(model))]
        return super().known(store, incomplete, ctx)


RUN = RunName()
TASK = TaskName()
DATA_PATH = DataPath()
NAME = ModelName()
REFERENCE = ModelReference()
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def _runs(store: "Store") -> list[str]:
    """Ids, newest first."""
    from tensoryard.store import keys

    ids = [name.rstrip("/") for name in store.children(keys.RUNS)]
    numbered = [(parsed[1], run) for run in ids if (parsed := keys.parse_run_id(run))]
    return [run for _, run in sorted(numbered, reverse=True)]


def named(text: str) -> "tuple[Workspace, RunRecord]":
    """The workspace, and the run in it that text names. Raises NotFoundError with the nearest ids."""
    from tensoryard.run import find_run
    from tensoryard.workspace import Workspace

    workspace = Workspace.from_config()
    return workspace, find_run(workspace.store, text)
