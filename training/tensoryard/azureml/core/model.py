"""The name of `azureml.core.model`."""

from tensoryard.model import Model

__all__ = ["Model"]
