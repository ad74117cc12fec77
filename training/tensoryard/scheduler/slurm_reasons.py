"""
Why a job of Slurm's waits, in words.

Source: squeue(1), JOB REASON CODES, of Slurm 21.08 to 25.05.
"""

import re
from typing import Literal, NamedTuple

Kind = Literal["quota", "resources", "dependency", "held", "other"]


class Reason(NamedTuple):
    """kind: who can do something about it; words: what it means; code: as Slurm says it."""

    kind: Kind
    words: str
    code: str

    def __str__(self) -> str:
        return f"{self.words} ({self.code})" if self.words != self.code and " " not in self.code else self.words


_RESOURCES = {
    "Resources": "waiting for nodes that are free",
    "Priority": "waiting behind jobs that come first",
    "Nodes required for job are DOWN, DRAINED or reserved for jobs in higher priority partitions": (
        "the nodes it needs are down, drained or kept for others"
    ),
    "ReqNodeNotAvail": "the nodes it needs are not available",
    "NodeDown": "a node it needs is down",
    "Reservation": "waiting for its reservation to begin",
    "ReservationDeleted": "its reservation was deleted",
    "Licenses": "waiting for a license",
    "BurstBufferResources": "waiting for space in the burst buffer",
    "BurstBufferStageIn": "its data is being brought",
    "PartitionDown": "its partition is down",
    "PartitionInactive": "its partition takes no jobs to run now",
    "FrontEndDown": "no front end is up",
    "MaxPoweredUpNodes": "as many nodes are up as may be",
    "PartitionConfig": "its partition has no nodes that it could use",
}
_QUOTA = {
    "PartitionNodeLimit": "it asks more nodes than its partition has or gives to one job",
    "PartitionTimeLimit": "it asks more time than its partition gives",
    "AccountNotAllowed": "its account may not use the partition",
    "QOSNotAllowed": "its quality of service may not use the partition",
    "AssociationJobLimit": "its account has reached its limit of jobs",
    "AssociationResourceLimit": "its account uses as much as it may",
    "AssociationTimeLimit": "its account has used up its time",
    "QOSJobLimit": "its quality of service runs as many jobs as it may",
    "QOSResourceLimit": "its quality of service uses as much as it may",
    "QOSTimeLimit": "its quality of service has used up its time",
    "QOSUsageThreshold": "its quality of service has used too much of late",
    "JobArrayTaskLimit": "as many of its array run as may",
    "MaxBBPerUser": "its user has as much of the burst buffer as may be",
}
_DEPENDENCY = {
    "Dependency": "waiting for a job that it depends on",
    "DependencyNeverSatisfied": "a job that it depends on failed: it will never start",
    "BeginTime": "not to be started yet: Slurm waits so after it has put a job back into the queue",
    "DeadLine": "it cannot end before its deadline",
}
_HELD = {
    "JobHeldUser": "held by its user: `scontrol release` lets it go",
    "JobHeldAdmin": "held by an administrator",
    "JobHoldMaxRequeue": "held, because it was put back into the queue too often",
    "launch failed requeued held": "held, because a node could not start it",
    "SpecialExit": "held, because it asked for that by its exit code",
}
_OTHER = {
    "None": "waiting for Slurm to look at it",
    "Cleaning": "what it left behind is being cleared away",
    "Prolog": "the nodes are being prepared",
    "NodeFail": "a node failed",
    "JobLaunchFailure": "a node could not start it",
    "NonZeroExitCode": "it ended with an error",
    "SystemFailure": "something of Slurm's own failed",
    "TimeLimit": "it reached its time limit",
    "InactiveLimit": "it did nothing for too long",
    "InvalidAccount": "there is no such account",
    "InvalidQOS": "there is no such quality of service",
    "BadConstraints": "no node is as it asks",
    "RaisedSignal": "it was ended by a signal",
    "OutOfMemory": "it needed more memory than it has",
    "PreemptionCleanup": "others came first, and what it left is being cleared away",
}
_KINDS: tuple[tuple[Kind, dict[str, str]], ...] = (
    ("resources", _RESOURCES),
    ("quota", _QUOTA),
    ("dependency", _DEPENDENCY),
    ("held", _HELD),
    ("other", _OTHER),
)
# AssocGrpGRES, QOSMaxCpuPerUserLimit, AssocMaxJobsLimit, QOSMinGRES, ...: dozens, all made in one way.
_LIMIT = re.compile("(?P<whose>Assoc|QOS)(?P<how>Grp|Max|Min)(?P<what>.+?)(Limit)?")
_WHOSE = {"Assoc": "its account", "QOS": "its quality of service"}
_HOW = {
    "Grp": "{whose} has as much {what} in use as it may",
    "Max": "{whose} gives no more {what} to one job, user or account",
    "Min": "{whose} wants jobs with more {what}",
}


def reason(code: str) -> Reason:
    """What a reason code of squeue's means; one that is not known is shown as it is."""
    plain = code.strip().strip("()").replace("_", " ")
    # `ReqNodeNotAvail, UnavailableNodes:gpu-1` says more than its code.
    head, comma, rest = plain.partition(",")
    for kind, known in _KINDS:
        if plain in known:
            return Reason(kind, known[plain], plain)
        if comma and head in known:
            return Reason(kind, f"{known[head]}:{rest}", head)
    limit = _LIMIT.fullmatch(plain)
    if limit:
        words = _HOW[limit["how"]].format(whose=_WHOSE[limit["whose"]], what=limit["what"])
        return Reason("quota", words, plain)
    return Reason("other", plain, plain)
