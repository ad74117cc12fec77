"""Jobs written in Python, with the names of Azure ML's SDK v1."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from tensoryard.errors import JobError, LayoutError
from tensoryard.job import DatastoreReference, Job
from tensoryard.slurm_target import SlurmTarget
from tensoryard.targets import LOCAL

if TYPE_CHECKING:
    from tensoryard.experiment import Run

# What Azure ML took and a job has no use for, each with what to do instead. None and False, its ways of
# saying "not wanted", are accepted.
_ENVIRONMENT = "use `framework_version`, `python_version`, `pip_packages` and `conda_packages`"
_INSTEAD = {
    "vm_size": "the sizes of nodes belong to the compute target: name one in `compute_target`",
    "vm_priority": "the price of nodes belongs to the compute target: name one in `compute_target`",
    "shm_size": "scripts share the machine's own /dev/shm, in an image too: leave it out",
    "image_registry_details": "write the registry before the image's name, and sign in by `docker login`",
    "conda_dependencies_file": "name its packages in `conda_packages` and `pip_packages`",
    "conda_dependencies_file_path": "name its packages in `conda_packages` and `pip_packages`",
    "environment_definition": _ENVIRONMENT,
    "environment": _ENVIRONMENT,
    "docker_runtime_config": "set `runtime` to `image`, and `base_image` to what it names",
    "source_directory_data_store": "the source folder is kept in the workspace: leave it out",
    "run_config": "use the arguments of TensorFlow(...) or ScriptRunConfig(...)",
    "command": "name the script in `entry_script` and its arguments in `script_params`",
    "_enable_optimized_mode": "leave it out",
    "_disable_validation": "every check is always made: leave it out",
    "_show_lint_warnings": "leave it out",
    "_show_package_warnings": "leave it out",
}
_RENAMED = {
    "pip_requirements_file_path": "pip_requirements_file",
    "custom_docker_image": "base_image",
    "custom_docker_base_image": "base_image",
    # True: in an image at all; True: in that image as it is.
    "use_docker": "use_docker",
    "user_managed": "user_managed",
}


@dataclass(slots=True)
class MpiConfiguration:
    """
    Horovod: the same script on every rank.

    process_count_per_node, node_count: 1 leaves them to the estimator's own.
    """

    process_count_per_node: int = 1
    node_count: int = 1


@dataclass(slots=True)
class TensorflowConfiguration:
    """
    TensorFlow's own distribution, told to the script by TF_CONFIG.

    With a parameter_server_count of 0 the workers are those of MultiWorkerMirroredStrategy. chief adds the
    coordinator that TensorFlow 2's ParameterServerStrategy needs; False gives Azure ML's ps + worker shape.
    """

    worker_count: int = 1
    parameter_server_count: int = 1
    chief: bool = True
    evaluator: bool = False


class TensorFlow:
    """
    A TensorFlow script and what it needs, to be submitted to an experiment.

    The arguments are the fields of a job (`tyard schema` describes each) under Azure ML's names.
    script_params: values are passed as `str()` makes them; None passes the name alone, "" an empty argument.
    inputs: references by name, or a list of them, named by their paths. resume_from: a run or its id.
    Raises JobError for an argument that Azure ML did not have or that is not supported, with what to use instead.
    """

    def __init__(
        self,
        source_directory: str | Path = ".",
        *,
        entry_script: str | None = None,
        script_params: Mapping[str, Any] | None = None,
        compute_target: Any = LOCAL,
        use_gpu: bool = False,
        node_count: int = 1,
        process_count_per_node: int = 1,
        distributed_training: MpiConfiguration | TensorflowConfiguration | None = None,
        framework_version: str | None = None,
        python_version: str | None = None,
        pip_packages: Sequence[str] | None = None,
        pip_requirements_file: str | None = None,
        conda_packages: Sequence[str] | None = None,
        conda_channels: Sequence[str] | None = None,
        runtime: str | None = None,
        base_image: str | None = None,
        system_packages: Sequence[str] | None = None,
        image: str | None = None,
        environment_variables: Mapping[str, Any] | None = None,
        inputs: Mapping[str, DatastoreReference] | Sequence[DatastoreReference] | None = None,
        max_run_duration_seconds: int | None = None,
        resume_from: "str | Run | None" = None,
        tags: Mapping[str, str] | None = None,
        **others: Any,
    ) -> None:
        renamed = _checked(type(self).__name__, others)
        base_image = base_image or renamed.get("base_image")
        if renamed.get("user_managed"):
            if base_image is None:
                raise JobError(
                    "user_managed: names no image", hint="name it in `image`, and leave `user_managed` out"
                )
            base_image, image = None, base_image
        if renamed.get("use_docker") is not None and image is None:
            runtime = "image" if renamed["use_docker"] else "venv"
        if entry_script is None:
            raise JobError("entry_script: is missing", hint="name the script, as in `entry_script='train.py'`")
        self.source_directory = str(source_directory)
        self.distributed_training = distributed_training
        self._node_count = node_count
        self._process_count_per_node = process_count_per_node
        given = {
            "entry_script": str(entry_script),
            "script_params": {str(name): _script_value(value) for name, value in (script_params or {}).items()},
            "compute_target": _target(compute_target),
            "use_gpu": use_gpu,
            "framework_version": framework_version,
            "python_version": python_version,
            "pip_packages": pip_packages,
            "pip_requirements_file": pip_requirements_file or renamed.get("pip_requirements_file"),
            "conda_packages": conda_packages,
            "conda_channels": conda_channels,
            "runtime": runtime,
            "base_image": base_image,
            "system_packages": system_packages,
            "image": image,
            "environment_variables": {str(name): str(value) for name, value in (environment_variables or {}).items()},
            "inputs": _inputs(inputs),
            "max_run_duration_seconds": max_run_duration_seconds,
            "resume_from": getattr(resume_from, "id", resume_from),
            "tags": dict(tags or {}),
        }
        self._fields = {name: value for name, value in given.items() if value is not None}

    def job(self, experiment: str, tags: Mapping[str, str] | None = None) -> Job:
        """
        The job that this describes now, every check made that needs no workspace.

        Raises JobError for a value that is not allowed or a file that is not there, LayoutError for tasks that do
        not fit the nodes.
        """
        fields = self._fields | self._layout() | {"experiment": experiment}
        fields["source_directory"] = str(Path(self.source_directory).expanduser().absolute())
        fields["tags"] = {**fields.get("tags", {}), **(tags or {})}
        try:
            job = msgspec.convert(fields, Job)
        except msgspec.ValidationError as error:
            raise _explained(fields, str(error)) from None
        job.check_files()
        return job

    def _layout(self) -> dict[str, Any]:
        """node_count, process_count_per_node and distributed_training as a job has them."""
        asked = self.distributed_training
        nodes, per_node = self._node_count, self._process_count_per_node
        layout: dict[str, Any] = {"node_count": nodes}
        if asked is None:
            return layout | {"process_count_per_node": per_node}
        if isinstance(asked, MpiConfiguration):
            nodes = _agreed("node_count", nodes, asked.node_count)
            per_node = _agreed("process_count_per_node", per_node, asked.process_count_per_node)
            return {"node_count": nodes, "process_count_per_node": per_node, "distributed_training": "mpi"}
        if not isinstance(asked, TensorflowConfiguration):
            raise JobError(
                f"distributed_training: got {asked!r}, allowed are `MpiConfiguration()` for Horovod and "
                "`TensorflowConfiguration(worker_count=2, parameter_server_count=1)`"
            )
        if asked.parameter_server_count == 0:
            if nodes * per_node != asked.worker_count:
                raise LayoutError(
                    f"worker_count: got {asked.worker_count}, but node_count {nodes} x process_count_per_node "
                    f"{per_node} makes {nodes * per_node} workers",
                    hint="without parameter servers every process is a worker: make the two numbers equal",
                )
            return layout | {"process_count_per_node": per_node, "distributed_training": "multi_worker_mirrored"}
        servers = {
            "worker_count": asked.worker_count,
            "parameter_server_count": asked.parameter_server_count,
            "chief": asked.chief,
            "evaluator": asked.evaluator,
        }
        # Azure ML's 1 counted MPI's processes only: tasks of TensorFlow were spread over the nodes beside it.
        slots = {"process_count_per_node": per_node} if per_node != 1 else {}
        return layout | slots | {"distributed_training": {"parameter_server": servers}}


class ScriptRunConfig(TensorFlow):
    """
    The same as Azure ML's later class described it: a script with a list of arguments.

    arguments: as on a command line; a reference follows the name of its argument.
    distributed_job_config: its counts are those of the job. Further arguments are those of `TensorFlow`.
    """

    def __init__(
        self,
        source_directory: str | Path,
        script: str,
        arguments: Sequence[Any] | None = None,
        *,
        compute_target: Any = LOCAL,
        distributed_job_config: MpiConfiguration | TensorflowConfiguration | None = None,
        **others: Any,
    ) -> None:
        if isinstance(distributed_job_config, TensorflowConfiguration):
            others.setdefault("node_count", distributed_job_config.worker_count)
        super().__init__(
            source_directory,
            entry_script=script,
            script_params=_pairs(arguments or []),
            compute_target=compute_target,
            distributed_training=distributed_job_config,
            **others,
        )


def _checked(kind: str, others: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments under the names of today. Raises JobError for one that is not supported or is unknown."""
    for name, value in others.items():
        if name in _RENAMED:
            continue
        if name in _INSTEAD:
            if value is not None and value is not False:
                raise JobError(f"{kind}: `{name}` is not supported", hint=_INSTEAD[name])
            continue
        import difflib
        import inspect

        known = [one for one in inspect.signature(TensorFlow).parameters if one != "others"]
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean `{near[0]}`?" if near else f"there are {', '.join(f'`{one}`' for one in known)}"
        raise JobError(f"{kind}: there is no argument `{name}`", hint)
    return {_RENAMED[name]: value for name, value in others.items() if name in _RENAMED}


