"""How a run ended, from what its tasks left: the first that failed, by name, with the end of its log."""

from typing import Any, NamedTuple

from tensoryard.run import RunRecord

_SIGNALS = {
    "SIGKILL": "the kernel sends it when memory runs out",
    "SIGSEGV": "a fault in native code",
    "SIGBUS": "a fault in native code, or /dev/shm or the disk is full",
    "SIGILL": "an instruction this CPU does not have",
    "SIGABRT": "native code gave up",
}


class Verdict(NamedTuple):
    """stage: Completed, Failed or Canceled; facts: task, host, exit_code, signal, log, as far as known."""

    stage: str
    reason: str | None
    facts: dict[str, Any]


def verdict(run: RunRecord) -> Verdict:
    """The verdict on a run whose tasks are over."""
    tasks = [task.name for task in run.job.tasks()]
    results = run.task_results()
    end = run.end()
    well = [name for name, result in results.items() if result.get("exit_code") == 0 and not result.get("stopped")]
    if end is not None and end["outcome"] == "completed":
        return Verdict("Completed", None, {})
    if len(well) == len(tasks):
        return Verdict("Completed", None, {})
    if end is not None and end["outcome"] == "canceled":
        return Verdict("Canceled", "canceled by request", {})
    if end is not None and end.get("task"):
        return _task_failed(run, end)
    ended_badly = [name for name in tasks if name in results and name not in well]
    tail = run.log_tail("launch")
    if ended_badly:
        return _task_failed(run, {"task": ended_badly[0], **results[ended_badly[0]]})
    missing = [name for name in tasks if name not in results]
    return Verdict(
        "Failed",
        f"the launch script ended before {_some(missing)} had; its own words are in logs/launch.log",
        {"log": tail},
    )


def _task_failed(run: RunRecord, end: dict[str, Any]) -> Verdict:
    name = end["task"]
    facts = {key: end[key] for key in ("task", "host", "exit_code", "signal") if end.get(key) is not None}
    if end.get("reason"):
        how = f": {end['reason']}"
    elif end.get("signal"):
        meaning = _SIGNALS.get(end["signal"])
        how = f" was ended by {end['signal']}" + (f" ({meaning})" if meaning else "")
    else:
        how = f" exited with code {end.get('exit_code')}"
    return Verdict("Failed", f"{name} on {end.get('host', '?')}{how}", facts | {"log": run.log_tail(name)})


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
