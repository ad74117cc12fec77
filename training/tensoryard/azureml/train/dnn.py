"""The names of `azureml.train.dnn`."""

from tensoryard.estimator import MpiConfiguration, TensorFlow, TensorflowConfiguration

# The name that the first releases of the SDK had for it.
Mpi = MpiConfiguration

__all__ = ["Mpi", "MpiConfiguration", "TensorFlow", "TensorflowConfiguration"]
