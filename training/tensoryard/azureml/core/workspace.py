"""The name of `azureml.core.workspace`."""

from tensoryard.workspace import Workspace

__all__ = ["Workspace"]
