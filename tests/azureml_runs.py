"""Runs by Azure ML's names, through the real controller, in an environment that has no TensorFlow."""

from collections.abc import Callable
from typing import Any

import pytest

from launching import Yard
from tensoryard.azureml.core import Experiment, Run, Workspace
from tensoryard.azureml.train.dnn import TensorFlow

MODEL_SCRIPT = """
import json, os, sys
from tensoryard.azureml.core import Run
run = Run.get_context()
run.log("loss", 0.5)
run.log("loss", 0.25)
run.log("accuracy", 0.9)
os.makedirs("outputs/model/variables")
open("outputs/model/saved_model.pb", "w").write("graph")
open("outputs/model/variables/data", "w").write("numbers")
open("outputs/one.txt", "w").write("one")
json.dump(sys.argv[1:], open("outputs/argv.json", "w"))
print("trained", run.id)
"""


@pytest.fixture
def ws(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """A workspace whose controller builds no environment."""
    monkeypatch.setattr(
        "tensoryard.controller_process.spawn_controller", lambda workspace: yard.start_controller(workspace=workspace)
    )
    monkeypatch.chdir(yard.folder)
    return yard.workspace


@pytest.fixture
def estimator(yard: Yard) -> Callable[..., TensorFlow]:
    """Makes an estimator of a script's text."""

    def make(script: str = MODEL_SCRIPT, **arguments: Any) -> TensorFlow:
        return TensorFlow(source_directory=str(yard.source(script)), entry_script="train.py", **arguments)

    return make


def completed(ws: Workspace, estimator: Callable[..., TensorFlow], **arguments: Any) -> Run:
    run = Experiment(ws, "tf-mnist").submit(estimator(**arguments))
    run.wait_for_completion()
    return run
