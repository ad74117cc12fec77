"""The name of `azureml.core.run`."""

from tensoryard.experiment import Run

__all__ = ["Run"]
