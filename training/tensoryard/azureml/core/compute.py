"""Compute targets by name; they are made with the infrastructure, not from Python."""

from typing import TYPE_CHECKING, Any, NoReturn

from tensoryard.azureml.exceptions import ComputeTargetException
from tensoryard.errors import UsageError
from tensoryard.targets import LOCAL, targets

if TYPE_CHECKING:
    from tensoryard.workspace import Workspace

__all__ = ["AmlCompute", "ComputeTarget"]

_NOT_FROM_PYTHON = "a compute target is not made from Python"
_HINT = f"`{LOCAL}` is this machine and always there: name it in `compute_target`"


class ComputeTarget:
    """
    A compute target that the workspace has.

    Raises ComputeTargetException, which names those that are there, for any other.
    """

    def __init__(self, workspace: "Workspace", name: str) -> None:
        if name not in targets(workspace):
            known = ", ".join(f"`{target}`" for target in targets(workspace))
            raise ComputeTargetException(f"compute_target: there is no `{name}`, this workspace has {known}", _HINT)
        self.workspace = workspace
        self.name = name
        self.provisioning_state = "Succeeded"

    def __repr__(self) -> str:
        return f"ComputeTarget({self.name!r})"

    @classmethod
    def all(cls, workspace: "Workspace") -> "dict[str, ComputeTarget]":
        """Every compute target of a workspace by name."""
        return {name: cls(workspace, name) for name in targets(workspace)}

    @staticmethod
    def list(workspace: "Workspace") -> "list[ComputeTarget]":
        """Every compute target of a workspace."""
        return [*ComputeTarget.all(workspace).values()]

    @staticmethod
    def create(*args: Any, **others: Any) -> NoReturn:
        """Raises UsageError that says what to do instead."""
        raise UsageError(f"ComputeTarget.create: {_NOT_FROM_PYTHON}", _HINT)

    def wait_for_completion(self, show_output: bool = False, **others: Any) -> None:
        """Returns at once: what the workspace names is there."""
        if show_output:
            print(f"{self.name}: {self.provisioning_state}")


class AmlCompute(ComputeTarget):
    """A cluster, under the name that Azure ML has for it."""

    @staticmethod
    def provisioning_configuration(*args: Any, **others: Any) -> NoReturn:
        """Raises UsageError that says what to do instead."""
        raise UsageError(f"AmlCompute.provisioning_configuration: {_NOT_FROM_PYTHON}", _HINT)
