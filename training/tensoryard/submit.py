"""Turns a job into a run that a controller will find: the one way in, for the command and for Python."""

import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec

from tensoryard import snapshot
from tensoryard.environment import Environment
from tensoryard.errors import JobError, NotFoundError
from tensoryard.job import Job, encode_job
from tensoryard.run import RunRecord, find_run
from tensoryard.slurm_target import SlurmTarget
from tensoryard.snapshot import Snapshot
from tensoryard.store import keys
from tensoryard.store.tickets import take_number
from tensoryard.target_images import with_runtime
from tensoryard.targets import LOCAL, SERVED_HERE, meant, queue_name, targets
from tensoryard.workspace import Workspace


def check(workspace: Workspace, job: Job) -> Job:
    """
    The job, with every check made that can be made before anything is created.

    Raises UsageError for a workspace.json that cannot be read, JobError for a target, data path, GPU or extra that
    is not there, and NotFoundError for a run to resume from.
    """
    job = msgspec.structs.replace(job, compute_target=meant(workspace, job.compute_target))
    job = with_runtime(workspace, job)
    _check_target(workspace, job)
    for field, reference in job.references().items():
        from tensoryard.folders import holds  # not loaded by jobs without data

        if not holds(workspace.store, reference.path):
            raise JobError(
                f"{field}: there is no `{reference.path}` in the datastore `{reference.datastore}`",
                hint=f"`tyard data upload FOLDER {reference.path}` puts a folder there, `tyard data list` shows what "
                "is there, `tyard data fetch --help` has data sets to start with",
            )
    if job.resume_from is not None:
        try:
            earlier = find_run(workspace.store, job.resume_from)
        except NotFoundError as error:
            raise NotFoundError(f"resume_from: there is no run `{job.resume_from}`", error.hint) from None
        if earlier.outputs() is None:
            why = "left no outputs" if earlier.state().ended else "has not ended yet"
            raise JobError(f"resume_from: `{earlier.id}` {why}", hint=f"tyard runs show {earlier.id}")
        job = msgspec.structs.replace(job, resume_from=earlier.id)
    # Read now: the run must not change when the file does.
    job = job.with_requirements()
    job.environment_spec()
    _check_machine(job)
    return job


def submit(
    workspace: Workspace,
    job: Job,
    say: Callable[[str], None],
    taken: Snapshot | None = None,
    image: Environment | None = None,
    rebuild: bool = False,
) -> RunRecord:
    """
    The run of a job, queued for its compute target.

    taken: the snapshot to use, when it is an earlier run's; otherwise the source folder is snapshot now; image: the
    one to run in, when it is an earlier run's; rebuild: whether its environment is built anew.
    Raises JobError before anything is created.
    """
    job = _with_gpus(check(workspace, job))
    store = workspace.store
    if taken is None:
        taken = snapshot.take(store, Path(job.source_directory), say, workspace.root)
    run = RunRecord(store, keys.run_id(job.experiment, take_number(store, keys.run_tickets)))
    store.put(run.key("snapshot.json"), msgspec.json.encode(taken))
    store.put(run.key("job.json"), encode_job(job))
    if image is not None:
        run.keep_image(image)
    if rebuild:
        run.want_rebuild()
    # The commit point: a run that neither is queued nor has events was never asked for.
    store.put(keys.queued(workspace.queue(queue_name(job.compute_target)), run.id), b"")
    run.add(fact="submitted", host=socket.gethostname(), user=_user(), snapshot=taken.digest)
    return run


def _check_target(workspace: Workspace, job: Job) -> None:
    if isinstance(job.compute_target, SlurmTarget):
        from tensoryard.scheduler.slurm_checks import check_fits

        check_fits(workspace, job)
        return
    known = list(targets(workspace))
    if job.compute_target in known:
        if job.compute_target != LOCAL:
            _check_cluster(workspace, job, job.compute_target)
        return
    import difflib

    near = difflib.get_close_matches(job.compute_target, known, n=1, cutoff=0.5)
    raise JobError(
        f"compute_target: got `{job.compute_target}`, this workspace has {', '.join(f'`{t}`' for t in known)}",
        hint=f"did you mean `{near[0]}`?" if near else _other_target(job.compute_target),
    )


def _other_target(name: str) -> str:
    """What a name that the workspace does not know may be on this machine."""
    import difflib
    import shutil

    if shutil.which("sinfo") is not None:
        from tensoryard.scheduler.slurm_cluster import partition_names

        if near := difflib.get_close_matches(name, partition_names(), n=1):
            return f"`{near[0]}` is a partition of Slurm here: --set compute_target.slurm.partition={near[0]}"
    return "leave `compute_target` out for this machine"


def _check_cluster(workspace: Workspace, job: Job, name: str) -> None:
    """A cluster of the workspace on Azure is not asked: its settings say what it can ever have."""
    azure = workspace.settings().azure
    assert azure is not None
    cluster = azure.clusters[name]
    if job.node_count > cluster.max_nodes:
        raise JobError(
            f"node_count: got {job.node_count}, `{name}` has at most {cluster.max_nodes} nodes ({cluster.vm_size})",
            hint=f"lower `node_count`, or raise the maxNodes of `{name}` in the workspace's stack",
        )
    per_node = max(sum(task.node == node for task in job.tasks()) for node in range(job.node_count))
    if job.use_gpu and per_node > cluster.gpu_count:
        raise JobError(
            f"process_count_per_node: got {per_node} tasks with a GPU each on a node, a node of `{name}` "
            f"({cluster.vm_size}) has {cluster.gpu_count}",
            hint=f"set `process_count_per_node` to {cluster.gpu_count} and `node_count` to more",
        )


def _check_machine(job: Job) -> None:
    """What this machine lacks for a job is told before an environment of gigabytes is built for it."""
    if queue_name(job.compute_target) not in SERVED_HERE:
        return
    from importlib.util import find_spec

    if job.conda_packages and find_spec("rattler") is None:
        raise JobError(
            f"conda_packages: {', '.join(job.conda_packages)} need the extra `conda`, which is not installed",
            hint="pip install 'tensoryard[conda]'",
        )
    if job.compute_target == LOCAL and job.use_gpu and (problem := _gpu_problem(job)):
        raise JobError(
            f"use_gpu: got `true`, but this machine has no usable GPU: {problem}",
            hint="`tyard doctor` shows what is missing; `use_gpu: false` trains on the CPU",
        )


def _gpu_problem(job: Job) -> str | None:
    """
    What a task's supervisor would say of this machine.

    Asked in a process of its own: once a process has initialised CUDA its forks cannot use it.
    """
    import subprocess

    asked = subprocess.run(
        [sys.executable, "-P", "-c", "from tensoryard.supervisor import gpu_problem; print(gpu_problem() or '')"],
        env=os.environ | job.environment_variables,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    return asked.stdout.strip() or None if asked.returncode == 0 else None


def _with_gpus(job: Job) -> Job:
    """CUDA_VISIBLE_DEVICES of this terminal means this run and is kept with it; nothing else is taken unasked."""
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is None or job.compute_target != LOCAL or "CUDA_VISIBLE_DEVICES" in job.environment_variables:
        return job
    variables = {**job.environment_variables, "CUDA_VISIBLE_DEVICES": chosen}
    return msgspec.structs.replace(job, environment_variables=variables)


def _user() -> str:
    named = os.environ.get("USER") or os.environ.get("LOGNAME")
    if named:
        return named
    import pwd

    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a container may run under a number that has no name
        return str(os.getuid())
