"""`tyard init`: a new job folder that runs as it is."""

import re
import shlex
from pathlib import Path

import click

from tensoryard.errors import UsageError
from tensoryard.store import keys

FILES = ("job.yaml", "train.py", "requirements.txt")
KINDS = ("single", "horovod", "parameter_server", "multi_worker")
DATA = ("mnist", "digits", "fashion-mnist")


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--kind", type=click.Choice(KINDS), default="single", show_default=True, help="The way of running.")
@click.option("--data", type=click.Choice(DATA), default="mnist", show_default=True, help="The data to train on.")
@click.option("--experiment", metavar="NAME", help="Groups the runs; the default is the name of DIR.")
def init(folder: Path, kind: str, data: str, experiment: str | None) -> None:
    """
    Make a job folder that runs as it is: job.yaml, train.py and requirements.txt, to be changed at will.

    The script trains a small image classifier. The ways of running:

    \b
      single            one process
      horovod           ranks that average their gradients
      parameter_server  servers hold the variables, workers compute
      multi_worker      MultiWorkerMirroredStrategy: workers in step

    \b
    Examples:
      tyard init mnist
      tyard init digits-horovod --kind horovod --data digits
    """
    name = keys.check_name("experiment", experiment or _experiment_of(folder))
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder}: a file is there", hint="name a folder")
    taken = [file for file in FILES if (folder / file).exists()]
    if taken:
        raise UsageError(
            f"{folder}: {', '.join(taken)} {'is' if len(taken) == 1 else 'are'} there already, nothing was written",
            hint="name another folder, or move these files away",
        )
    _write(folder, kind, name, data)
    click.echo(f"Made {folder}: {', '.join(FILES)}\n\nNext:", err=True)
    job = shlex.quote(str(folder / "job.yaml"))
    commands = {
        f"tyard data fetch {data}": f"puts the images at `{data}` in the datastore, once",
        f"tyard render {job}": "shows every file that it would run with",
        f"tyard run {job}": "runs it and follows it",
    }
    width = max(map(len, commands))
    for command, purpose in commands.items():
        click.echo(f"  {command:{width}}  {purpose}", err=True)


def _experiment_of(folder: Path) -> str:
    """The folder's name made into a name of an experiment, as job.yaml without `experiment` has it."""
    return re.sub(r"[^a-zA-Z0-9._-]+", "-", folder.resolve().name).strip("-._")[:63].rstrip(".") or "job"


def _write(folder: Path, kind: str, experiment: str, data: str) -> None:
    from tensoryard import templates
    from tensoryard.store.disk import plain_errors

    source = templates.folder("training") / kind
    with plain_errors(folder, "writing"):
        folder.mkdir(parents=True, exist_ok=True)
        for file in FILES:
            text = (source / file).read_text(encoding="utf-8")
            if file == "job.yaml":
                # Quoted, as YAML takes a name such as `on` or `1.5` for something else than text.
                text = text.replace('experiment: "mnist"', f'experiment: "{experiment}"', 1)
                text = text.replace("such as mnist-0001", f"such as {experiment}-0001", 1)
                text = text.replace("path: mnist,", f"path: {data},", 1)
            # "x": of two at once in one folder, neither overwrites the other's file.
            with (folder / file).open("x", encoding="utf-8") as made:
                made.write(text)
