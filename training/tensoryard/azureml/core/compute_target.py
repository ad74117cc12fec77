"""The names of `azureml.core.compute_target`."""

from tensoryard.azureml.exceptions import ComputeTargetException

__all__ = ["ComputeTargetException"]
