"""
Machines of an Azure scale set: grown as a whole, given Slurm's names by tags, deleted one by one.

A new machine has a name of Azure's own making. It becomes a node by the tag `slurm-node`, which its boot unit waits
for. The tag is the only record, so a call that was cut off leaves nothing but machines without one, and the next call
gives those away before it asks for more.
"""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from azure.core.exceptions import AzureError

from tensoryard.nodes import Machine, Problem
from tensoryard.nodes.azure_errors import explain, is_beside
from tensoryard.nodes.patience import Busy, Deadline, held
from tensoryard.nodes.scale_set import Growth, ScaleSet

_AT_ONCE = 8
_LISTED_AT_ONCE = 200
_MOST_RAISES = 3  # Azure is asked for more when none of what it says it made is listed, but not for ever more


_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def side_by_side(call: Callable[[_Item], _Result], items: Sequence[_Item]) -> list[_Result]:
    """What a call returns for each item, several at once: a thousand requests one by one take minutes."""
    if len(items) < 2:
        return [call(item) for item in items]
    with ThreadPoolExecutor(min(_AT_ONCE, len(items))) as pool:
        return [*pool.map(call, items)]


class AzureMachines:
    """
    The machines of one scale set.

    lock: the file that every program takes that gives out or deletes machines of this set; within_s: after that long
    a call ends with what it has; pause_s: between two looks, at most; listed_s: from when Azure says that it made a
    machine until that should be in its list; log: hears what is asked of Azure, a line each.
    """

    def __init__(
        self,
        scale_set: ScaleSet,
        lock: Path,
        *,
        within_s: float = 600,
        pause_s: float = 5,
        listed_s: float = 30,
        log: Callable[[str], None] = lambda line: None,
        wait: Callable[[float], None] = time.sleep,
    ) -> None:
        self.set = scale_set
        self._lock = lock
        self._within_s = within_s
        self._pause_s = pause_s
        self._listed_s = listed_s
        self._log = log
        self._wait = wait

    def start(self, names: Sequence[str]) -> dict[str, Problem]:
        until = self._deadline()
        raising = _Raising(self.set, self._log, Deadline(self._listed_s, self._wait))
        lacking = [*dict.fromkeys(names)]
        try:
            with held(self._lock, until):
                self._give_out(lacking, raising, until)
            # Others may go on: the names are given. What is left is to hear whether Azure keeps its word.
            lost = self._watch([name for name in names if name not in lacking], raising, until)
            why = raising.problem or Problem("slow", f"Azure made no machine within {self._within_s:.0f} s")
            return lost | dict.fromkeys(lacking, why)
        except Busy as busy:
            return dict.fromkeys(lacking, Problem("slow", str(busy)))
        except AzureError as error:
            return dict.fromkeys(lacking, explain(error))

    def all(self) -> list[Machine]:
        return self.set.machines(self._deadline())

    def remove(self, pick: Callable[[Sequence[Machine]], Sequence[Machine]]) -> dict[str, Problem]:
        try:
            return {machine.id: problem for machine, problem in self._delete(pick)}
        except AzureError as error:
            return {self.set.name: explain(error)}
        except Busy as busy:
            return {self.set.name: Problem("slow", str(busy))}

    def _deadline(self) -> Deadline:
        return Deadline(self._within_s, self._wait)

    def _give_out(self, lacking: list[str], raising: "_Raising", until: Deadline) -> None:
        """Give each name a machine; under the lock. In the list those stay that have none, whatever ends this."""
        names, given = [*lacking], dict[str, str]()
        while True:
            machines = self.set.machines(until)
            self._bury(machines, until)
            usable = [machine for machine in machines if machine.usable]
            # The list may be older than the last tag; a machine that failed since has lost its name.
            there = {machine.id for machine in usable}
            given = {name: machine for name, machine in given.items() if machine in there}
            lacking[:] = [name for name in names if name not in given.keys() | {machine.node for machine in usable}]
            unnamed = [machine.id for machine in usable if machine.node is None and machine.id not in given.values()]
            pairs = [*zip(lacking, unnamed, strict=False)]
            tagged = side_by_side(lambda pair: self.set.tag(pair[1], pair[0], until), pairs)
            for name, machine in (pair for pair, done in zip(pairs, tagged, strict=True) if done):
                self._log(f"{name} is {machine}")
                given[name] = machine
                lacking.remove(name)
            # One that cannot be given a name yet still will be.
            free = len(unnamed) - sum(tagged)
            if len(lacking) > free and not until.over:
                raising.see(len(usable), len(lacking) - free, until)
            if not lacking or until.over or raising.problem:
                return
            self._look_again(len(machines), until)

    def _watch(self, names: Sequence[str], raising: "_Raising", until: Deadline) -> dict[str, Problem]:
        """Wait until the nodes' machines run. Returns why not, for those that came to nothing."""
        # A list may be older than the last name: what it lacks has gone away when it stays so.
        late = Deadline(self._listed_s, self._wait)
        while names and raising.asked:
            machines = self.set.machines(until)
            mine = {machine.node: machine for machine in machines if machine.node in names and machine.usable}
            words = {machine.node: machine.problem for machine in machines if machine.problem}
            lacking = [name for name in names if name not in mine]
            lost = [name for name in lacking if words.get(name) or late.over or raising.outcome()]
            if lost:
                # Whoever holds it so long buries them too, at its next look.
                with suppress(Busy), held(self._lock, until):
                    self._bury(machines, until)
                other = raising.outcome() or Problem("other", "its machine went away while it was made")
                return {name: Problem("capacity", words[name]) if words.get(name) else other for name in lost}
            if not lacking:
                late.again()
            if until.over or (not lacking and all(machine.state == "running" for machine in mine.values())):
                break
            self._look_again(len(machines), until)
        return {}

    def _look_again(self, listed: int, until: Deadline) -> None:
        """Wait for the next look: a list of a thousand takes many requests, of which an hour has so many."""
        until.look_again(self._pause_s * max(1, listed / _LISTED_AT_ONCE))

    def _bury(self, machines: Sequence[Machine], until: Deadline) -> None:
        """Delete what never came up or was taken away, so that its name and its share of the quota are free again."""
        for machine in machines:
            if machine.state in ("failed", "stopped"):
                self._log(f"deleting {machine.id} ({machine.node or 'no node'}): {machine.problem or machine.state}")
                self.set.delete(machine.id, until)

    def _delete(self, pick: Callable[[Sequence[Machine]], Sequence[Machine]]) -> list[tuple[Machine, Problem]]:
        """Delete the machines that are meant, as they are under the lock. Returns those that were not, and why."""
        until = self._deadline()
        with held(self._lock, until):
            going = [machine for machine in pick(self.set.machines(until)) if machine.state != "stopping"]
            for machine in going:
                self._log(f"deleting {machine.id} ({machine.node or 'no node'})")
            problems = side_by_side(lambda machine: self.set.delete(machine.id, until), going)
        return [(machine, problem) for machine, problem in zip(going, problems, strict=True) if problem]


