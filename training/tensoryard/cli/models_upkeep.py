"""`tyard models gc` and `reindex`: room freed, and the index mended."""

from typing import TYPE_CHECKING

import click

from tensoryard.cli.complete import NAME
from tensoryard.cli.tables import minute, print_json, print_table
from tensoryard.text import size

if TYPE_CHECKING:
    from tensoryard.registry import Registry


@click.command(short_help="Remove what no version, run or snapshot needs")
@click.option(
    "--deleted-before",
    type=click.FloatRange(min=0),
    default=30,
    show_default=True,
    metavar="DAYS",
    help="Purge versions deleted at least this many days ago.",
)
@click.option("--yes", is_flag=True, help="Actually remove; without it this is a dry run.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def gc(deleted_before: float, yes: bool, as_json: bool) -> None:
    """
    Purge versions that were deleted long ago, and remove copied files and source files that nothing needs.

    A purge is final: `models restore` is refused from then on. Records, numbers, histories and what lies with a
    run stay. What was written or used within a day stays as well, so that nobody at work is disturbed.

    \b
    Examples:
      tyard models gc
      tyard models gc --deleted-before 7 --yes
    """
    from msgspec import to_builtins

    from tensoryard.registry.gc import collect

    found = collect(_registry().store, apply=yes, deleted_before_days=deleted_before)
    if as_json:
        print_json(to_builtins(found) | {"dry_run": not yes})
        return
    if found.versions:
        rows = [
            (f"{one.name}:{one.version}", minute(one.deleted_at), one.deleted_by, one.reason or "-")
            for one in found.versions
        ]
        print_table(("MODEL", "DELETED", "BY", "REASON"), rows)
    for reference in found.held:
        click.echo(f"`{reference}` is deleted, and stays as an alias names it", err=True)
    if found.young:
        click.echo(f"{_count(found.young, 'more file')} that nothing needs may go a day after the last use", err=True)
    versions = _count(len(found.versions), "deleted version")
    files = f"{_count(found.contents, 'file')}, {size(found.size_bytes)}"
    if yes:
        click.echo(f"Purged {versions} and removed {files}", err=True)
    elif found.versions or found.contents:
        click.echo(f"Would purge {versions} and remove {files}; `--yes` does it", err=True)
    else:
        click.echo("Nothing to remove", err=True)


@click.command(short_help="Write the index of versions anew")
@click.argument("name", type=NAME, required=False)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def reindex(name: str | None, as_json: bool) -> None:
    """
    Write the index that searches use anew from the versions' records, where it was lost or changed.

    \b
    Examples:
      tyard models reindex
      tyard models reindex digits
    """
    from tensoryard.registry.reindex import reindex as mend

    found = mend(_registry(), name)
    if as_json:
        print_json(found)
        return
    unreadable = f", {found.unreadable} with a record that cannot be read" if found.unreadable else ""
    total = found.right + found.mended + found.unreadable
    click.echo(
        f"Looked at {_count(total, 'version')}: {found.right} right, {found.mended} mended{unreadable}", err=True
    )


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _registry() -> "Registry":
    from tensoryard.registry import Registry
    from tensoryard.workspace import Workspace

    return Registry(Workspace.from_config().store, warn=lambda message: click.echo(f"warning: {message}", err=True))
