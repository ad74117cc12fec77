"""The names of `azureml.core`."""

from typing import NoReturn

from tensoryard.azureml.core.compute import ComputeTarget
from tensoryard.datastore import Datastore
from tensoryard.estimator import ScriptRunConfig
from tensoryard.experiment import Experiment, Run
from tensoryard.model import Model
from tensoryard.workspace import Workspace

__all__ = ["ComputeTarget", "Datastore", "Experiment", "Model", "Run", "ScriptRunConfig", "Workspace"]

_INSTEAD = {
    "Dataset": "put the files there with `ds.upload(...)` and pass `ds.path('mnist').as_mount()`",
    "Environment": "use the arguments `framework_version`, `pip_packages` and `conda_packages` of TensorFlow(...)",
    "RunConfiguration": "use the arguments of TensorFlow(...) or ScriptRunConfig(...)",
    "Webservice": "`tyard models download` fetches a model for the server of your choice",
}


def __getattr__(name: str) -> NoReturn:
    if name in _INSTEAD:
        raise ImportError(f"tensoryard has no `{name}`: {_INSTEAD[name]}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
