"""`tyard data`: put data into the workspace's datastore and get it back."""

from pathlib import Path

import click

from tensoryard.cli.complete import DATA_PATH
from tensoryard.store import Store


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


@data.command()
@click.argument("src", type=click.Path(path_type=Path))
@click.argument("target", required=False)
@click.option("--overwrite", is_flag=True, help="Replace files that are there with other bytes.")
def upload(src: Path, target: str | None, overwrite: bool) -> None:
    """
    Upload a folder's files, or one file.

    They go below TARGET, a folder of the datastore; left out, it is the name of the folder SRC, and for a file the
    top. Files that are there with the same bytes are left alone.

    \b
    Examples:
      tyard data upload ./mnist
      tyard data upload ./images photos/train --overwrite
    """
    from tensoryard.folders import folder_files, summary, upload_files

    if target is None:
        target = src.resolve().name if src.is_dir() else ""
    done = upload_files(_store(), folder_files(src), target, overwrite=overwrite, show_progress=True)
    click.echo(summary("Uploaded", done, f"`{target}`" if target else "the datastore"), err=True)


@data.command()
@click.argument("path", type=DATA_PATH)
@click.option("--to", "folder", type=click.Path(path_type=Path), required=True, help="The folder to write into.")
@click.option("--overwrite", is_flag=True, help="Replace local files that have other bytes.")
def download(path: str, folder: Path, overwrite: bool) -> None:
    """
    Download a folder or file of the datastore.

    What is below PATH is written into the folder `--to`; a PATH of `.` is all of the datastore. Files that are
    there with the same bytes are left alone.

    \b
    Examples:
      tyard data download mnist --to ./mnist
      tyard data download photos/train/cat.png --to .
    """
    from tensoryard.folders import download_path, summary

    done = download_path(_store(), path, folder, whole_paths=False, overwrite=overwrite, show_progress=True)
    click.echo(summary("Downloaded", done, str(folder)), err=True)


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
    from tensoryard.folders import clean_path, folder_files, summary, upload_files
    from tensoryard.store.disk import plain_errors

    path = clean_path(path or name)
    store = _store()
    with plain_errors(tempfile.gettempdir(), "writing"), tempfile.TemporaryDirectory(prefix="tyard-") as folder:
        idx_data.fetch(name, Path(folder), lambda line: click.echo(line, err=True))
        done = upload_files(store, folder_files(Path(folder)), path, overwrite=overwrite, show_progress=True)
    click.echo(summary("Uploaded", done, f"`{path}`"), err=True)
    click.echo(f"\n  in job.yaml: --data-folder: {{datastore: default, path: {path}}}\n", err=True)
