"""Train TensorFlow on one machine or many, and keep what it made."""

__version__ = "0.1.0"

__all__ = [
    "ComputeTarget",
    "Datastore",
    "Experiment",
    "Model",
    "MpiConfiguration",
    "Run",
    "ScriptRunConfig",
    "TensorFlow",
    "TensorflowConfiguration",
    "TensoryardError",
    "Workspace",
    "__version__",
]

# Each name's module is loaded when the name is first used: the command line needs few of them.
_MODULES = {
    "ComputeTarget": "azureml.core.compute",
    "Datastore": "datastore",
    "Experiment": "experiment",
    "Model": "model",
    "MpiConfiguration": "estimator",
    "Run": "experiment",
    "ScriptRunConfig": "estimator",
    "TensorFlow": "estimator",
    "TensorflowConfiguration": "estimator",
    "TensoryardError": "errors",
    "Workspace": "workspace",
}

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tensoryard.azureml.core.compute import ComputeTarget
    from tensoryard.datastore import Datastore
    from tensoryard.errors import TensoryardError
    from tensoryard.estimator import MpiConfiguration, ScriptRunConfig, TensorFlow, TensorflowConfiguration
    from tensoryard.experiment import Experiment, Run
    from tensoryard.model import Model
    from tensoryard.workspace import Workspace


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module 'tensoryard' has no attribute {name!r}")
    import importlib

    value = getattr(importlib.import_module(f"tensoryard.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
