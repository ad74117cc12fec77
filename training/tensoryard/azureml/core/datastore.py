"""The name of `azureml.core.datastore`."""

from tensoryard.datastore import Datastore

__all__ = ["Datastore"]
