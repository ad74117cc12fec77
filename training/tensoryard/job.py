"""
The job: what is asked of a run. One set of fields for job.yaml and Python, with Azure ML's own names.

Field values are checked here; `job_file` reads job.yaml and finds the line that an error is about.
"""

import re
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from tensoryard.errors import JobError, LayoutError
from tensoryard.slurm_target import SlurmTarget
from tensoryard.store import keys
from tensoryard.targets import LOCAL
from tensoryard.tf_config import Task, place, spread

if TYPE_CHECKING:
    from tensoryard.environment import EnvironmentSpec
    from tensoryard.environment.spec import Way

# Read-only in bash, or set by it as it goes: an `export` of these fails or is overwritten.
_KEPT_BY_THE_SHELL = re.compile(
    "BASHOPTS|BASHPID|BASH_(ARG[CV]0?|COMMAND|LINENO|SOURCE|SUBSHELL|VERS.*)|COMP_WORDBREAKS|DIRSTACK|EPOCH.*|E?UID|"
    "FUNCNAME|GROUPS|HISTCMD|LINENO|OLDPWD|OPTARG|OPTIND|PIPESTATUS|PPID|PWD|S?RANDOM|SECONDS|SHELLOPTS|SHLVL|_"
)
# NUL ends a string of the system's; a lone surrogate is half a character that UTF-8 cannot hold.
_NO_TEXT = re.compile("[\0\ud800-\udfff]")
MOST_TASKS = 10_000
Count = Annotated[int, Meta(ge=1)]


class DatastoreReference(Struct, frozen=True, forbid_unknown_fields=True):
    """A path of a datastore; on the node it becomes a local path."""

    datastore: Annotated[str, Meta(description="Name of the datastore; `default` is the workspace's own")]
    path: Annotated[str, Meta(description="Folder or file in the datastore")] = ""
    mode: Annotated[
        Literal["mount", "download"],
        Meta(description="`mount` reads it where it lies, `download` copies it into the run first"),
    ] = "mount"

    def as_mount(self) -> "DatastoreReference":
        """The same path, read where it lies."""
        return msgspec.structs.replace(self, mode="mount")

    def as_download(self) -> "DatastoreReference":
        """The same path, copied into the run first."""
        return msgspec.structs.replace(self, mode="download")


class ParameterServer(Struct, frozen=True, forbid_unknown_fields=True):
    """TensorFlow's parameter servers: who takes part."""

    worker_count: Annotated[int, Meta(ge=1, description="Tasks that compute gradients")] = 1
    parameter_server_count: Annotated[int, Meta(ge=1, description="Tasks that hold the variables")] = 1
    chief: Annotated[
        bool,
        Meta(
            description="Adds the coordinator that TensorFlow 2's ParameterServerStrategy needs; "
            "false gives Azure ML's ps + worker shape"
        ),
    ] = True
    evaluator: Annotated[bool, Meta(description="Adds a task that evaluates checkpoints beside the training")] = False


class ParameterServerTraining(Struct, frozen=True, forbid_unknown_fields=True):
    parameter_server: ParameterServer


DistributedTraining = Literal["mpi", "multi_worker_mirrored"] | ParameterServerTraining
ScriptValue = str | int | float | None | DatastoreReference


