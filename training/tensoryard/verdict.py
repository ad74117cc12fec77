"""How a run ended, from what its tasks left: the first that failed, by name, with the end of its log."""

from typing import Any, NamedTuple

from tensoryard.end_record import is_full
from tensoryard.run import RunRecord

LEFT_NO_RESULT = "it left no result: its supervisor was killed, or the machine went down"

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


def verdict(run: RunRecord, said: str | None = None) -> Verdict:
    """
    The verdict on a run whose tasks are over.

    said: what the scheduler ended it for. What a task failed of itself, before, weighs more.
    """
    tasks = [task.name for task in run.job.tasks()]
    results = run.task_results()
    end = run.end()
    outcome = end.get("outcome")
    well = [name for name, result in results.items() if result.get("exit_code") == 0 and not result.get("stopped")]
    if outcome == "completed" or len(well) == len(tasks):
        return Verdict("Completed", None, {})
    if outcome == "canceled":
        return Verdict("Canceled", "canceled by request", {})
    if outcome == "failed":
        return _task_failed(run, end) if end.get("task") else Verdict("Failed", end.get("reason"), {})
    if said:
        first = next((name for name in tasks if name in run.started_tasks()), None)
        return Verdict("Failed", said, {"log": run.log_tail(first)} if first else {})
    # Before what was stopped: who stops the others because one is gone, as mpirun does, says nothing of that one.
    vanished = {name: facts for name, facts in run.started_tasks().items() if name not in results}
    if vanished and not results and len(tasks) > 1:
        reason = "no task left a result: what launched them was killed, or the machine went down" + _full(run)
        return Verdict("Failed", f"{reason}; see logs/launch.log", {"log": run.log_tail("launch")})
    if vanished:
        name, facts = next(iter(vanished.items()))
        return _task_failed(run, {"task": name, "host": facts.get("host"), "reason": LEFT_NO_RESULT + _full(run)})
    if outcome == "stopped" and end.get("task"):
        return _task_failed(run, end | {"reason": f"it was stopped by {end.get('signal')} from outside"})
    ended_badly = [name for name in tasks if name in results and name not in well]
    if ended_badly:
        return _task_failed(run, {"task": ended_badly[0], **results[ended_badly[0]]})
    missing = [name for name in tasks if name not in results]
    return Verdict(
        "Failed",
        f"the launch script ended before {_some(missing)} began; its own words are in logs/launch.log" + _full(run),
        {"log": run.log_tail("launch")},
    )


def _full(run: RunRecord) -> str:
    """What to add to a failure that nobody could write down."""
    folder = run.store.local_path(run.key(""))
    return f"; no space left on the disk that holds {folder}" if folder and is_full(str(folder)) else ""


def _task_failed(run: RunRecord, end: dict[str, Any]) -> Verdict:
    name = end["task"]
    host = end.get("host") or "a node"
    facts = {key: end[key] for key in ("task", "host", "exit_code", "signal") if end.get(key) is not None}
    if end.get("reason"):
        how = f": {end['reason']}"
    elif end.get("signal"):
        meaning = _SIGNALS.get(end["signal"])
        how = f" was ended by {end['signal']}" + (f" ({meaning})" if meaning else "")
    else:
        how = f" exited with code {end.get('exit_code')}"
    return Verdict("Failed", f"{name} on {host}{how}", facts | {"log": run.log_tail(name)})


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
