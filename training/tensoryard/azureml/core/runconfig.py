"""The names of `azureml.core.runconfig`."""

from tensoryard.estimator import MpiConfiguration, TensorflowConfiguration

__all__ = ["MpiConfiguration", "TensorflowConfiguration"]
