"""What is known of a run, as the plain data that `runs list` and `runs show` print."""

from typing import Any

from tensoryard.cli.ending import hint, total_seconds
from tensoryard.cli.last_metrics import LastMetrics
from tensoryard.errors import CorruptRecordError
from tensoryard.run import ENDS, RunRecord, RunState, utc


def summary(run: RunRecord) -> dict[str, Any]:
    """A line of the list. Raises CorruptRecordError or NotFoundError when the run's job or events cannot be read."""
    job = run.job
    state = _state(run)
    return {
        "id": run.id,
        "experiment": job.experiment,
        "stage": state.stage,
        "reason": state.reason,
        "submitted_at": _at(state.submitted_at),
        "seconds": round(total_seconds(state), 3),
        "metrics": LastMetrics(run).refresh(),
        "tags": job.tags | state.tags,
    }


def details(run: RunRecord) -> dict[str, Any]:
    """Everything about one run, less its logs and the list of its files."""
    import msgspec

    state = _state(run)
    ending = next((event for event in reversed(run.events()[0]) if event.stage in ENDS), None)
    where = run.store.local_path(run.key(""))
    return {
        **summary(run),
        "metrics": run.metrics(),
        "stages": [
            {
                "stage": span.stage,
                "started_at": utc(span.started_at),
                "ended_at": _at(span.ended_at),
                "seconds": round(span.seconds, 3),
                "reason": span.reason,
            }
            for span in state.stages
        ],
        "environment": _environment(run, state),
        "tasks": tasks(run, state),
        "warnings": state.warnings,
        "hint": hint(ending) if ending else None,
        "user": state.facts.get("submitted", {}).get("user"),
        "host": state.facts.get("submitted", {}).get("host"),
        "snapshot": state.facts.get("submitted", {}).get("snapshot"),
        "path": str(where) if where else None,
        "slurm_job": run.slurm_job(),
        "job": msgspec.to_builtins(run.job),
    }


def tasks(run: RunRecord, state: RunState) -> list[dict[str, Any]]:
    """Every task in the order of the layout, with what is recorded of it so far."""
    results = run.task_results()
    found = []
    for task in run.job.tasks():
        result = results.get(task.name, {})
        found.append(
            {
                "task": task.name,
                "node": task.node,
                "host": result.get("host"),
                "exit_code": result.get("exit_code"),
                "signal": result.get("signal"),
                "stopped": bool(result.get("stopped")),
                "reason": result.get("reason"),
                "started_at": _at(result.get("started_at")),
                "ended_at": _at(result.get("ended_at")),
                "peak_memory_bytes": result.get("peak_memory_bytes"),
            }
        )
    return found


def outcome(task: dict[str, Any], ended: bool) -> str:
    """How a task stands, in words."""
    if task["reason"]:
        return str(task["reason"])
    if task["stopped"]:
        return "stopped"
    if task["signal"]:
        return str(task["signal"])
    if task["exit_code"] is not None:
        return f"exit code {task['exit_code']}"
    return "not started" if ended else "-"


def listed_files(run: RunRecord) -> list[dict[str, Any]]:
    """Path, size and digest of every file of the run; the digest is None for what its end did not record."""
    outputs = run.outputs()
    found: list[dict[str, Any]] = []
    prefixes = ["logs/", "metrics/"]
    if outputs is None:
        prefixes.append("outputs/")
    else:
        found += [{"path": file.path, "size_bytes": file.size_bytes, "sha256": file.sha256} for file in outputs.files]
    for prefix in prefixes:
        for entry in run.store.list(run.key(prefix)):
            path = entry.key.removeprefix(run.key(""))
            found.append({"path": path, "size_bytes": entry.size_bytes, "sha256": None})
    for entry in run.store.list(run.key("uploads/")):
        path = entry.key.removeprefix(run.key("uploads/"))
        found.append({"path": path, "size_bytes": entry.size_bytes, "sha256": None})
    return sorted(found, key=lambda file: str(file["path"]))


def _state(run: RunRecord) -> RunState:
    """The run's state, where at least one of its events can be read."""
    state = run.state()
    if not state.stages and not state.facts:
        data = run.store.read(entry.key) if (entry := run.store.stat(run.key("events.jsonl"))) else b""
        if b"\n" in data and not run.events()[0]:
            raise CorruptRecordError(
                f"run `{run.id}`: events.jsonl cannot be read: no line of it is an event",
                f"`tyard runs logs {run.id}` prints what its tasks wrote",
            )
    return state


def _environment(run: RunRecord, state: RunState) -> dict[str, Any] | None:
    """What the run's event says of its environment, and its record of the image that it is pinned to."""
    found = state.facts.get("environment")
    image = run.image() if run.job.in_image else None
    if image is None:
        return found
    pinned = {"image": image.image, "base": image.base, "lock_sha256": image.lock_sha256}
    return {"name": image.name, "hash": image.hash, "tensorflow": image.tensorflow, **(found or {}), **pinned}


def _at(seconds: Any) -> str | None:
    return utc(seconds) if isinstance(seconds, (int, float)) else None
