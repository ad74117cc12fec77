"""
Job + hosts -> the files that the run is launched with. Pure: no clock, no network, no file, no environment.

`tyard render` prints what this returns and the controller writes what this returns: the same bytes.
"""

import json
import os
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tensoryard import templates
from tensoryard.errors import JobError, UsageError
from tensoryard.job import DatastoreReference, Job
from tensoryard.slurm_target import DIRECTIVE_VALUE, shares_nodes, slurm_options
from tensoryard.targets import SchedulerName
from tensoryard.tf_config import Task, addresses, tf_configs

if TYPE_CHECKING:
    from jinja2 import Environment

_TEMPLATES = {
    "single": "single.sh.j2",
    "mpi": "horovod.sh.j2",
    "parameter_server": "parameter_server.sh.j2",
    "multi_worker_mirrored": "multi_worker.sh.j2",
}


class Placement(NamedTuple):
    """
    Where the tasks of a run go.

    hosts: name of each node, empty while a cluster has not given any; ports: TCP port of each task in the
    job's order, or None to count up on every host.
    """

    scheduler: SchedulerName
    hosts: tuple[str, ...]
    ports: tuple[int, ...] | None = None


class LaunchScript(NamedTuple):
    """The context of the launch templates: finished values only. pulls: nodes that pull the image first."""

    version: str
    run_id: str
    template: str
    scheduler: SchedulerName
    directives: tuple[str, ...]
    exports: tuple[tuple[str, str], ...]
    command: tuple[str, ...]
    in_image: bool
    pulls: int
    task_names: tuple[str, ...]
    task_count: int
    tasks_per_host: int


def render(
    job: Job,
    placement: Placement,
    *,
    run_id: str,
    run_dir: str,
    local_paths: Mapping[DatastoreReference, str],
    node_images: str = "",
) -> dict[str, str]:
    """
    The text of every file under the run's launch/ folder, by name.

    run_dir: the run's folder as the nodes see it; local_paths: the path on the node of every reference in the job;
    node_images: folder on each node that it pulls the image into, "" where nodes read the image from where it is.
    Raises JobError when the job does not fit the placement.
    """
    tasks = job.tasks()
    nodes = job.nodes
    if placement.hosts and len(placement.hosts) < nodes:
        raise JobError(f"hosts: got {len(placement.hosts)} ({', '.join(placement.hosts)}), the job needs {nodes}")
    files = {"run.sh": _script(job, tasks, placement, run_id, run_dir, local_paths, nodes if node_images else 0)}
    outside = sorted({path for path in local_paths.values() if not path.startswith(f"{run_dir}/")})
    files["layout.json"] = _layout(job, tasks, placement, outside, node_images)
    if _has_tf_config(job) and placement.hosts and not _shares_nodes(job, placement):
        task_addresses = addresses(tasks, placement.hosts, placement.ports)
        for name, text in tf_configs(tasks, task_addresses):
            files[f"tf_config/{name}.json"] = text + "\n"
    return files


def _has_tf_config(job: Job) -> bool:
    return job.way in ("parameter_server", "multi_worker_mirrored")


def _shares_nodes(job: Job, placement: Placement) -> bool:
    """Whether ports come from the number of the run's job, which is known on its nodes only."""
    on_slurm = placement.scheduler == "slurm" and _has_tf_config(job)
    return on_slurm and shares_nodes(slurm_options(job.compute_target))


def _script(
    job: Job,
    tasks: Sequence[Task],
    placement: Placement,
    run_id: str,
    run_dir: str,
    local_paths: Mapping[DatastoreReference, str],
    pulls: int,
) -> str:
    from tensoryard import __version__

    tasks_per_node = max(sum(task.node == node for task in tasks) for node in {task.node for task in tasks})
    script = "./" + job.entry_script if job.entry_script.startswith("-") else job.entry_script
    context = LaunchScript(
        version=__version__,
        run_id=run_id,
        template=_TEMPLATES[job.way],
        scheduler=placement.scheduler,
        directives=_directives(job, tasks, run_id, run_dir, tasks_per_node) if placement.scheduler == "slurm" else (),
        exports=tuple(sorted(_exports(job, run_id, run_dir, local_paths).items())),
        command=("python", script, *job.arguments(dict(local_paths))),
        in_image=job.in_image,
        pulls=pulls,
        task_names=tuple(task.name for task in tasks),
        task_count=len(tasks),
        tasks_per_host=tasks_per_node if placement.scheduler == "slurm" else len(tasks),
    )
    return launch_script(context.template, context._asdict())


def launch_script(template: str, context: Mapping[str, object]) -> str:
    """A template of templates/job with these values."""
    return _environment().get_template(template).render(context)


def _exports(job: Job, run_id: str, run_dir: str, local_paths: Mapping[DatastoreReference, str]) -> dict[str, str]:
    exports = {"PYTHONUNBUFFERED": "1"}
    if job.in_image:
        # Each rank has a user namespace of its own: there one process may not read another's memory.
        exports["OMPI_MCA_btl_vader_single_copy_mechanism"] = "none"
    exports |= job.environment_variables
    for name, reference in job.inputs.items():
        exports[f"TYARD_INPUT_{name.upper()}"] = local_paths[reference]
    return exports | {"TYARD_RUN_DIR": run_dir, "TYARD_RUN_ID": run_id}


