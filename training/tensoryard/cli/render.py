"""`tyard render`: the files of a job, shown or written to a folder of their own; nothing else happens."""

from pathlib import Path

import click

from tensoryard.errors import UsageError


@click.command()
@click.argument("job", type=click.Path(path_type=Path), default="job.yaml")
@click.option(
    "--scheduler", type=click.Choice(["local", "slurm"]), help="What would launch it; the default is its target's."
)
@click.option("--hosts", metavar="A,B,C", help="Names of the nodes; the default is localhost, or node-1, node-2, ...")
@click.option("--set", "changes", multiple=True, metavar="FIELD=VALUE", help="Change a field of the job.")
@click.option("--out", type=click.Path(path_type=Path), help="Write the files into this new folder.")
def render(job: Path, scheduler: str | None, hosts: str | None, changes: tuple[str, ...], out: Path | None) -> None:
    """
    Show every file a job would run with: the launch script, the layout, TF_CONFIG of every task.

    No file is written, no network used, no environment built. On this machine a run takes free ports in
    place of those from 2222, and on Slurm it learns its hosts when it starts; all else is byte for byte
    what `tyard run` executes.

    \b
    Examples:
      tyard render job.yaml
      tyard render job.yaml --scheduler slurm --hosts gpu-1,gpu-2 --set node_count=2
    """
    from tensoryard.job_file import load_job
    from tensoryard.preparing import launch_files
    from tensoryard.render import Placement
    from tensoryard.store import keys
    from tensoryard.targets import scheduler_of
    from tensoryard.workspace import Workspace

    asked = load_job(job, changes)
    asked.environment_spec()
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
    files = launch_files(Workspace.from_config(), asked, keys.run_id(asked.experiment, 0), placement)
    if out is None:
        for name, text in files.items():
            click.echo(f"==> {name} <==")
            click.echo(text)
        return
    if out.exists() and any(out.iterdir()):
        raise UsageError(f"--out: `{out}` is there and not empty", hint="name a new folder")
    for name, text in files.items():
        path = out / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    click.echo(f"Wrote {len(files)} files to {out}", err=True)
