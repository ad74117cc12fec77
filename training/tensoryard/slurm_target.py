"""A compute target that is a Slurm cluster, by what is asked of it: a field of the job."""

import re
from typing import Annotated

from msgspec import Meta, Struct

from tensoryard.errors import JobError
from tensoryard.targets import LOCAL

# Slurm does not read `#SBATCH` lines as a shell does: values are matched, not quoted.
DIRECTIVE_VALUE = re.compile(r"[A-Za-z0-9._:/@%+=,&|*!()\[\]-]+")
_DIRECTIVE = re.compile(r"--(?P<name>[a-z][a-z0-9-]*)(=[ -~]+)?")
# What a run stands on, with the field that says it.
_OURS = {
    "chdir": None,
    "job-name": "experiment",
    "nodes": "node_count",
    "ntasks": "process_count_per_node",
    "ntasks-per-node": "process_count_per_node",
    "output": None,
    "array": None,
    "wait": None,
    "wrap": None,
    "test-only": None,
    "parsable": None,
}


class SlurmOptions(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What sbatch is asked beyond what the job says; what is left out is Slurm's default."""

    partition: Annotated[str | None, Meta(description="Partition; left out, the cluster's default")] = None
    account: Annotated[str | None, Meta(description="Account that the time is charged to")] = None
    qos: Annotated[str | None, Meta(description="Quality of service")] = None
    constraint: Annotated[str | None, Meta(description="Features that every node must have")] = None
    reservation: Annotated[str | None, Meta(description="Reservation to take the nodes from")] = None
    time: Annotated[
        str | None,
        Meta(
            description="Time limit as Slurm writes it, such as 4:00:00; left out, from max_run_duration_seconds, "
            "else the partition's"
        ),
    ] = None
    extra_directives: Annotated[
        tuple[str, ...], Meta(description="More sbatch options, such as `--mem=8G`; they replace the rendered ones")
    ] = ()
    skip_directives: Annotated[
        tuple[str, ...], Meta(description="Rendered sbatch options to leave out, such as `exclusive`")
    ] = ()

    def __post_init__(self) -> None:
        for name in ("partition", "account", "qos", "constraint", "reservation", "time"):
            value = getattr(self, name)
            if value is not None and not DIRECTIVE_VALUE.fullmatch(value):
                hint = "for example 4:00:00, 1-12:00:00 or minutes" if name == "time" else None
                raise JobError(
                    f"compute_target: slurm: {name}: got `{value}`, which is not valid in an #SBATCH line", hint
                )
        for text in self.extra_directives:
            found = _DIRECTIVE.fullmatch(text)
            if found is None:
                raise JobError(
                    f"compute_target: slurm: extra_directives: got `{text}`, expected an option of sbatch such as "
                    "`--mem=8G`"
                )
            if found["name"] in _OURS:
                field = _OURS[found["name"]]
                rule = f"the field `{field}` says that" if field else "a run needs it to be as it is rendered"
                raise JobError(f"compute_target: slurm: extra_directives: got `{text}`: {rule}")
        for name in self.skip_directives:
            if name in _OURS:
                raise JobError(f"compute_target: slurm: skip_directives: got `{name}`, which every run needs")


class SlurmTarget(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A Slurm cluster by what to ask of it, submitted to from a machine that has its commands."""

    slurm: SlurmOptions
    name: Annotated[
        str | None, Meta(description="What workspace.json calls it: written by tyard into a run's record")
    ] = None


def slurm_options(target: str | SlurmTarget) -> SlurmOptions:
    """What sbatch is asked for a target: a cluster of the workspace is the partition of its name."""
    if isinstance(target, SlurmTarget):
        return target.slurm
    return SlurmOptions() if target == LOCAL else SlurmOptions(partition=target)


def shares_nodes(options: SlurmOptions) -> bool:
    """Whether other jobs may be on the nodes of a run: it does not ask for `--exclusive`, and nothing else."""
    asked = [text for text in options.extra_directives if text.startswith("--exclusive")]
    return asked[-1] != "--exclusive" if asked else "exclusive" in options.skip_directives
