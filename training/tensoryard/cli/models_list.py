"""`tyard models list`: a page of versions, all or those that are looked for."""

from itertools import islice
from typing import TYPE_CHECKING, Any

import click

from tensoryard.cli.complete import NAME
from tensoryard.cli.tables import minute, pairs, print_json, print_table
from tensoryard.errors import UsageError
from tensoryard.text import size

if TYPE_CHECKING:
    from tensoryard.registry import ModelVersion, Registry
    from tensoryard.registry.listing import Listed


@click.command("list", short_help="List a model's versions, or all models")
@click.argument("name", type=NAME, required=False)
@click.option("--where", metavar="CONDITIONS", help="Only versions that match these conditions, joined by `and`.")
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True, help="How many to print.")
@click.option("--before", type=int, metavar="VERSION", help="Of NAME only versions below this number.")
@click.option("--after", metavar="MODEL", help="Without NAME only models after this one.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_command(
    name: str | None, where: str | None, limit: int, before: int | None, after: str | None, as_json: bool
) -> None:
    """
    List the versions of the model NAME, newest first; without NAME the newest version of every model, by name.

    --where takes the versions that fulfil conditions on model, version, run, experiment, code, data, environment,
    tensorflow, created, by, size, on metrics and on tags: newest first, one model after the other.

    \b
    Examples:
      tyard models list digits --limit 10 --json
      tyard models list --where "run=mnist-0007 and accuracy>=0.97"
      tyard models list --where "version>=1" --limit 1000     every version of every model
    """
    if before is not None and name is None:
        raise UsageError("models list: `--before` names a version, so it needs the model's NAME", "or use `--after`")
    if after is not None and (name is not None or where is not None):
        raise UsageError("models list: `--after` goes on in the list of all models", "of one model use `--before`")
    registry = _registry()
    found = _found(registry, name, where, before, after or "", limit)
    rows = [_summary(one) for one in found[:limit]]
    if as_json:
        print_json(rows)
    elif rows:
        print_table(("MODEL", "CREATED", "RUN", "SIZE", "ALIASES", "METRICS", "TAGS"), [_row(row) for row in rows])
    else:
        click.echo("No versions" if name or where else "No models yet", err=True)
    if len(found) > limit:
        click.echo(_more(rows[-1], name, where, limit), err=True)


def _found(
    registry: "Registry", name: str | None, where: str | None, before: int | None, after: str, limit: int
) -> "list[Listed]":
    """A page, and one more where there are more."""
    from tensoryard.registry.listing import Listed, newest_of_models
    from tensoryard.registry.search import search
    from tensoryard.registry.where import parse_where
    from tensoryard.store.parallel import each

    if where is None and name is None:
        return list(islice(newest_of_models(registry, after=after), limit + 1))
    versions: list[ModelVersion]
    if where is not None:
        versions = list(islice(search(registry, parse_where(where), name, before=before), limit + 1))
    else:
        versions = list(islice(registry.list_versions(str(name), before=before), limit + 1))
    models = sorted({version.name for version in versions})
    aliases = dict(zip(models, each(registry.store, registry.aliases, models), strict=True))
    return [Listed(version, aliases[version.name]) for version in versions]


def _more(last: dict[str, Any], name: str | None, where: str | None, limit: int) -> str:
    if name is not None:
        again = " with the same conditions" if where else ""
        return f"There are older versions: tyard models list {name} --before {last['version']}{again}"
    if where is not None:
        return f"There are more versions: `--limit {2 * limit}` shows more"
    return f"There are more models: tyard models list --after {last['name']}"


def _summary(listed: "Listed") -> dict[str, Any]:
    version = listed.version
    return {
        "name": version.name,
        "version": version.version,
        "created_at": version.created_at,
        "run_id": version.run_id,
        "size_bytes": version.size_bytes,
        "aliases": [alias for alias, number in listed.aliases.items() if number == version.version],
        "tags": version.tags,
        "metrics": version.lineage.get("metrics") or {},
    }


def _row(row: dict[str, Any]) -> tuple[str, ...]:
    return (
        f"{row['name']}:{row['version']}",
        minute(row["created_at"]),
        row["run_id"] or "-",
        size(row["size_bytes"]),
        " ".join(row["aliases"]) or "-",
        pairs(row["metrics"]),
        pairs(row["tags"]),
    )


def _registry() -> "Registry":
    from tensoryard.registry import Registry
    from tensoryard.workspace import Workspace

    return Registry(Workspace.from_config().store, warn=lambda message: click.echo(f"warning: {message}", err=True))
