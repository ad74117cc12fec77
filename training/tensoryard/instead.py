"""Arguments of Azure ML's SDK v1 that mean nothing here: they have their places, and are refused in words."""

from typing import Any

from tensoryard.errors import UsageError

_DATASET = "leave it out: there are no datasets here; put an example of the input beside the model's files"
_INSTEAD = {
    "auth": "leave it out: who signed in by `az login`, or the machine's managed identity, is found",
    "child_paths": "put these files into a folder of their own and name that in `model_path`",
    "data_reference_name": "name it where it is used: `inputs={'name': ds.path(...)}`",
    "dataset_id": (
        "leave it out: there are no datasets here; "
        "`tyard models list --where data=DIGEST` finds versions by the data of their runs"
    ),
    "datasets": "leave it out: what a run read from the datastore is kept with its model by itself",
    "resource_configuration": "leave it out: models are not deployed from here",
    "sample_input_dataset": _DATASET,
    "sample_output_dataset": _DATASET,
    "tags": "leave it out: tags are those of runs, and `experiment.get_runs(tags=...)` finds runs by them",
    "timeout_seconds": "leave it out: a transfer goes on until it is whole, or fails with the reason",
}


def refuse(call: str, **given: Any) -> None:
    """Raises UsageError, with what to do instead, when one of these arguments was given; None is the same as none."""
    for name, value in given.items():
        if value is not None:
            raise UsageError(f"{call}: `{name}` is not supported", _INSTEAD[name])
