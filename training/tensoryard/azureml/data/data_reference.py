"""The name of `azureml.data.data_reference`."""

from tensoryard.job import DatastoreReference as DataReference

__all__ = ["DataReference"]