def _script_value(value: Any) -> Any:
    return value if value is None or isinstance(value, DatastoreReference) else str(value)


def _target(target: Any) -> Any:
    """A target as a job has it: a name, or a mapping as in job.yaml, which is checked with the other fields."""
    if target is None:
        return LOCAL
    if isinstance(target, str | Mapping | SlurmTarget):
        return target
    name = getattr(target, "name", None)
    if not isinstance(name, str):
        raise JobError(f"compute_target: got {target!r}, expected a name such as `local` or a ComputeTarget")
    return name


def _inputs(inputs: Mapping[str, DatastoreReference] | Sequence[DatastoreReference] | None) -> Any:
    if inputs is None or isinstance(inputs, Mapping):
        return dict(inputs) if inputs else None
    named: dict[str, DatastoreReference] = {}
    for reference in inputs:
        if not isinstance(reference, DatastoreReference):
            raise JobError(f"inputs: got {reference!r}, expected references such as `ds.path('mnist').as_mount()`")
        name = re.sub(r"\W", "_", reference.path, flags=re.ASCII) or reference.datastore
        name = f"_{name}" if name[0].isdigit() else name
        if name in named:
            raise JobError(
                f"inputs: two references would be named `{name}`", hint="name them: `inputs={'a': ..., ...}`"
            )
        named[name] = reference
    return named


