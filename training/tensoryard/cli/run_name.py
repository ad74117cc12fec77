"""The RUN of a command: an id, a number or `latest`, completed from the workspace."""

from itertools import islice
from typing import TYPE_CHECKING

import click
from click.shell_completion import CompletionItem

from tensoryard.errors import TensoryardError

if TYPE_CHECKING:
    from tensoryard.run import RunRecord
    from tensoryard.workspace import Workspace

_OFFERED = 50


class RunName(click.ParamType[str]):
    """Completes the ids of runs, newest first, reading nothing but their names."""

    name = "run"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        from tensoryard.store import keys
        from tensoryard.workspace import Workspace

        try:
            names = [name.rstrip("/") for name in Workspace.from_config().store.children(keys.RUNS)]
        except TensoryardError:  # a completion has nowhere to say so
            return []
        numbered = [(parsed[1], name) for name in names if (parsed := keys.parse_run_id(name))]
        found = (name for _, name in sorted(numbered, reverse=True) if name.startswith(incomplete))
        latest = [CompletionItem("latest")] if "latest".startswith(incomplete) else []
        return latest + [CompletionItem(name) for name in islice(found, _OFFERED)]


RUN = RunName()
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def named(text: str) -> "tuple[Workspace, RunRecord]":
    """The workspace, and the run in it that text names. Raises NotFoundError with the nearest ids."""
    from tensoryard.run import find_run
    from tensoryard.workspace import Workspace

    workspace = Workspace.from_config()
    return workspace, find_run(workspace.store, text)
