"""What lies in a run's work folder before it is launched: its source, its data, the launch files."""

import shutil
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import msgspec

from tensoryard import context, snapshot
from tensoryard.environment import Environment, EnvironmentBuilder, EnvironmentSpec, ImageSpec
from tensoryard.environment.spec import in_words
from tensoryard.errors import NotFoundError
from tensoryard.job import DatastoreReference, Job
from tensoryard.render import Placement, render
from tensoryard.run import RunRecord
from tensoryard.store import Store, keys
from tensoryard.store.parallel import each
from tensoryard.store.transfer import download
from tensoryard.target_images import node_images
from tensoryard.workspace import Workspace

RESERVE_BYTES = 256 << 10
ON_NODE = (
    "rank.py",
    "supervisor.py",
    "children.py",
    "end_record.py",
    "tf_config.py",
    "attempt.py",
    "in_image.py",
    "image_gpus.py",
)
"""What lies in launch/ for nodes: each finds the others beside it."""


def make_folders(folder: Path) -> None:
    """The folders of a run, and disk space for the events and the list of outputs at its end."""
    for name in ("launch/path", "tasks", "logs", "outputs", "metrics"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    # Should the script fill the disk.
    (folder / "launch" / "reserve").write_bytes(bytes(RESERVE_BYTES))


def lay_out_source(run: RunRecord, folder: Path) -> None:
    """The snapshot, where the script runs, with ./outputs and ./logs leading to those of the run."""
    if not (folder / "source").exists():
        snapshot.lay_out(run.store, run.snapshot(), folder / "source")
    for name in ("outputs", "logs"):
        link = folder / "source" / name
        if not link.is_symlink():
            link.symlink_to(f"../{name}")


def with_context(spec: EnvironmentSpec, run: RunRecord, folder: Path) -> EnvironmentSpec:
    """A spec whose image is built from the job's Dockerfile, with the run's source as its context."""
    assert spec.image is not None
    context = {"context": run.snapshot().digest, "folder": str(folder / "source")}
    return msgspec.structs.replace(spec, image=msgspec.structs.replace(spec.image, **context))


def environment_of(
    builder: EnvironmentBuilder, run: RunRecord, folder: Path, log: Callable[[str], None]
) -> tuple[Environment, bool]:
    """
    The environment of a run, and whether it was there already.

    A run that is pinned to an image has that one and no other. Raises NotFoundError when it is not to be had.
    """
    pin = run.image()
    if pin is not None:
        spec = msgspec.structs.replace(run.job.environment_spec(), image=ImageSpec(existing=pin.image))
        found = _found(builder, spec, log)
        try:
            environment = found or builder.ensure(spec, log)
        except NotFoundError as error:
            raise NotFoundError(
                f"`{pin.name}`: the run is pinned to an image that is gone: {error.message}",
                hint=f"`tyard runs resubmit {run.id} --rebuild` takes the image that the job gets now; `tyard env "
                "push` puts the old one back from a machine that has it",
            ) from None
        return msgspec.structs.replace(pin, unpacked=environment.unpacked), found is not None
    spec = run.job.environment_spec()
    if spec.image and spec.image.dockerfile:
        lay_out_source(run, folder)
        spec = with_context(spec, run, folder)
    rebuild = run.wants_rebuild()
    found = None if rebuild else _found(builder, spec, log)
    if found is None:
        log(f"Building the environment {in_words(spec)}")
    environment = found or builder.ensure(spec, log, rebuild)
    if environment.image:
        run.keep_image(environment)
    return environment, found is not None


def _found(builder: EnvironmentBuilder, spec: EnvironmentSpec, log: Callable[[str], None]) -> Environment | None:
    found = builder.find(spec)
    if found and found.image:
        from tensoryard.environment.image_environment import reused

        log(reused(found))
    return found


def image_is_kept(folder: Path) -> bool:
    """Whether the image that a run's folder leads to is there, and stays there until the run has ended."""
    from tensoryard.environment.in_use import given

    image = (folder / "environment").readlink()
    given(image, folder)
    return (image / "image.json").exists()


def give_image_back(folder: Path) -> None:
    """Let the image of a run go that has ended; one that was in none is left as it is."""
    from tensoryard.environment.in_use import given_back

    given_back(folder)


def lay_out_support(folder: Path) -> None:
    """What tyard has beside and inside of the user's script."""
    # They are not imported here: what they need on the node would slow the start of every run.
    own, launch = Path(__file__).parent, folder / "launch"
    (launch / "__pycache__").mkdir(exist_ok=True)
    for name in ON_NODE:
        shutil.copy2(own / name, launch / name)
        # As it is compiled here: an environment with this very Python need not compile it for each run.
        compiled = Path("__pycache__", f"{Path(name).stem}.{sys.implementation.cache_tag}.pyc")
        with suppress(FileNotFoundError):
            shutil.copyfile(own / compiled, launch / compiled)
    if (folder / "environment" / "pull.json").exists():
        shutil.copyfile(own / "pull_image.py", launch / "pull_image.py")
    # Python itself looks for that name: see `one_world.py`.
    (launch / "world").mkdir(exist_ok=True)
    shutil.copyfile(own / "one_world.py", launch / "world" / "sitecustomize.py")
    package = launch / "path" / "tensoryard"
    (package / "azureml" / "core").mkdir(parents=True, exist_ok=True)
    shutil.copyfile(str(context.__file__), package / "__init__.py")
    # Scripts written for Azure ML: `from tensoryard.azureml.core import Run`, or from `.core.run`.
    for name in ("core/__init__.py", "core/run.py"):
        (package / "azureml" / name).write_text("from tensoryard import Run as Run\n", encoding="utf-8")


def lay_out_yaml(folder: Path) -> None:
    """PyYAML beside `image_gpus.py`, without what is compiled: a node may have none, or another Python."""
    import yaml

    own, compiled = Path(yaml.__file__).parent, shutil.ignore_patterns("__pycache__", "*.so")
    shutil.copytree(own, folder / "launch" / "yaml", ignore=compiled, dirs_exist_ok=True)


def bring_data(store: Store, job: Job, folder: Path, log: Callable[[str], None], look: Callable[[], None]) -> None:
    """
    Copies of the data that the job downloads, or cannot mount, where `launch_files` says that they are.

    log: is told what is copied; look: is called before each file, to raise when the run is canceled.
    """
    for reference, target in _brought_to(folder, job).items():
        if _mounted(store, reference) is not None:
            continue
        look()
        if target.exists():
            continue
        from tensoryard.text import size  # not loaded by jobs without data

        aside = target.with_name(f".{target.name}.part")
        if aside.is_dir():
            shutil.rmtree(aside)
        below = keys.data_below(reference.path)
        one = store.stat(keys.data(reference.path)) if reference.path else None
        entries = [one] if one else list(store.list(below))
        if not entries:
            raise NotFoundError(f"there is no `{reference.path}` in the datastore any more")
        why = ", which cannot be mounted: the datastore is no folder of this machine" * (reference.mode == "mount")
        amount = f"{len(entries)} file{'' if len(entries) == 1 else 's'}, {size(sum(e.size_bytes for e in entries))}"
        log(f"Downloading `{reference.path or 'the datastore'}`{why} ({amount})")

        def bring(key: str, path: Path) -> None:
            look()
            download(store, key, path)

        paths = [(entry.key, aside if one else aside / entry.key.removeprefix(below)) for entry in entries]
        each(store, lambda pair: bring(*pair), paths)
        aside.rename(target)


def bring_outputs(run: RunRecord, earlier_id: str, folder: Path) -> None:
    """The outputs of an earlier run, checked, as the outputs that this one goes on from."""
    earlier = RunRecord(run.store, earlier_id)
    found = earlier.outputs()
    each(
        run.store,
        lambda file: download(run.store, earlier.key(file.path), folder / file.path, file.sha256, file.size_bytes),
        found.files if found else (),
    )


def launch_files(workspace: Workspace, job: Job, run_id: str, placement: Placement) -> dict[str, str]:
    """The rendered files of a run: `render` with the paths that this workspace gives it."""
    folder = workspace.work_folder(run_id)
    paths = {
        reference: str(_mounted(workspace.store, reference) or brought)
        for reference, brought in _brought_to(folder, job).items()
    }
    on_nodes = node_images(workspace, job.compute_target) if job.in_image else ""
    return render(job, placement, run_id=run_id, run_dir=str(folder), local_paths=paths, node_images=on_nodes)


def _mounted(store: Store, reference: DatastoreReference) -> Path | None:
    """Where data that is to be mounted lies, or None when it has to be copied."""
    return store.local_path(keys.data(reference.path)) if reference.mode == "mount" else None


def _brought_to(folder: Path, job: Job) -> dict[DatastoreReference, Path]:
    """Where each reference is copied to: a folder for each, as one may be a part of another."""
    references = dict.fromkeys(job.references().values())
    return {reference: folder / "inputs" / str(at) / reference.path for at, reference in enumerate(references)}
