"""`tyard data`: put data into the workspace's datastore and get it back."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tensoryard.cli.complete import DATA_PATH
from tensoryard.store import Store

if TYPE_CHECKING:
    from tensoryard.bulk import Wanted
    from tensoryard.downloads import Download
    from tensoryard.folders import Transferred
    from tensoryard.uploads import Upload

_LARGEST = 5


def _store() -> Store:
    from tensoryard.workspace import Workspace

    return Workspace.from_config().store


@click.group()
def data() -> None:
    """
    Data in the workspace, for jobs to read.

    A job names a path of it: `--data-folder: {datastore: default, path: mnist}`.

    \b
    Examples:
      tyard data fetch digits
      tyard data upload ./images photos/train
    """


_DRY_RUN = click.option("--dry-run", is_flag=True, help="Show what would be done, and do nothing.")
_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON, and no progress.")


@data.command()
@click.argument("src", type=click.Path(path_type=Path))
@click.argument("target", required=False)
@click.option("--overwrite", is_flag=True, help="Replace files that are there with other bytes.")
@_DRY_RUN
@_JSON
def upload(src: Path, target: str | None, overwrite: bool, dry_run: bool, as_json: bool) -> None:
    """
    Upload a folder's files, or one file.

    They go below TARGET, a folder of the datastore; left out, it is the name of the folder SRC, and for a file the
    top. Files that are there with the same bytes are left alone: the same command again sends what is missing, also
    of a large file that was cut off and has not changed since.

    \b
    Examples:
      tyard data upload ./mnist
      tyard data upload ./images photos/train --overwrite --dry-run
    """
    from tensoryard.file_names import colliding, not_on_windows
    from tensoryard.folders import folder_files, some
    from tensoryard.uploads import Upload

    if target is None:
        target = src.resolve().name if src.is_dir() else ""
    found = folder_files(src)
    odd = [f"`{name}`" for name in found if not_on_windows(name)]
    if odd:
        click.echo(f"these names are not valid on Windows: {some(odd)}", err=True)
    pairs = [f"`{one}` and `{other}`" for one, other in colliding(found)]
    if pairs:
        click.echo(f"these names differ only in case, and are one on Windows and macOS: {some(pairs)}", err=True)
    wanted = Upload(_store(), found, target)
    _carry_out("Uploaded", wanted, f"`{target}`" if target else "the datastore", overwrite, dry_run, as_json)


@data.command()
@click.argument("path", type=DATA_PATH)
@click.option("--to", "folder", type=click.Path(path_type=Path), required=True, help="The folder to write into.")
@click.option("--overwrite", is_flag=True, help="Replace local files that have other bytes.")
@_DRY_RUN
@_JSON
def download(path: str, folder: Path, overwrite: bool, dry_run: bool, as_json: bool) -> None:
    """
    Download a folder or file of the datastore.

    What is below PATH is written into the folder `--to`; a PATH of `.` is all of the datastore. Files that are
    there with the same bytes are left alone: the same command again fetches what is missing. Of a large file that
    was cut off, a hidden `.tyard-part-...` waits beside it for that.

    \b
    Examples:
      tyard data download mnist --to ./mnist
      tyard data download photos/train/cat.png --to .
    """
    from tensoryard.downloads import Download

    wanted = Download(_store(), path, folder, whole_paths=False)
    _carry_out("Downloaded", wanted, str(folder), overwrite, dry_run, as_json)


def _carry_out(
    verb: str, wanted: "Upload | Download", where: str, overwrite: bool, dry_run: bool, as_json: bool
) -> None:
    from tensoryard.cli.tables import print_json
    from tensoryard.folders import Transferred, summary

    todo: Sequence[Wanted] = wanted.todo()
    if dry_run:
        done = Transferred(len(todo), sum(item.size_bytes for item in todo), wanted.same)
    else:
        done = wanted.run(overwrite=overwrite, show_progress=not as_json)
    largest = sorted(todo, key=lambda item: (-item.size_bytes, item.name))[:_LARGEST]
    if as_json:
        print_json(
            {
                **done._asdict(),
                "replaced": sum(item.replaces for item in todo),
                "dry_run": dry_run,
                "largest": [{"path": item.name, "size_bytes": item.size_bytes} for item in largest],
            }
        )
    elif dry_run:
        _tell_dry_run(verb, done, todo, largest, where, overwrite)
    else:
        click.echo(summary(verb, done, where), err=True)


def _tell_dry_run(
    verb: str,
    done: "Transferred",
    todo: "Sequence[Wanted]",
    largest: "Sequence[Wanted]",
    where: str,
    overwrite: bool,
) -> None:
    from tensoryard.folders import some, summary
    from tensoryard.text import printable, size

    click.echo(summary(f"Would have {verb.lower()}", done, where), err=True)
    changed = [f"`{item.name}`" for item in todo if item.replaces]
    if changed:
        way = "to be replaced" if overwrite else "needs --overwrite"
        click.echo(f"There with other bytes, {way}: {some(changed)}", err=True)
    for item in largest:
        click.echo(f"  {size(item.size_bytes):>8}  {printable(item.name)}", err=True)


@data.command("list")
@click.argument("path", type=DATA_PATH, default="")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_command(path: str, as_json: bool) -> None:
    """
    List what is there, with counts and sizes.

    Files and folders directly below PATH; without it, at the top.

    \b
    Examples:
      tyard data list
      tyard data list photos --json
    """
    from tensoryard.cli.tables import print_json, print_table
    from tensoryard.folders import listing
    from tensoryard.text import size

    found = listing(_store(), path)
    if as_json:
        print_json([folder._asdict() for folder in found])
    elif found:
        rows = [(folder.path, str(folder.files), size(folder.size_bytes)) for folder in found]
        print_table(("PATH", "FILES", "SIZE"), rows)
    else:
        click.echo("No data yet: `tyard data fetch digits` or `tyard data upload FOLDER` puts some there", err=True)


@data.command()
@click.argument("name")
@click.option("--to", "path", metavar="PATH", help="Where in the datastore; the default is NAME.")
@click.option("--overwrite", is_flag=True, help="Replace files that are there with other bytes.")
def fetch(name: str, path: str | None, overwrite: bool) -> None:
    """
    Fetch a data set to start with.

    It is put into the datastore as the templates of `tyard init` read it.

    NAME is `mnist`, `digits` or `fashion-mnist`; `digits` is small and comes from the package index.

    \b
    Examples:
      tyard data fetch digits
      tyard data fetch fashion-mnist --to clothing
    """
    import tempfile

    from tensoryard import idx_data
    from tensoryard.folders import clean_path, folder_files, summary
    from tensoryard.store.disk import plain_errors
    from tensoryard.uploads import upload_files

    path = clean_path(path or name)
    store = _store()
    with plain_errors(tempfile.gettempdir(), "writing"), tempfile.TemporaryDirectory(prefix="tyard-") as folder:
        idx_data.fetch(name, Path(folder), lambda line: click.echo(line, err=True))
        done = upload_files(store, folder_files(Path(folder)), path, overwrite=overwrite, show_progress=True)
    click.echo(summary("Uploaded", done, f"`{path}`"), err=True)
    click.echo(f"\n  in job.yaml: --data-folder: {{datastore: default, path: {path}}}\n", err=True)