class Job(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """
    What one run is asked to do.

    Raises LayoutError or JobError when the fields contradict each other; whether files and data exist is
    checked by `check_files`.
    """

    experiment: Annotated[str, Meta(description="Runs are grouped and named under this name")]
    entry_script: Annotated[str, Meta(description="The Python script to run, relative to source_directory")]
    source_directory: Annotated[
        str, Meta(description="Folder whose files are kept with the run, relative to job.yaml")
    ] = "."
    script_params: Annotated[
        dict[str, ScriptValue],
        Meta(description="Arguments of the script in this order; a value of null passes the name alone"),
    ] = {}
    compute_target: Annotated[
        str | SlurmTarget,
        Meta(
            description="Where it runs: `local` is this machine, `slurm: {...}` the Slurm cluster that it submits to"
        ),
    ] = LOCAL
    use_gpu: Annotated[bool, Meta(description="TensorFlow with CUDA; the run fails when no GPU is found")] = False
    node_count: Annotated[int, Meta(ge=1, description="Nodes; on this machine they are simulated")] = 1
    process_count_per_node: Annotated[
        Count | None,
        Meta(
            description="Tasks on each node; left out, parameter-server tasks spread evenly over the nodes, "
            "other ways run 1 a node",
        ),
    ] = None
    distributed_training: Annotated[
        DistributedTraining | None,
        Meta(
            description="Absent: one process. `mpi`: Horovod. `multi_worker_mirrored`, or "
            "`parameter_server: {worker_count, parameter_server_count, chief, evaluator}`"
        ),
    ] = None
    framework_version: Annotated[
        str | None,
        Meta(
            description='TensorFlow\'s version, such as "2.15"; left out, the newest that fully '
            "supports the way of running"
        ),
    ] = None
    python_version: Annotated[str | None, Meta(description='Python of the environment, such as "3.11"')] = None
    pip_packages: Annotated[tuple[str, ...], Meta(description="Requirements beyond TensorFlow")] = ()
    pip_requirements_file: Annotated[
        str | None, Meta(description="A requirements file in source_directory, added to pip_packages")
    ] = None
    conda_packages: Annotated[tuple[str, ...], Meta(description="Packages from the conda channels")] = ()
    conda_channels: Annotated[tuple[str, ...], Meta(description="Where conda packages come from, best first")] = (
        "conda-forge",
    )
    runtime: Annotated[
        Literal["venv", "image"] | None,
        Meta(
            description="`venv`: packages go into a virtual environment; `image`: into a container image; left out, "
            "an image where one is described and on clusters of the workspace, else a virtual environment"
        ),
    ] = None
    base_image: Annotated[
        str | None,
        Meta(description="Image that the environment is put on; left out, Debian with the environment's Python"),
    ] = None
    system_packages: Annotated[
        tuple[str, ...], Meta(description="Debian packages that the image has beyond its base")
    ] = ()
    image: Annotated[
        str | None, Meta(description="An existing image to run in as it is: nothing is installed into it")
    ] = None
    dockerfile: Annotated[
        str | None,
        Meta(description="A Dockerfile in source_directory to build the image from, with that folder as context"),
    ] = None
    environment_variables: Annotated[dict[str, str], Meta(description="Set for every task")] = {}
    inputs: Annotated[
        dict[str, DatastoreReference],
        Meta(description="Data whose local path every task finds in TYARD_INPUT_<NAME>"),
    ] = {}
    max_run_duration_seconds: Annotated[
        Count | None,
        Meta(description="The run fails after this many seconds of Running"),
    ] = None
    resume_from: Annotated[
        str | None,
        Meta(description="An earlier run whose outputs are copied into ./outputs before the start"),
    ] = None
    tags: Annotated[dict[str, str], Meta(description="Kept with the run and on models registered from it")] = {}

    def __post_init__(self) -> None:
        keys.check_name("experiment", self.experiment)
        script = PurePosixPath(self.entry_script)
        if script.is_absolute() or ".." in script.parts or not self.entry_script:
            raise JobError(
                f"entry_script: got `{self.entry_script}`, it must be a path inside source_directory",
                hint="set `source_directory` to the folder that holds the script, and name the script from there",
            )
        for name in self.environment_variables:
            if not name.isidentifier() or not name.isascii():
                raise JobError(
                    f"environment_variables: got the name `{name}`, allowed are letters, digits and `_`, "
                    "the first no digit"
                )
            kept = _KEPT_BY_THE_SHELL.fullmatch(name)
            if kept or name.lower().startswith("tyard_"):
                owner = "bash keeps it for itself" if kept else "names with `TYARD_` are Tensoryard's"
                raise JobError(f"environment_variables: got the name `{name}`, which cannot be set: {owner}")
        for name, reference in self.references().items():
            if reference.datastore != "default":
                raise JobError(f"{name}: got datastore `{reference.datastore}`, this workspace has `default`")
            path = PurePosixPath(reference.path)
            if path.is_absolute() or ".." in path.parts:
                raise JobError(f"{name}: got path `{reference.path}`, it must be relative to the datastore")
        for name in self.inputs:
            if not re.fullmatch("[A-Za-z0-9_]+", name):
                raise JobError(f"inputs: got the name `{name}`, allowed are letters, digits and `_`")
            same = [other for other in self.inputs if other.upper() == name.upper()]
            if len(same) > 1:
                raise JobError(f"inputs: `{same[0]}` and `{same[1]}` would both be TYARD_INPUT_{name.upper()}")
        texts: dict[str, list[Any]] = {
            "entry_script": [self.entry_script],
            "script_params": [*self.script_params, *self.script_params.values()],
            "environment_variables": [*self.environment_variables.values()],
            "tags": [*self.tags, *self.tags.values()],
            **{name: [reference.path] for name, reference in self.references().items()},
        }
        for name, values in texts.items():
            for text in values:
                if isinstance(text, str) and (found := _NO_TEXT.search(text)):
                    raise JobError(
                        f"{name}: got {text!a}, but {found[0]!a} is a character that no process can be given"
                    )
        self._check_image()
        self.tasks()

    def _check_image(self) -> None:
        given = [name for name in ("image", "dockerfile", "base_image", "system_packages") if getattr(self, name)]
        if self.runtime == "venv" and given:
            raise JobError(
                f"{given[0]}: is for images, and `runtime: venv` asks for none",
                hint="leave `runtime` out, or set it to `image`",
            )
        if not self.in_image:
            return
        from tensoryard.environment.image import check_system_package, parse_reference

        if self.image is not None:
            parse_reference(self.image, "image")
        if self.dockerfile is not None:
            path = PurePosixPath(self.dockerfile)
            if path.is_absolute() or ".." in path.parts or not path.name:
                raise JobError(f"dockerfile: got `{self.dockerfile}`, it must be a path inside source_directory")
        whole = "image" if self.image else "dockerfile" if self.dockerfile else None
        if whole is not None:
            others = ("dockerfile", "base_image", "system_packages", "pip_packages", "pip_requirements_file")
            for name in (*others, "conda_packages", "framework_version", "python_version"):
                if name != whole and getattr(self, name):
                    raise JobError(
                        f"{name}: `{whole}` is given too, and nothing is installed into that image",
                        hint="set `base_image` instead to have the environment put on an image",
                    )
        if self.base_image is not None:
            parse_reference(self.base_image, "base_image")
        for name in self.system_packages:
            check_system_package(name)
        if self.conda_packages:
            raise JobError(
                "conda_packages: images are built without conda",
                hint="name them in `pip_packages` and `system_packages`, or set `runtime: venv`",
            )

    @property
    def in_image(self) -> bool:
        """Whether the script runs in an image."""
        if self.runtime is not None:
            return self.runtime == "image"
        return bool(self.image or self.dockerfile or self.base_image or self.system_packages)

    @property
    def way(self) -> "Way":
        """The way of running: "single", "mpi", "parameter_server" or "multi_worker_mirrored"."""
        if isinstance(self.distributed_training, ParameterServerTraining):
            return "parameter_server"
        return self.distributed_training or "single"

    def tasks(self) -> list[Task]:
        """Every task and its node, chief first. Raises LayoutError when they do not fit the nodes."""
        per_node = self.process_count_per_node
        if isinstance(self.distributed_training, ParameterServerTraining):
            asked = self.distributed_training.parameter_server
            roles = {
                "chief": int(asked.chief),
                "worker": asked.worker_count,
                "ps": asked.parameter_server_count,
                "evaluator": int(asked.evaluator),
            }
        elif self.way == "single":
            roles = {"worker": 1}
        else:
            roles = {"rank" if self.way == "mpi" else "worker": self.node_count * (per_node or 1)}
        count = sum(roles.values())
        if count > MOST_TASKS:
            raise LayoutError(f"distributed_training: got {count} tasks, at most {MOST_TASKS} can be launched")
        if self.way == "single" and self.node_count * (per_node or 1) > 1:
            raise LayoutError(
                f"node_count: got {self.node_count} nodes of {per_node or 1} processes, but without "
                "distributed_training a job is one process on one node",
                hint="set `distributed_training` to mpi, parameter_server or multi_worker_mirrored",
            )
        if per_node is None:
            per_node = -(-count // self.node_count) if self.way == "parameter_server" else 1
        if count > self.node_count * per_node:
            listed = ", ".join(f"{number} {role}" for role, number in roles.items() if number)
            raise LayoutError(
                f"distributed_training: {count} tasks ({listed}) do not fit {self.node_count * per_node} slots "
                f"(node_count {self.node_count} x process_count_per_node {per_node})",
                hint=f"set `process_count_per_node` to {-(-count // self.node_count)}, or `node_count` to "
                f"{-(-count // per_node)}",
            )
        if count <= self.node_count - 1 and self.way == "parameter_server":
            raise LayoutError(
                f"node_count: got {self.node_count}, but there are only {count} tasks to place",
                hint=f"set `node_count` to {count} or less",
            )
        if self.way == "parameter_server" and self.process_count_per_node is None:
            return spread(roles, self.node_count)
        return place(roles, per_node)

    @property
    def nodes(self) -> int:
        """How many nodes its tasks are on, which is what a cluster is asked for: node_count, or fewer if they fit."""
        return max(task.node for task in self.tasks()) + 1

    def references(self) -> dict[str, DatastoreReference]:
        """Every datastore reference by the field that holds it."""
        found = {
            f"script_params: {name}": value
            for name, value in self.script_params.items()
            if isinstance(value, DatastoreReference)
        }
        return found | {f"inputs: {name}": value for name, value in self.inputs.items()}

    def arguments(self, local_paths: dict[DatastoreReference, str]) -> list[str]:
        """The script's arguments as strings, each reference replaced by its path on the node."""
        words: list[str] = []
        for name, value in self.script_params.items():
            words.append(name)
            if isinstance(value, DatastoreReference):
                words.append(local_paths[value])
            elif value is not None:
                words.append(str(value))
        return words

    def with_requirements(self) -> "Job":
        """The job with its requirements file read into pip_packages. Raises JobError for a line that cannot be."""
        if self.pip_requirements_file is None:
            return self
        from tensoryard.environment.spec import requirements_file

        listed = requirements_file(Path(self.source_directory) / self.pip_requirements_file)
        return msgspec.structs.replace(self, pip_packages=(*self.pip_packages, *listed), pip_requirements_file=None)

    def environment_spec(self) -> "EnvironmentSpec":
        """The environment that the job asks for. Raises JobError for versions that do not go together."""
        from tensoryard.environment import ImageSpec
        from tensoryard.environment.spec import environment_spec

        described = ImageSpec(
            base=self.base_image or "",
            system_packages=self.system_packages,
            existing=self.image or "",
            dockerfile=self.dockerfile or "",
        )
        return environment_spec(
            way=self.way,
            framework_version=self.framework_version,
            python_version=self.python_version,
            use_gpu=self.use_gpu,
            pip_packages=self.pip_packages,
            conda_packages=self.conda_packages,
            conda_channels=self.conda_channels,
            image=described if self.in_image else None,
        )

    def check_files(self) -> None:
        """Raises JobError when the source folder, or a file of it that the job names, is not there."""
        source = Path(self.source_directory)
        if not source.is_dir():
            raise JobError(f"source_directory: `{source}` is not a folder")
        for field, name in (
            ("entry_script", self.entry_script),
            ("pip_requirements_file", self.pip_requirements_file),
            ("dockerfile", self.dockerfile),
        ):
            if name is None:
                continue
            path = source / name
            if not path.is_file():
                raise JobError(f"{field}: `{name}` is not a file in `{source}`", hint=_scripts_hint(source))
            if not path.resolve().is_relative_to(source.resolve()):
                raise JobError(f"{field}: `{name}` is a link to a file outside of `{source}`")


def _scripts_hint(source: Path) -> str | None:
    scripts = sorted(path.name for path in source.glob("*.py"))[:10]
    return f"the folder holds {', '.join(f'`{name}`' for name in scripts)}" if scripts else None


def encode_job(job: Job) -> bytes:
    """job.json: the fields that are not at their defaults."""
    return msgspec.json.format(msgspec.json.encode(job), indent=2)


def decode_job(data: bytes) -> Job:
    return msgspec.json.decode(data, type=Job)
