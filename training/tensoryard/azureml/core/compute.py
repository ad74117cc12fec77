"""Compute targets by name; new ones are written into the stack that the Pulumi program makes them from."""

import difflib
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from tensoryard.azureml.core.compute_status import AmlComputeStatus, ScaleSettings, listed_nodes
from tensoryard.azureml.core.provisioning import (
    AmlComputeProvisioningConfiguration,
    as_the_stack_says,
    check_scale,
    configuration,
)
from tensoryard.azureml.exceptions import ComputeTargetException
from tensoryard.errors import TensoryardError, UsageError
from tensoryard.stack import Change, Declared, Update, check_pulumi, declare
from tensoryard.targets import LOCAL, targets

if TYPE_CHECKING:
    from tensoryard.settings import AzureCluster
    from tensoryard.workspace import Workspace

__all__ = ["AmlCompute", "AmlComputeStatus", "ComputeTarget", "ScaleSettings"]

_LOOK_S = 2.0
_SAY_AGAIN_S = 60.0


class ComputeTarget:
    """
    A compute target that the workspace has; a cluster of a workspace on Azure is an AmlCompute.

    Raises ComputeTargetException, which names those that are there, for any other.
    """

    type = "Slurm"

    def __new__(cls, workspace: "Workspace", name: str) -> "ComputeTarget":
        azure = workspace.settings().azure
        there = targets(workspace)
        if name not in there or (cls is AmlCompute and (azure is None or name not in azure.clusters)):
            known = ", ".join(f"`{target}`" for target in there)
            near = difflib.get_close_matches(name, list(there), n=1, cutoff=0.5)
            raise ComputeTargetException(
                f"compute_target: there is no `{name}`, this workspace has {known}",
                f"did you mean `{near[0]}`?"
                if near and near[0] != name
                else f"`{LOCAL}` is this machine and always there: name it in `compute_target`",
            )
        return object.__new__(AmlCompute if azure is not None and name in azure.clusters else cls)

    def __init__(self, workspace: "Workspace", name: str) -> None:
        self.workspace = workspace
        self.name = name
        self._wanted: _Wanted | None = None
        if name == LOCAL:
            self.type = "Local"

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r})"

    @property
    def provisioning_state(self) -> str:
        """
        `Succeeded` when the workspace has it as it was asked for; until then `Creating`, `Updating` or `Deleting`.

        `Failed` when the `pulumi up` that was started for it has failed.
        """
        if self._wanted is None or self._wanted.there(self):
            return "Succeeded"
        return "Failed" if self._wanted.update is not None and self._wanted.update.failed else self._wanted.state

    @property
    def provisioning_errors(self) -> str | None:
        """What Pulumi said last where it failed, else None."""
        update = self._wanted.update if self._wanted is not None else None
        if update is None or not update.failed:
            return None
        return update.error.message

    @classmethod
    def all(cls, workspace: "Workspace") -> "dict[str, ComputeTarget]":
        """Every compute target of a workspace by name."""
        return {name: ComputeTarget(workspace, name) for name in targets(workspace)}

    @staticmethod
    def list(workspace: "Workspace") -> "list[ComputeTarget]":
        """Every compute target of a workspace."""
        return [*ComputeTarget.all(workspace).values()]

    @staticmethod
    def create(
        workspace: "Workspace",
        name: str,
        provisioning_configuration: AmlComputeProvisioningConfiguration,
        *,
        yes: bool = False,
    ) -> "AmlCompute":
        """
        Write a cluster into the file of the workspace's stack, in the checkout around the current folder.

        yes: start the `pulumi up` that makes it too; without, a person reviews the file and runs that. Returns at
        once, the cluster being `Creating`. Raises UsageError for what the program would refuse, such as a size that
        Azure has retired.
        """
        if not isinstance(provisioning_configuration, AmlComputeProvisioningConfiguration):
            raise UsageError(
                f"ComputeTarget.create: provisioning_configuration: got {provisioning_configuration!r}",
                "AmlCompute.provisioning_configuration(vm_size='STANDARD_NC4AS_T4_V3', max_nodes=4)",
            )
        made: AmlCompute = object.__new__(AmlCompute)
        ComputeTarget.__init__(made, workspace, name)
        cluster = as_the_stack_says(name, provisioning_configuration)
        made._change("add", cluster, "ComputeTarget.create", yes)
        return made

    def wait_for_completion(
        self,
        show_output: bool = False,
        min_node_count: int | None = None,
        timeout_in_minutes: float = 25,
        is_delete_operation: bool = False,
    ) -> None:
        """
        Wait until the workspace has it as it was asked for: at once, when nothing was.

        show_output: print what Pulumi says, or, where it was not started from here, the command that does it;
        min_node_count: nothing is waited for, as no node runs without a run. Raises
        ComputeTargetException when it is not so in time, or when Pulumi failed.
        """
        if min_node_count:
            print(f"{self.name}: min_node_count: nodes run only while runs wait for them, so none is waited for")
        end = time.monotonic() + 60 * timeout_in_minutes
        said = float("-inf")
        while self._wanted is not None and not self._wanted.there(self):
            declared, update = self._wanted.declared, self._wanted.update
            if update is not None:
                if show_output:
                    update.say_new(lambda line: print(line, flush=True))
                if update.ended:
                    self.refresh_state()
                    continue
            if time.monotonic() >= end:
                raise ComputeTargetException(
                    f"compute_target: `{self.name}` stands in {declared.file} and is not made yet"
                    if update is None
                    else f"compute_target: `pulumi up --stack {declared.stack}` goes on still: {update.log}",
                    declared.commands if update is None else "wait longer: timeout_in_minutes=60",
                )
            if show_output and update is None and time.monotonic() - said >= _SAY_AGAIN_S:
                said = time.monotonic()
                print(f"{self.name}: stands in {declared.file}; make it: {declared.commands}", flush=True)
            time.sleep(min(_LOOK_S if update is None else 0.1, max(0.0, end - time.monotonic())))
        if show_output:
            done = "Deleted" if self._wanted and self._wanted.state == "Deleting" else self.provisioning_state
            print(f"{self.name}: {done}", flush=True)

    def refresh_state(self) -> None:
        """
        Learn what the `pulumi up` that was started for it has made, once that has ended.

        Raises ComputeTargetException when it failed.
        """
        update = self._wanted.update if self._wanted is not None else None
        if update is None or not update.ended:
            return
        try:
            knows = update.finish(connect_new=True)
        except TensoryardError as error:
            raise ComputeTargetException(f"compute_target: `{self.name}`: {error.message}", error.hint) from None
        if not knows:
            stack = self._wanted.declared.stack if self._wanted is not None else ""
            raise ComputeTargetException(
                f"compute_target: `{self.name}` is up in the stack `{stack}`, and {self.workspace.root} stands for "
                "another workspace",
                f"in another folder: tyard workspace connect --stack {stack}",
            )

    def get_status(self) -> AmlComputeStatus:
        """How it stands now."""
        return AmlComputeStatus(self.workspace, self.name, self.provisioning_state)

    def list_nodes(self) -> Sequence[dict[str, Any]]:
        """
        Its nodes that are there, each with `nodeId`, `nodeState` in Azure ML's words and `runId`.

        Raises SchedulerError where Slurm cannot be asked: it is, on the head or a login node.
        """
        return listed_nodes(self.workspace, self.name)

    def _change(self, change: Change, cluster: dict[str, Any], called: str, yes: bool) -> None:
        if yes:
            check_pulumi()
        declared = declare(self.workspace, change, cluster, called)
        self._wanted = _Wanted(change, declared, Update(self.workspace, declared) if yes else None)


