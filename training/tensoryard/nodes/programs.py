"""
What Slurm's programs do: start the machines of nodes, stop them, tell of those that never came up, and put right what
does not agree. Every one may be cut off at any line and called again.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

from tensoryard.nodes import REASON, Machine, Machines, Problem, cluster_of, slurm
from tensoryard.nodes.examine import KEPT_DOWN, LIMITS, Finding, Limits, examine
from tensoryard.nodes.kept import read, write

# A machine of a GPU is paid for while it fails to come up: after that many times in a row a person has to look.
_MOST_FAILURES = 3
_LONGEST_REASON = 400

Log = Callable[[str], None]


class Programs:
    """
    The programs of one cluster, whose nodes are its name and a number.

    state: a folder in which they keep what must outlive them; log: hears what they do.
    """

    def __init__(self, cluster: str, machines: Machines, state: Path, log: Log, limits: Limits = LIMITS) -> None:
        self._cluster = cluster
        self._machines = machines
        self._failures = state / f"{cluster}-never-came-up.json"
        self._refusals = state / f"{cluster}-refused.json"
        self._log = log
        self._limits = limits

    def resume(self, names: Sequence[str]) -> dict[str, Problem]:
        """Start the machines of nodes. Nodes that get none are given up with the reason; their jobs wait again."""
        problems = self._machines.start(names)
        if problems:
            # A job may have been canceled meanwhile, and its node be on its way down by itself.
            waiting = {node.name for node in self._nodes() if "POWERING_UP" in node.flags}
            self._down({name: problem.words for name, problem in problems.items() if name in waiting})
        known = read(self._refusals)
        refused = {name: words for name, words in known.items() if name not in names}
        refused |= {name: problem.words for name, problem in problems.items()}
        if refused != known:
            write(self._refusals, refused)
        return problems

    def suspend(self, names: Sequence[str]) -> bool:
        """Delete the machines of nodes; whether all could be. What was not deleted now, `reconcile` deletes."""

        def pick(machines: Sequence[Machine]) -> list[Machine]:
            # This may have waited for its turn, and Slurm have started a node again meanwhile.
            let_go = {node.name for node in self._nodes() if not node.wanted} & set(names)
            return [machine for machine in machines if machine.node in let_go]

        return self._delete(pick)

    def fail(self, names: Sequence[str]) -> None:
        """Tell why nodes did not come up in time, and delete their machines."""
        machines = {machine.node: machine for machine in self._machines.all() if machine.node in names}
        # Slurm comes to these too at its ResumeTimeout, and has then put its own reason in the place of ours.
        refused = {name: words for name, words in read(self._refusals).items() if name not in machines}
        failures = read(self._failures)
        reasons = {}
        for name in names:
            if name in refused:
                reasons[name] = refused[name]
                continue
            failures[name] = failures.get(name, 0) + 1
            reasons[name] = _why_it_never_came_up(machines.get(name))
        write(self._failures, failures)
        self.suspend(names)
        kept = {name for name in names if name not in refused and failures[name] >= _MOST_FAILURES}
        for name in kept:
            reasons[name] = f"{reasons[name]}, {failures[name]} times in a row"
        self._down({name: words for name, words in reasons.items() if name not in kept})
        self._down({name: words for name, words in reasons.items() if name in kept}, KEPT_DOWN)

    def reconcile(self) -> list[Finding]:
        """Put right what no person has to decide. Returns what was found."""
        findings, nodes = self._compare()
        self._forget({node.name for node in nodes if node.up})
        self.repair([finding for finding in findings if finding.safe])
        return findings

    def look(self) -> list[Finding]:
        """What does not agree now. Nothing is written, so that anybody may look."""
        return self._compare()[0]

    def _compare(self) -> tuple[list[Finding], list[slurm.SlurmNode]]:
        machines = self._machines.all()
        nodes = self._nodes()
        return examine(machines, nodes, time.time(), self._limits), nodes

    def repair(self, findings: Sequence[Finding]) -> None:
        """Do what findings say, one kind after the other."""
        todo: dict[str, list[Finding]] = defaultdict(list)
        for finding in findings:
            if finding.fix:
                self._log(f"{finding.problem}: {finding.fix}")
                todo[finding.fix].append(finding)
        named = {fix: [one.node for one in some if one.node is not None] for fix, some in todo.items()}
        if some := todo["remove"]:
            self._remove({one.machine.id for one in some if one.machine is not None})
        if names := named.get("fail"):
            self.fail(names)
        if names := named.get("give up"):
            self._down(dict.fromkeys(names, "its machine is gone, taken away or deleted"))
            slurm.update(names, state="power_down")
        if names := named.get("try again"):
            self._forget(set(names))
            # Slurm runs its SuspendProgram, which deletes what is left of them, and may then start them again.
            slurm.update(names, state="power_down")
            slurm.update(names, reason="")
        if names := named.get("start"):
            self.resume(names)

    def _remove(self, ids: set[str]) -> None:
        def pick(machines: Sequence[Machine]) -> list[Machine]:
            # Looked at again: a node that was started meanwhile keeps its machine.
            now = examine(machines, self._nodes(), time.time(), self._limits)
            return [one.machine for one in now if one.fix == "remove" and one.machine and one.machine.id in ids]

        self._delete(pick)

    def _delete(self, pick: Callable[[Sequence[Machine]], list[Machine]]) -> bool:
        problems = self._machines.remove(pick)
        for name, problem in problems.items():
            self._log(f"{name} could not be deleted: {problem.words}")
        return not problems

    def _down(self, reasons: dict[str, str], mark: str = REASON) -> None:
        """Give nodes up, each with its reason; Slurm puts their jobs back into the queue."""
        same: dict[str, list[str]] = defaultdict(list)
        for name, words in reasons.items():
            same[words].append(name)
        for words, names in same.items():
            self._log(f"{', '.join(names)}: {words}")
            slurm.update(names, state="down", reason=f"{mark}{words}"[:_LONGEST_REASON])

    def _nodes(self) -> list[slurm.SlurmNode]:
        return [node for node in slurm.nodes() if cluster_of(node.name) == self._cluster]

    def _forget(self, names: set[str]) -> None:
        """Nodes that came up have not failed in a row."""
        failures = read(self._failures)
        if failures.keys() & names:
            write(self._failures, {name: count for name, count in failures.items() if name not in names})


def _why_it_never_came_up(machine: Machine | None) -> str:
    if machine is None:
        return "it never came up: it had no machine"
    if machine.problem:
        return f"it never came up: {machine.problem}"
    return f"it never came up: its machine {machine.id} was {machine.state}, and its slurmd did not report"