def _directives(job: Job, tasks: Sequence[Task], run_id: str, run_dir: str, tasks_per_node: int) -> tuple[str, ...]:
    """Sorted `#SBATCH` options. Slurm does not read them as a shell does, so values are matched, not quoted."""
    options = slurm_options(job.compute_target)
    values = {
        "chdir": run_dir,
        # A node is a run's own, all of it: TensorFlow takes every core, and two runs would meet at its ports.
        "exclusive": "",
        "job-name": run_id,
        "mem": "0",
        "nodes": str(job.nodes),
        "ntasks-per-node": str(tasks_per_node),
        "open-mode": "append",
        "output": f"{run_dir}/logs/launch.log",
        "requeue": "",
    }
    if job.use_gpu:
        values["gpus-per-node"] = str(tasks_per_node)
    if job.max_run_duration_seconds:
        # Slurm counts whole minutes, from before the first task starts until after the last has had its 10 s.
        values["time"] = str(-(-job.max_run_duration_seconds // 60) + 2)
    for name in ("partition", "account", "qos", "constraint", "reservation", "time"):
        value = getattr(options, name)
        if value is not None:
            values[name] = value
    for name, value in values.items():
        if value and not DIRECTIVE_VALUE.fullmatch(value):
            allowed = "letters, digits and . _ : / @ % + = , & | * ! ( ) [ ] -"
            raise UsageError(f"#SBATCH --{name}: got `{value}`, allowed are {allowed}")
    extra = {text[2:].partition("=")[0]: text for text in options.extra_directives}
    rendered = {
        name: f"--{name}={value}" if value else f"--{name}"
        for name, value in values.items()
        if name not in options.skip_directives
    }
    return tuple(text for _, text in sorted((rendered | extra).items()))


def _layout(job: Job, tasks: Sequence[Task], placement: Placement, outside: Sequence[str], node_images: str) -> str:
    """What `rank.py` reads: the tasks and the rules of this run; outside: data that is not in the run's folder."""
    by_role = {task.role: task.name for task in reversed(tasks)}
    layout: dict[str, object] = {
        "way": job.way,
        "hosts": list(placement.hosts),
        "ports": list(placement.ports) if placement.ports else None,
        # Two jobs on one node would meet at the same ports.
        "shares_nodes": _shares_nodes(job, placement),
        "tf_config": _has_tf_config(job),
        "rank_from_environment": job.way == "mpi" or placement.scheduler == "slurm",
        # Ranks keep step, so fewer threads each is faster. Parameter servers and workers wait for one another by
        # turns: held to a share each, cores stand idle (measured: 10% slower).
        "share_cores": placement.scheduler == "local" and job.way in ("mpi", "multi_worker_mirrored"),
        "use_gpu": job.use_gpu,
        "max_run_duration_seconds": job.max_run_duration_seconds,
        # The task whose success ends the run; with none, the run ends when all have ended.
        "ended_by": (by_role.get("chief") or by_role["worker"]) if job.way == "parameter_server" else None,
    }
    if job.in_image:
        # For `in_image.py`: what of the machine is seen in the image, and which variables hold there all the same.
        image: dict[str, object] = {"mounts": list(outside), "variables": sorted(job.environment_variables)}
        layout["image"] = image | ({"on_node": node_images} if node_images else {})
    fields = [f"{json.dumps(name)}: {json.dumps(value)}" for name, value in layout.items()]
    rows = [
        json.dumps({"name": task.name, "role": task.role, "index": task.task_index, "node": task.node})
        for task in tasks
    ]
    fields.append('"tasks": [\n    ' + ",\n    ".join(rows) + "\n  ]")
    return "{\n  " + ",\n  ".join(fields) + "\n}\n"


@cache
def _environment() -> "Environment":
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    loader = FunctionLoader(lambda name: _text(templates.folder("job") / name))
    environment = Environment(  # noqa: S701 - shell, not HTML: every value goes through the quote filter
        loader=loader, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    environment.filters["quote"] = quote
    return environment


def preload(cache_folder: Path) -> None:
    """
    Load the template engine and the templates ahead of the first `render`.

    cache_folder: keeps the compiled templates, which takes longer than all else at the start of a controller.
    """
    from jinja2 import FileSystemBytecodeCache

    with suppress(OSError):
        cache_folder.mkdir(parents=True, exist_ok=True)
    if os.access(cache_folder, os.W_OK):
        _environment().bytecode_cache = FileSystemBytecodeCache(str(cache_folder))
    for name in ("_header.sh.j2", "_launch_tasks.sh.j2", *_TEMPLATES.values()):
        _environment().get_template(name)


_PLAIN_WORD = re.compile(r"[A-Za-z0-9_@%+=:,./-]+")


def quote(value: str) -> str:
    """A value as one word of the shell. The only place where Tensoryard quotes for a shell."""
    return value if _PLAIN_WORD.fullmatch(value) else "'" + value.replace("'", "'\"'\"'") + "'"


def _text(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.is_file() else None
