"""Whether a Slurm cluster could ever run a job: asked of Slurm itself, before anything is created."""

import difflib
import tempfile
from typing import TYPE_CHECKING

from tensoryard.errors import JobError, SchedulerError, UsageError
from tensoryard.preparing import launch_files
from tensoryard.render import Placement
from tensoryard.scheduler.slurm_commands import AwayError, ask
from tensoryard.slurm_target import SlurmOptions, slurm_options
from tensoryard.store import keys

if TYPE_CHECKING:
    from tensoryard.job import Job
    from tensoryard.workspace import Workspace

# What will pass: the job may wait for it in Slurm's queue.
_FOR_NOW = ("not available now", "Required partition not available", "Required node not available", "drained")


def check_fits(workspace: "Workspace", job: "Job") -> None:
    """
    Raises JobError, with what the partitions have, for a job that sbatch would refuse or never start.

    Slurm's being away is no error: the run waits for it.
    """
    try:
        files = launch_files(workspace, job, keys.run_id(job.experiment, 0), Placement("slurm", ()))
    except UsageError as error:
        raise JobError(f"compute_target: slurm: {error.message}", error.hint) from None
    with tempfile.NamedTemporaryFile("w", prefix="tyard-", suffix=".sh", encoding="utf-8") as script:
        script.write(files["run.sh"])
        script.flush()
        try:
            ask(["sbatch", "--test-only", script.name])
        except AwayError:
            return
        except SchedulerError as error:
            if any(words in error.message for words in _FOR_NOW):
                return
            asked = slurm_options(job.compute_target)
            found = _partitions()
            near = difflib.get_close_matches(asked.partition or "", [] if asked.partition in found else found, n=1)
            if asked.partition in found:
                found = {asked.partition: found[asked.partition]}
            has = "; ".join(f"`{name}`: {' and '.join(words)}" for name, words in found.items())
            facts = f"asked: {_asked(job, asked)}" + (f"; there is {has}" if has else "")
            raise JobError(
                f"compute_target: slurm: {error.message.removeprefix('sbatch: ')} ({facts})",
                error.hint
                or (f"did you mean the partition `{near[0]}`?" if near else "")
                or "`sinfo` lists what there is; what a job asks: node_count, process_count_per_node, use_gpu,"
                " max_run_duration_seconds and compute_target.slurm",
            ) from None


def _asked(job: "Job", options: SlurmOptions) -> str:
    count = job.nodes
    words = [f"{count} node{'s' * (count > 1)}"]
    per_node = max(sum(task.node == node for task in job.tasks()) for node in range(count))
    words += [f"{per_node} GPU{'s' * (per_node > 1)} each"] if job.use_gpu else []
    words += [f"{name} `{value}`" for name in ("partition", "account", "qos") if (value := getattr(options, name))]
    return ", ".join([*words, *options.extra_directives])


def _partitions() -> dict[str, list[str]]:
    """What every partition has, in words for each kind of its nodes."""
    try:
        said = ask(["sinfo", "--noheader", "--format=%P|%D|%c|%m|%G|%l"])
    except (AwayError, SchedulerError):
        return {}
    found: dict[str, list[str]] = {}
    for line in said.splitlines():
        fields = line.split("|")
        if len(fields) == 6:
            name, count, cores, memory, gres, limit = fields
            words = f"{count} node{'s' * (count != '1')} of {cores} cores, {memory} MiB"
            words += "" if gres == "(null)" else f", {gres}"
            words += "" if limit == "infinite" else f", up to {limit}"
            found.setdefault(name.rstrip("*"), []).append(words)
    return found
