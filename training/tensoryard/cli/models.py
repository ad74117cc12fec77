"""`tyard models`: register, find, fetch and name model versions."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from tensoryard.cli.complete import NAME, REFERENCE, RUN
from tensoryard.cli.models_list import list_command
from tensoryard.cli.models_share import PUBLIC_KEY, push, sign, signature_problems
from tensoryard.cli.models_upkeep import gc, reindex
from tensoryard.cli.tables import minute, pairs, print_json, print_table, short_json
from tensoryard.errors import UsageError, VerificationError
from tensoryard.text import size

if TYPE_CHECKING:
    from tensoryard.registry import ModelVersion, Registry


def _registry() -> "Registry":
    from tensoryard.registry import Registry
    from tensoryard.workspace import Workspace

    return Registry(Workspace.from_config().store, warn=lambda message: click.echo(f"warning: {message}", err=True))


_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group()
def models() -> None:
    """
    Model versions: numbered, immutable, and named by aliases.

    MODEL is `digits` (the newest version), `digits:3` or `digits@champion`.

    \b
    Examples:
      tyard models register digits --run mnist-0007 --path outputs/model
      tyard models download digits@champion
    """


@models.command(short_help="Make the next version from a run or a folder")
@click.argument("name", type=NAME)
@click.option("--run", "run_id", type=RUN, metavar="RUN", help="The finished run that made the files.")
@click.option("--path", default="outputs", show_default=True, help="A folder or file of the run.")
@click.option("--folder", type=click.Path(path_type=Path), help="A folder or file on this machine, instead of a run.")
@click.option("--tag", "tags", multiple=True, metavar="KEY=VALUE", help="A tag of the version; may be repeated.")
@click.option("--copy", is_flag=True, help="Keep a copy, so that the run can be deleted.")
@click.option("--nonce", help="Any text: registering again with it gives the same version.")
def register(
    name: str,
    run_id: str | None,
    path: str,
    folder: Path | None,
    tags: tuple[str, ...],
    copy: bool,
    nonce: str | None,
) -> None:
    """
    Make the next version of a model from a run's files, or from a folder of this machine.

    The files stay where they are and are pinned by their digests.

    \b
    Examples:
      tyard models register digits --run mnist-0007 --path outputs/model
      tyard models register digits --folder ./exported --tag framework=keras
    """
    labels = dict(_label(tag) for tag in tags)
    if run_id is not None and folder is None:
        version = _registry().register_run_files(name, run_id, path, tags=labels, copy=copy, nonce=nonce)
        source = f"run `{version.run_id}`"
    elif folder is not None and run_id is None:
        version = _registry().register_folder(name, folder, tags=labels, nonce=nonce)
        source = f"`{folder}`"
    else:
        raise UsageError("models register: give either `--run` or `--folder`", "`tyard models register --help`")
    reference = f"{version.name}:{version.version}"
    click.echo(f"Registered `{reference}` from {source}: {_amount(version)}", err=True)
    click.echo(f"\n  tyard models show {reference}\n  tyard models alias {reference} champion", err=True)
    click.echo(f"  tyard models download {reference}\n", err=True)
    click.echo(reference)


@models.command(short_help="Show one version")
@click.argument("model", type=REFERENCE)
@_json
def show(model: str, as_json: bool) -> None:
    """
    Show one version: its files, where they come from, its aliases and tags.

    \b
    Examples:
      tyard models show digits
      tyard models show digits@champion --json
    """
    registry = _registry()
    version = registry.resolve(model)
    aliases = _naming(version, registry.aliases(version.name))
    if as_json:
        import msgspec

        print_json(msgspec.to_builtins(version) | {"aliases": aliases})
        return
    lineage = {key: value for key, value in version.lineage.items() if key != "metrics"}
    facts = {
        "model": f"{version.name}:{version.version}",
        "aliases": " ".join(aliases),
        "created": f"{minute(version.created_at)} by {version.created_by}",
        "run": version.run_id or "",
        "path": version.source_path or "",
        "size": _amount(version),
        "tree": f"sha256:{version.tree_digest}",
        "metrics": pairs(version.lineage.get("metrics") or {}, ""),
        "tags": pairs(version.tags, ""),
        "properties": pairs(version.properties, ""),
        **{key: value if isinstance(value, str) else short_json(value) for key, value in lineage.items()},
    }
    print_table((), [(key, value) for key, value in facts.items() if value])
    click.echo()
    files = [(file.path, size(file.size_bytes), file.sha256[:12]) for file in version.files]
    print_table(("FILE", "SIZE", "SHA256"), files)


@models.command(short_help="Fetch a version and check every byte")
@click.argument("model", type=REFERENCE)
@click.argument("target", type=click.Path(path_type=Path, file_okay=False), required=False)
def download(model: str, target: Path | None) -> None:
    """
    Download a version into TARGET, by default ./NAME-VERSION, and check every byte.

    \b
    Examples:
      tyard models download digits@champion
      tyard models download digits:3 ./serving/digits
    """
    registry = _registry()
    version = registry.resolve(model)
    folder = target or Path(f"{version.name}-{version.version}")
    registry.download_version(version, folder)
    click.echo(f"Downloaded `{version.name}:{version.version}`: {_amount(version)}, every byte checked", err=True)
    click.echo(folder)


@models.command(short_help="Compare stored bytes with what was registered")
@click.argument("model", type=REFERENCE)
@PUBLIC_KEY
@_json
def verify(model: str, key: Path | None, as_json: bool) -> None:
    """
    Read every stored byte of a version and compare it with what was registered, and signed.

    \b
    Examples:
      tyard models verify digits:3
      tyard models verify digits@champion --key public.pem
    """
    registry = _registry()
    version = registry.resolve(model)
    reference = f"{version.name}:{version.version}"
    signed = signature_problems(registry, version, key)
    found = signed + registry.verify_version(version)
    if as_json:
        print_json({"name": version.name, "version": version.version, "problems": found})
    else:
        for problem in found:
            click.echo(str(problem))
    if signed:
        hint = f"`tyard models list {version.name}` shows other versions"
        raise VerificationError(f"`{reference}`: is not what was signed with the key of `{key}`", hint)
    if found:
        raise VerificationError(
            f"`{reference}`: {len(found)} of its {len(version.files)} files are not what was registered",
            "`tyard models list` shows other versions; `tyard models delete` hides this one",
        )
    click.echo(
        f"Verified `{reference}`: {_amount(version)}, all as registered{' and signed' if key else ''}", err=True
    )


@models.command(short_help="Let a name such as champion stand for a version")
@click.argument("model", type=REFERENCE)
@click.argument("alias")
@click.option("--remove", is_flag=True, help="Take the alias away from the model.")
def alias(model: str, alias: str, remove: bool) -> None:
    """
    Let ALIAS name a version; `models history` keeps what it named before.

    \b
    Examples:
      tyard models alias digits:3 champion
      tyard models alias digits champion --remove
    """
    from tensoryard.registry import parse_reference

    registry = _registry()
    if remove:
        name = parse_reference(model).name
        event = registry.alias(name, alias, None)
        click.echo(f"Removed `{name}@{alias}`, which named version {event.previous}", err=True)
        return
    version = registry.resolve(model)
    event = registry.alias(version.name, alias, version.version)
    before = f", before it was version {event.previous}" if event.previous else ""
    click.echo(f"`{version.name}@{alias}` names version {version.version}{before}", err=True)


@models.command(short_help="Hide a version")
@click.argument("model", type=REFERENCE)
@click.option("--reason", default="", help="Why, for the history.")
@click.option("--force", is_flag=True, help="Delete it even if an alias names it.")
def delete(model: str, reason: str, force: bool) -> None:
    """
    Hide a version; its number is never used again, and `models restore` brings it back.

    \b
    Examples:
      tyard models delete digits:3 --reason "trained on the wrong split"
      tyard models delete digits:2 --force
    """
    name, version = _one_version(model)
    event = _registry().delete(name, version, reason=reason, force=force)
    if event is not None and event.kind == "purged":
        click.echo(f"`{name}:{version}` was deleted before, and `tyard models gc` gave it up", err=True)
        return
    click.echo(f"Deleted `{name}:{version}`; `tyard models restore {name}:{version}` brings it back", err=True)


@models.command(short_help="Bring a deleted version back")
@click.argument("model", type=REFERENCE)
def restore(model: str) -> None:
    """
    Bring a deleted version back.

    \b
    Examples:
      tyard models restore digits:3
      tyard models history digits
    """
    name, version = _one_version(model)
    if _registry().restore(name, version) is None:
        click.echo(f"`{name}:{version}` was not deleted", err=True)
    else:
        click.echo(f"Restored `{name}:{version}`", err=True)


@models.command(short_help="Tell who did what, and when")
@click.argument("name", type=NAME)
@_json
def history(name: str, as_json: bool) -> None:
    """
    Tell what happened to a model, oldest first: who registered, aliased, deleted or restored what, and when.

    \b
    Examples:
      tyard models history digits
      tyard models history digits --json
    """
    events = _registry().history(name)
    if as_json:
        print_json([{key: getattr(event, key) for key in event.__struct_fields__} for event in events])
        return
    rows = []
    for event in events:
        what = f"{name}:{event.version}" if event.version else "-"
        moved = f"before: {event.previous}" if event.previous else ""
        note = " ".join(part for part in (event.alias, moved, event.reason) if part)
        rows.append((minute(event.at), event.by, event.kind, what, note))
    print_table(("AT", "BY", "WHAT", "MODEL", "NOTE"), rows)


for command in (list_command, sign, push, gc, reindex):
    models.add_command(command)


def _one_version(text: str) -> tuple[str, int]:
    from tensoryard.registry import parse_reference

    reference = parse_reference(text)
    if reference.version is None:
        raise UsageError(f"model: got `{text}`, a version number is needed", f"such as `{reference.name}:3`")
    return reference.name, reference.version


def _label(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise UsageError(f"--tag: got `{text}`, a tag is KEY=VALUE", "such as `--tag framework=keras`")
    return key, value


def _naming(version: "ModelVersion", aliases: dict[str, int]) -> list[str]:
    return [alias for alias, number in aliases.items() if number == version.version]


def _amount(version: "ModelVersion") -> str:
    count = len(version.files)
    return f"{count} file{'' if count == 1 else 's'}, {size(version.size_bytes)}"