class _Raising:
    """
    How the set's number is raised for names that lack a machine: by as many, once, and again only if none comes.

    The number is never lowered. What Azure means by it while machines come, go and fail is not documented, so it is
    not computed from memory: each raise starts from the larger of Azure's number and what is there.
    """

    def __init__(self, scale_set: ScaleSet, log: Callable[[str], None], listed: Deadline) -> None:
        self._set = scale_set
        self._log = log
        self._listed = listed
        self._growth: Growth | None = None
        self._raises = 0
        self.problem: Problem | None = None

    @property
    def asked(self) -> bool:
        return self._growth is not None

    def see(self, here: int, lacking: int, until: Deadline) -> None:
        """Ask for more where it is time to. here: usable machines; lacking: names without one."""
        if self._growth is not None and not self._growth.over:
            self._listed.again()
            return
        self.problem = self.outcome()
        if self.problem or (self._growth is not None and not self._listed.over):
            return
        size, at_work = self._set.number(until)
        number = size.capacity or 0
        if at_work and number >= here + lacking:
            return  # an earlier call was cut off after it had asked
        if self._raises == _MOST_RAISES:
            self.problem = Problem("other", f"Azure raised the set to {number}, and no machine came of it")
            return
        target = max(number, here + lacking) if self._growth is None else number + lacking
        self._log(f"asking Azure for {target} machines in all: {here} are there, {lacking} are lacking")
        try:
            self._growth = self._set.grow(size, target, until)
        except AzureError as error:
            if not is_beside(error):
                self.problem = explain(error)
            return
        self._raises += 1
        self._listed.again()

    def outcome(self) -> Problem | None:
        """Why the last raise failed, None unless it did."""
        error = self._growth.error if self._growth is not None else None
        return explain(error) if error is not None and not is_beside(error) else None
