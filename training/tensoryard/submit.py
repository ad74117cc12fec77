"""Turns a job into a run that a controller will find: the one way in, for the command and for Python."""

import os
import socket
from collections.abc import Callable
from pathlib import Path

import msgspec

from tensoryard import snapshot
from tensoryard.errors import JobError
from tensoryard.job import Job, encode_job
from tensoryard.run import RunRecord, find_run
from tensoryard.snapshot import Snapshot
from tensoryard.store import Store, keys
from tensoryard.workspace import Workspace

_TICKET = b"run-ticket-line\n"
TARGETS = ("local",)


def check(workspace: Workspace, job: Job) -> Job:
    """
    The job, with every check made that can be made before anything is created.

    Raises JobError for a target or data path that is not there and NotFoundError for a run to resume from.
    """
    if job.compute_target not in TARGETS:
        raise JobError(
            f"compute_target: got `{job.compute_target}`, this workspace has {', '.join(f'`{t}`' for t in TARGETS)}"
        )
    for field, reference in job.references().items():
        from tensoryard.folders import holds  # not loaded by jobs without data

        if not holds(workspace.store, reference.path):
            raise JobError(
                f"{field}: there is no `{reference.path}` in the datastore `{reference.datastore}`",
                hint=f"`tyard data upload FOLDER {reference.path}` puts a folder there, `tyard data list` shows what "
                "is there, `tyard data fetch --help` has data sets to start with",
            )
    if job.resume_from is not None:
        earlier = find_run(workspace.store, job.resume_from)
        if earlier.outputs() is None:
            why = "left no outputs" if earlier.state().ended else "has not ended yet"
            raise JobError(f"resume_from: `{earlier.id}` {why}", hint=f"tyard runs show {earlier.id}")
        job = msgspec.structs.replace(job, resume_from=earlier.id)
    # Read now: the run must not change when the file does.
    job = job.with_requirements()
    job.environment_spec()
    return job


def submit(workspace: Workspace, job: Job, say: Callable[[str], None], taken: Snapshot | None = None) -> RunRecord:
    """
    The run of a job, queued for its compute target.

    taken: the snapshot to use, when it is an earlier run's; otherwise the source folder is snapshot now.
    Raises JobError before anything is created.
    """
    job = _with_gpus(check(workspace, job))
    store = workspace.store
    if taken is None:
        taken = snapshot.take(store, Path(job.source_directory), say)
    run = RunRecord(store, keys.run_id(job.experiment, _next_number(store)))
    store.put(run.key("snapshot.json"), msgspec.json.encode(taken))
    store.put(run.key("job.json"), encode_job(job))
    # The commit point: a run that neither is queued nor has events was never asked for.
    store.put(keys.queued(job.compute_target, run.id), b"")
    run.add(fact="submitted", host=socket.gethostname(), user=_user(), snapshot=taken.digest)
    return run


def _with_gpus(job: Job) -> Job:
    """CUDA_VISIBLE_DEVICES of this terminal means this run and is kept with it; nothing else is taken unasked."""
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is None or job.compute_target != "local" or "CUDA_VISIBLE_DEVICES" in job.environment_variables:
        return job
    variables = {**job.environment_variables, "CUDA_VISIBLE_DEVICES": chosen}
    return msgspec.structs.replace(job, environment_variables=variables)


def _next_number(store: Store) -> int:
    return store.append(keys.run_tickets(), _TICKET) // len(_TICKET) + 1


def _user() -> str:
    return os.environ.get("USER") or os.environ.get("LOGNAME") or str(os.getuid())
