"""`tyard render`: the files of a job, shown or written to a folder of their own; nothing else happens."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tensoryard.errors import UsageError

if TYPE_CHECKING:
    from tensoryard.environment import EnvironmentSpec


@click.command()
@click.argument("job", type=click.Path(path_type=Path), default="job.yaml")
@click.option(
    "--scheduler", type=click.Choice(["local", "slurm"]), help="What would launch it; the default is its target's."
)
@click.option("--hosts", metavar="A,B,C", help="Names of the nodes; the default is localhost, or node-1, node-2, ...")
@click.option("--set", "changes", multiple=True, metavar="FIELD=VALUE", help="Change a field of the job.")
@click.option("--out", type=click.Path(path_type=Path), help="Write the files into this new folder.")
@click.option("--image", is_flag=True, help="Show the Dockerfile of the job's image instead.")
def render(
    job: Path, scheduler: str | None, hosts: str | None, changes: tuple[str, ...], out: Path | None, image: bool
) -> None:
    """
    Show every file a job would run with: the launch script, the layout, TF_CONFIG of every task.

    No file is written, no network used, no environment built. On this machine a run takes free ports in
    place of those from 2222, and on Slurm it learns its hosts when it starts; all else is byte for byte
    what `tyard run` executes.

    With --image the environment is locked and its base looked up, where that was not done before; --out then
    has all that the image is built with: `docker build` there makes the same image.

    \b
    Examples:
      tyard render job.yaml
      tyard render job.yaml --scheduler slurm --hosts gpu-1,gpu-2 --set node_count=2
    """
    import msgspec

    from tensoryard.job_file import load_job
    from tensoryard.preparing import launch_files
    from tensoryard.render import Placement
    from tensoryard.store import keys
    from tensoryard.store.disk import plain_errors
    from tensoryard.target_images import with_runtime
    from tensoryard.targets import meant, scheduler_of
    from tensoryard.workspace import Workspace

    if out is not None:
        _check_new(out)
    workspace = Workspace.from_config()
    asked = with_runtime(workspace, load_job(job, changes))
    spec = asked.with_requirements().environment_spec()
    if image:
        if scheduler or hosts:
            raise UsageError("--image: an image is the same wherever it runs", "leave --scheduler and --hosts out")
        _show_image(spec, out)
        return
    asked = msgspec.structs.replace(asked, compute_target=meant(workspace, asked.compute_target))
    scheduler = scheduler or scheduler_of(asked.compute_target)
    if hosts is not None:
        names = tuple(name.strip() for name in hosts.split(","))
    elif scheduler == "local":
        names = ("localhost",) * asked.node_count
    else:
        names = tuple(f"node-{number}" for number in range(1, asked.node_count + 1))
    if not all(names):
        raise UsageError(f"--hosts: got `{hosts}`, expected names with commas between them")
    placement = Placement("slurm" if scheduler == "slurm" else "local", names)
    files = launch_files(workspace, asked, keys.run_id(asked.experiment, 0), placement)
    if out is None:
        for name, text in files.items():
            click.echo(f"==> {name} <==")
            click.echo(text)
        return
    with plain_errors(out, "writing"):
        for name, text in files.items():
            path = out / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    click.echo(f"Wrote {len(files)} files to {out}", err=True)


def _check_new(out: Path) -> None:
    from tensoryard.store.disk import plain_errors

    with plain_errors(out, "reading"):
        if not os.path.lexists(out):
            return
        if not out.is_dir():
            raise UsageError(f"--out: `{out}` is there and is no folder", hint="name a new folder")
        if any(out.iterdir()):
            raise UsageError(f"--out: `{out}` is there and not empty", hint="name a new folder")


def _show_image(spec: "EnvironmentSpec", out: Path | None) -> None:
    from tensoryard.environment.by_runtime import BuilderByRuntime
    from tensoryard.environment.image import dockerfile
    from tensoryard.environment.spec import recipe
    from tensoryard.store.disk import plain_errors
    from tensoryard.workspace import Workspace

    if spec.image is None:
        raise UsageError("--image: the job runs in a virtual environment", "`--set runtime=image` asks for an image")
    if spec.image.existing:
        raise UsageError(f"--image: the job runs in `{spec.image.existing}` as it is: nothing is built")
    if spec.image.dockerfile:
        raise UsageError(f"--image: the job's image is built from its own `{spec.image.dockerfile}`")

    def log(line: str) -> None:
        click.echo(line, err=True)

    images = BuilderByRuntime(Workspace.from_config()).images
    inputs = images.inputs(recipe(spec), spec.image, log)
    if out is None:
        click.echo(dockerfile(inputs), nl=False)
        return
    with plain_errors(out, "writing"):
        images.write_context(inputs, out, log)
    click.echo(f"Wrote the Dockerfile and what it is built with to {out}", err=True)
