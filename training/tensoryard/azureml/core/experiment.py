"""The name of `azureml.core.experiment`."""

from tensoryard.experiment import Experiment

__all__ = ["Experiment"]
