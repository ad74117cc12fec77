"""`tyard env`: build, list, show and prune the environments of jobs."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tensoryard.cli.tables import print_json, print_table
from tensoryard.errors import NotFoundError, UsageError
from tensoryard.text import size

if TYPE_CHECKING:
    from tensoryard.environment import Environment, EnvironmentSpec
    from tensoryard.environment.by_runtime import BuilderByRuntime

_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group()
def env() -> None:
    """
    Environments of jobs: Python, TensorFlow and packages, locked, built once and shared, as folders or images.

    They lie in $TYARD_CACHE, by default ~/.cache/tensoryard.

    \b
    Examples:
      tyard env build --tensorflow 2.15 --horovod
      tyard env list
    """


@env.command("list")
@_json
def list_command(as_json: bool) -> None:
    """
    List the environments of this machine, newest first.

    \b
    Examples:
      tyard env list
      tyard env list --json
    """
    found = _builder().list()
    if as_json:
        print_json(found)
    elif found:
        rows = [
            (
                one.hash,
                one.name,
                one.python_version,
                one.tensorflow or "-",
                _minute(one.created_at),
                size(one.size_bytes),
            )
            for one in found
        ]
        print_table(("HASH", "NAME", "PYTHON", "TENSORFLOW", "BUILT", "SIZE"), rows)
    else:
        click.echo("No environments yet", err=True)


@env.command()
@click.argument("environment")
@click.option("--lock", "show_lock", is_flag=True, help="Print the lock, as pip and uv read it.")
@click.option("--sbom", is_flag=True, help="Print all that is inside, as CycloneDX JSON.")
@_json
def show(environment: str, show_lock: bool, sbom: bool, as_json: bool) -> None:
    """
    Show one environment: its interpreter and its packages.

    ENVIRONMENT is a hash, the first letters of one, a name (the newest with it), or a job file.

    \b
    Examples:
      tyard env show tensorflow-2.15+horovod
      tyard env show 0bd3dcd5 --lock > requirements.lock
      tyard env show job.yaml --sbom > sbom.json
    """
    if show_lock + sbom + as_json > 1:
        raise UsageError("env show: give one of `--lock`, `--sbom` and `--json`")
    builder = _builder()
    found = _of_job(builder, Path(environment)) if Path(environment).is_file() else builder.show(environment)
    if show_lock:
        click.echo(builder.lock(found), nl=False)
        return
    if sbom:
        from tensoryard import __version__
        from tensoryard.environment.sbom import bill_of_materials

        print_json(bill_of_materials(found, builder.lock(found), __version__))
        return
    if as_json:
        print_json(found)
        return
    facts = {
        "hash": found.hash,
        "name": found.name,
        "python": f"{found.python_version}  {found.python}".strip(),
        "image": found.image,
        "tensorflow": found.tensorflow,
        "horovod": f"{found.horovod}, {found.mpi or 'Gloo only'}" if found.horovod else "",
        "built": f"{_minute(found.created_at)} UTC",
        "size": f"{size(found.size_bytes)}, {size(found.own_bytes)} of it not shared with uv's cache",
        "lock": f"sha256:{found.lock_sha256}" if found.lock_sha256 else "",
    }
    if found.image:
        facts["size"] = size(found.size_bytes)
    print_table((), [(key, value) for key, value in facts.items() if value])
    click.echo()
    print_table(("PACKAGE", "VERSION"), [(package.name, package.version) for package in found.packages])


@env.command()
@click.argument("job", type=click.Path(path_type=Path), required=False)
@click.option("--tensorflow", metavar="RELEASE", help="Such as 2.15; by default the newest that fits.")
@click.option("--python", metavar="VERSION", help="Such as 3.11; by default the newest that fits.")
@click.option("--horovod", is_flag=True, help="With Horovod, compiled here once.")
@click.option("--gpu", is_flag=True, help="With CUDA.")
@click.option("--pip", "pip_packages", multiple=True, metavar="PACKAGE", help="A pip package; may be repeated.")
@click.option("--conda", "conda_packages", multiple=True, metavar="PACKAGE", help="A conda package; may be repeated.")
@click.option(
    "--channel", "channels", multiple=True, metavar="CHANNEL", help="A conda channel, instead of conda-forge."
)
@click.option("--rebuild", is_flag=True, help="Lock again, for newer packages, and build anew.")
@click.option("--quiet", is_flag=True, help="Print only the path of the interpreter.")
def build(
    job: Path | None,
    tensorflow: str | None,
    python: str | None,
    horovod: bool,
    gpu: bool,
    pip_packages: tuple[str, ...],
    conda_packages: tuple[str, ...],
    channels: tuple[str, ...],
    rebuild: bool,
    quiet: bool,
) -> None:
    """
    Build the environment of a job, and print its interpreter.

    Of an image, print the name with the digest; it is pushed to the workspace's registry if that has one. The job is
    a file, or described by options.

    \b
    Examples:
      tyard env build job.yaml
      tyard env build --tensorflow 2.15 --horovod --pip scikit-learn
    """
    from tensoryard.environment.spec import environment_spec

    spec: EnvironmentSpec
    if job is not None:
        if any((tensorflow, python, horovod, gpu, pip_packages, conda_packages, channels)):
            raise UsageError("env build: give either a job file or options, not both", "`tyard env build --help`")
        spec = _spec_of_job(job)
    else:
        spec = environment_spec(
            way="mpi" if horovod else "single",
            framework_version=tensorflow,
            python_version=python,
            use_gpu=gpu,
            pip_packages=pip_packages,
            conda_packages=conda_packages,
            conda_channels=channels or ("conda-forge",),
        )
    builder = _builder()
    there = None if rebuild else builder.find(spec)
    if there is None:
        with _source_of(spec) as asked:
            found = builder.ensure(asked, lambda line: None if quiet else click.echo(line, err=True), rebuild)
    else:
        found = there
    if not quiet:
        click.echo(f"{'Found' if there else 'Built'} `{found.name}` {found.hash}", err=True)
    click.echo(found.image or found.python)


@env.command()
@click.argument("environment")
@_json
def update(environment: str, as_json: bool) -> None:
    """
    Move an environment to what is newest, and print what changed.

    Packages, and the image below them, also of the job's own Dockerfile. Nothing is built; runs from now on get what
    changed.

    ENVIRONMENT is a job file, or what `tyard env show` takes.

    \b
    Examples:
      tyard env update job.yaml
      tyard env update tensorflow-2.15+horovod --json
    """
    builder = _builder()
    is_job = Path(environment).is_file()
    spec = _spec_of_job(Path(environment)) if is_job else builder.show(environment).spec
    if spec is None or (not is_job and spec.image and spec.image.dockerfile):
        raise UsageError(f"env update: what `{environment}` was made from is not here", "give its job file")
    moved = builder.update(spec, lambda line: click.echo(line, err=True))
    if as_json:
        print_json([{"what": one.what, "before": one.before, "after": one.after} for one in moved])
        return
    for one in moved:
        click.echo(f"{one.what}: {one.before or '(not there)'} -> {one.after or '(left out)'}")
    if not moved:
        click.echo("Nothing changed", err=True)


@env.command()
@click.argument("environment")
@click.argument("registry")
def push(environment: str, registry: str) -> None:
    """
    Push an image that was built here, and print its name there.

    The name has the digest. Layers that the registry has are not sent. A workspace with a registry has its images
    there already.

    \b
    Examples:
      tyard env push tensorflow-2.15+horovod myregistry.azurecr.io
      tyard env push 4e4593d2 localhost:5000/team
    """
    builder = _builder()
    click.echo(builder.images.push(builder.show(environment), registry, lambda line: click.echo(line, err=True)))


@env.command()
@click.option(
    "--unused-days",
    type=click.FloatRange(min=0),
    default=30,
    show_default=True,
    help="Only what was not used for this many days.",
)
@click.option(
    "--free",
    "free_gib",
    type=click.FloatRange(min=0),
    default=0.0,
    metavar="GIB",
    help="Then go on until this many GiB are free.",
)
@click.option("--all", "all_of_them", is_flag=True, help="All environments, and Horovod's wheels.")
@click.option("--yes", is_flag=True, help="Remove them; without it they are only listed.")
@_json
def prune(unused_days: float, free_gib: float, all_of_them: bool, yes: bool, as_json: bool) -> None:
    """
    Remove environments that were not used for a while.

    With --free also those used longest ago, until there is room. Images stay in their registry, and layers as long as
    an image here has them.

    One that a process uses stays, and an image that a run has, from before it starts to its end. Locks stay, so that
    a later run gets the same packages again.

    \b
    Examples:
      tyard env prune
      tyard env prune --unused-days 7 --free 20 --yes
    """
    days = None if all_of_them else unused_days
    pruned = _builder().prune(days, dry_run=not yes, free_bytes=int(free_gib * (1 << 30)))
    if as_json:
        print_json(pruned)
        return
    rows = [(one.hash, one.name, _minute(one.used_at), size(one.own_bytes)) for one in pruned]
    if rows:
        print_table(("HASH", "NAME", "LAST USED", "FREES"), rows)
    count = f"{len(rows)} environment{'' if len(rows) == 1 else 's'}"
    click.echo(f"Removed {count}" if yes else f"Would remove {count}; `--yes` removes them", err=True)


def _builder() -> "BuilderByRuntime":
    from tensoryard.environment.by_runtime import BuilderByRuntime
    from tensoryard.environment.venv import VenvBuilder
    from tensoryard.workspace import Workspace

    venvs = VenvBuilder(warn=lambda message: click.echo(f"warning: {message}", err=True))
    return BuilderByRuntime(Workspace.from_config(), venvs)


def _of_job(builder: "BuilderByRuntime", path: Path) -> "Environment":
    from tensoryard.environment.by_runtime import BuilderByRuntime
    from tensoryard.workspace import Workspace

    spec = _spec_of_job(path)
    found = builder.find(spec)
    if found is None and spec.image:  # on a head whose nodes pull it
        found = BuilderByRuntime(Workspace.from_config(), on_nodes=True).find(spec)
    if found is None:
        raise NotFoundError(
            f"the environment of `{path}` is not on this machine", hint=f"`tyard env build {path}` builds it"
        )
    return found


def _spec_of_job(path: Path) -> "EnvironmentSpec":
    """What a job asks for; a Dockerfile of its own with its source as it is now, as a run of now would have it."""
    from msgspec.structs import replace

    from tensoryard import snapshot
    from tensoryard.job_file import load_job
    from tensoryard.target_images import with_runtime
    from tensoryard.workspace import Workspace

    workspace = Workspace.from_config()
    job = load_job(path)
    spec = with_runtime(workspace, job).with_requirements().environment_spec()
    if spec.image and spec.image.dockerfile:
        source = Path(job.source_directory)
        taken = snapshot.take(workspace.store, source, lambda line: click.echo(line, err=True), workspace.root)
        return replace(spec, image=replace(spec.image, context=taken.digest, folder=job.source_directory))
    return spec


@contextmanager
def _source_of(spec: "EnvironmentSpec") -> Iterator["EnvironmentSpec"]:
    """The spec with a copy of its source, where it has one, without what no run would have of it."""
    if spec.image is None or not spec.image.dockerfile:
        yield spec
        return
    import tempfile

    from msgspec.structs import replace

    from tensoryard import snapshot
    from tensoryard.workspace import Workspace

    workspace = Workspace.from_config()
    with tempfile.TemporaryDirectory() as folder:
        taken = snapshot.take(workspace.store, Path(spec.image.folder), lambda line: None, workspace.root)
        snapshot.lay_out(workspace.store, taken, Path(folder) / "source")
        yield replace(spec, image=replace(spec.image, context=taken.digest, folder=f"{folder}/source"))


def _minute(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M")