def _pairs(arguments: Sequence[Any]) -> dict[str, Any]:
    """A command line as names with values: a value belongs to the name before it, anything else stands alone."""
    params: dict[str, Any] = {}
    name = None
    for argument in arguments:
        text = argument if isinstance(argument, DatastoreReference) else str(argument)
        if name is not None and (isinstance(text, DatastoreReference) or not text.startswith("--")):
            params[name], name = text, None
            continue
        if isinstance(text, DatastoreReference):
            raise JobError("arguments: a reference must follow the name of its argument, such as `--data-folder`")
        if text in params:
            raise JobError(f"arguments: `{text}` is given twice, and a job takes each name once")
        params[text] = None
        name = text if text.startswith("-") else None
    return params


def _agreed(name: str, ours: int, theirs: int) -> int:
    if ours != 1 and theirs not in (1, ours):
        raise LayoutError(
            f"{name}: got {ours}, and {theirs} in distributed_training", hint="give the number in one place"
        )
    return theirs if ours == 1 else ours


def _explained(fields: Mapping[str, Any], message: str) -> JobError:
    """msgspec's `Expected ... - at $.a.b` with the name and the value in front."""
    rule, _, at = message.partition(" - at `$.")
    at = at.rstrip("`")
    name = re.split(r"[.\[]", at)[0]
    return JobError(f"{at or 'job'}: got {fields.get(name)!r}, {rule[0].lower()}{rule[1:]}")
