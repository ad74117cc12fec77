"""The name of `azureml.core.script_run_config`."""

from tensoryard.estimator import ScriptRunConfig

__all__ = ["ScriptRunConfig"]