class AmlCompute(ComputeTarget):
    """A cluster of a workspace on Azure, under the name that Azure ML has for it."""

    type = "AmlCompute"

    @staticmethod
    def provisioning_configuration(
        vm_size: str = "",
        vm_priority: str = "dedicated",
        min_nodes: int = 0,
        max_nodes: int | None = None,
        **others: Any,
    ) -> AmlComputeProvisioningConfiguration:
        """
        What a new cluster is to be.

        vm_size: Azure's name of a GPU size, in any case; vm_priority: 'dedicated', or 'lowpriority' for Spot
        machines; max_nodes: most nodes at once. Raises UsageError for what is set elsewhere, and where.
        """
        return configuration(vm_size, vm_priority, min_nodes, max_nodes, others)

    @property
    def vm_size(self) -> str | None:
        """Azure's name of the size of its nodes; None while it is being made."""
        return self.get_status().vm_size

    @property
    def vm_priority(self) -> str | None:
        """`dedicated`, or `lowpriority` for Spot machines; None while it is being made."""
        return self.get_status().vm_priority

    @property
    def scale_settings(self) -> ScaleSettings:
        """Least and most nodes, and how long an idle one stays."""
        return self.get_status().scale_settings

    def update(
        self,
        min_nodes: int | None = None,
        max_nodes: int | None = None,
        idle_seconds_before_scaledown: int | None = None,
        *,
        yes: bool = False,
    ) -> None:
        """
        Write other numbers of nodes into the file of the workspace's stack; None leaves one as it is.

        yes: start the `pulumi up` that makes it so too. Returns at once, the cluster being `Updating`.
        """
        cluster = check_scale("AmlCompute.update", min_nodes, max_nodes, idle_seconds_before_scaledown)
        if cluster:
            self._change("change", {"name": self.name, **cluster}, "AmlCompute.update", yes)

    def delete(self, *, yes: bool = False) -> None:
        """
        Take the cluster out of the file of the workspace's stack.

        yes: start the `pulumi up` that deletes it too. Returns at once, the cluster being `Deleting`.
        """
        self._change("remove", {"name": self.name}, "AmlCompute.delete", yes)


class _Wanted:
    """What was asked of a cluster, and the update that was started for it, if one was."""

    def __init__(self, change: Change, declared: Declared, update: Update | None) -> None:
        self.state = {"add": "Creating", "change": "Updating", "remove": "Deleting"}[change]
        self.declared = declared
        self.update = update

    def there(self, target: ComputeTarget) -> bool:
        """Whether the workspace knows it as it was asked for."""
        azure = target.workspace.settings().azure
        cluster = azure.clusters.get(target.name) if azure is not None else None
        if self.state == "Deleting":
            return cluster is None
        if cluster is None or self.state == "Creating":
            return cluster is not None
        return all(value(cluster) == self.declared.cluster[key] for key, value in _KEYS.items())


_KEYS: "dict[str, Callable[[AzureCluster], object]]" = {
    "vmSize": lambda cluster: cluster.vm_size,
    "maxNodes": lambda cluster: cluster.max_nodes,
    "spot": lambda cluster: cluster.spot,
}
