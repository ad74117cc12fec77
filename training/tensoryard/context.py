"""
The run as the user's script sees it: ``from tensoryard import Run``.

Standard library only: the launcher puts this one file on the script's path under the name `tensoryard`, so
that a job's environment needs nothing of ours. Outside of a run the same calls print instead of recording.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

__all__ = ["Run"]


# What Azure ML's run can do inside of a script and this one cannot, and what to do there.
_INSTEAD = {
    "tag": "set `tags` in the job, or call `tag` on the run that `submit` gave",
    "upload_file": "write the file below `./outputs`, which is kept",
    "upload_folder": "write the files below `./outputs`, which is kept",
    "log_image": "write the picture below `./outputs`, which is kept",
    "register_model": "call it on the run that `submit` gave, once the run has ended",
    "complete": "leave it out: a run is complete when its script ends",
}


class Experiment:
    """What runs are grouped under. name: as in the job, or "offline"."""

    def __init__(self, name: str) -> None:
        self.name = name


class Run:
    """
    The run that this process belongs to, or an offline stand-in that prints.

    id: the run's id, or "offline"; experiment: its `.name`; task: this process, such as `worker-0`; outputs: the
    folder that is kept.
    """

    def __init__(self, folder: Path | None, run_id: str, task: str) -> None:
        self.id = run_id
        self.experiment = Experiment(run_id.rpartition("-")[0] or run_id)
        self.task = task
        self.outputs = Path("outputs")
        self._metrics = folder / "metrics" / f"{task}.jsonl" if folder else None

    if not TYPE_CHECKING:  # a type checker is to see that a name is not there

        def __getattr__(self, name: str) -> NoReturn:
            instead = f": {_INSTEAD[name]}" if name in _INSTEAD else ""
            raise AttributeError(f"inside of its script a run has no `{name}`{instead}", name=name, obj=self)

    @classmethod
    def get_context(cls, allow_offline: bool = True) -> Run:
        """
        The run of this process. Works the same whether the script was started by tyard or by hand.

        allow_offline: whether it may be started by hand; RuntimeError is raised where it may not.
        """
        folder = os.environ.get("TYARD_RUN_DIR")
        if not folder or "TYARD_TASK" not in os.environ:
            if not allow_offline:
                raise RuntimeError("this process is no task of a run: start the script by `tyard run`")
            return cls(None, "offline", "worker-0")
        return cls(Path(folder), os.environ["TYARD_RUN_ID"], os.environ["TYARD_TASK"])

    def log(self, name: str, value: Any, description: str = "", step: int | None = None) -> None:
        """
        Record one value of a metric; a name logged again becomes a list in its order.

        value: a number, or what TensorFlow or NumPy give, text, or lists and dicts of these. step: its place in the
        list, where every value of that name has one.
        """
        record = {"time": time.time(), "task": self.task, "name": name, "value": _plain(value)}
        if step is not None:
            record["step"] = _plain(step)
        if description:
            record["description"] = description
        if self._metrics is None:
            print(f"{name}: {record['value']}", flush=True)
            return
        self._metrics.parent.mkdir(exist_ok=True)
        # One write of one line to a file of this task's own: nothing interleaves, a kill loses at most this line.
        with self._metrics.open("ab", buffering=0) as file:
            file.write(json.dumps(record).encode() + b"\n")

    def log_list(self, name: str, value: list[Any], description: str = "") -> None:
        """Record several values of a metric at once, in order."""
        for item in value:
            self.log(name, item, description)

    def log_row(self, name: str, description: str | None = None, **columns: Any) -> None:
        """Record one row of a table: a value for each column, kept as a mapping."""
        self.log(name, {column: _plain(value) for column, value in columns.items()}, description or "")


def _plain(value: Any) -> Any:
    for method in ("numpy", "tolist"):  # of a tensor, then of NumPy's arrays and scalars
        if hasattr(value, method):
            value = getattr(value, method)()
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return str(value)  # JSON has no such numbers
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return str(value)
