"""
Runs on a run's first node before its tasks: one attempt of a run that Slurm may start more than once.

    python attempt.py      in the launch script of a Slurm job; exit code 1: there is nothing for this job to do

A job that Slurm puts back into its queue, because a node was lost or was wanted by others, runs the same script
again. What the last attempt recorded is set aside, unless it decided the run for good. Of two jobs that were
submitted for one run, as happens when a controller dies at the wrong moment, the first to start has it.
Standard library only; it needs no controller.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time


def main() -> int:
    run_dir = os.environ["TYARD_RUN_DIR"]
    job, restart = os.environ["SLURM_JOB_ID"], os.environ.get("SLURM_RESTART_COUNT", "0")
    launch = os.path.join(run_dir, "launch")
    attempts = os.path.join(launch, "attempts")
    os.makedirs(attempts, exist_ok=True)
    owner = claim(os.path.join(launch, "job"), job)
    if owner != job:
        print(f"attempt.py: the run belongs to job {owner}; this one, {job}, ends", file=sys.stderr)
        return 1
    earlier = sorted(name for name in os.listdir(attempts) if name.endswith(".began"))
    if earlier:
        if is_decided(run_dir):
            print("attempt.py: the run was decided in an earlier attempt", file=sys.stderr)
            return 1
        set_aside(run_dir, os.path.join(attempts, str(len(earlier))))
    elif os.path.exists(os.path.join(launch, "end.json")):
        return 1  # canceled before it began
    hosts = os.environ.get("TYARD_HOSTS", "").split(",")
    write_hostfile(launch, hosts)
    facts = {"job": job, "restart": int(restart), "host": os.uname().nodename, "hosts": hosts, "at": time.time()}
    put(os.path.join(attempts, f"{job}.{restart}.began"), json.dumps(facts))
    return 0


def claim(path: str, job: str) -> str:
    """The job that has the run: this one, when there was none."""
    draft = f"{path}.{job}"
    with open(draft, "w", encoding="utf-8") as file:
        file.write(job)
    with contextlib.suppress(FileExistsError):
        os.link(draft, path)
    os.unlink(draft)
    with open(path, encoding="utf-8") as file:
        return file.read()


def is_decided(run_dir: str) -> bool:
    """
    Whether the run's outcome stands, whatever happens to its nodes.

    A task that failed, or was stopped, may have done so because a node was lost.
    """
    try:
        with open(os.path.join(run_dir, "launch", "end.json"), encoding="utf-8") as file:
            end = json.load(file)
    except (OSError, ValueError):
        return False
    return end.get("outcome") in ("completed", "canceled") or (end.get("outcome") == "failed" and "task" not in end)


def set_aside(run_dir: str, folder: str) -> None:
    """Move what tasks have recorded of an attempt into a folder of its own."""
    os.makedirs(folder, exist_ok=True)
    tasks = os.path.join(run_dir, "tasks")
    for path in (
        *(os.path.join(tasks, name) for name in os.listdir(tasks)),
        os.path.join(run_dir, "launch/end.json"),
    ):
        with contextlib.suppress(FileNotFoundError):
            os.replace(path, os.path.join(folder, os.path.basename(path)))


def write_hostfile(launch: str, hosts: list[str]) -> None:
    """launch/hostfile: for srun the host of every task, in the order of the layout."""
    with open(os.path.join(launch, "layout.json"), encoding="utf-8") as file:
        tasks = json.load(file)["tasks"]
    if hosts and len(hosts) > max(task["node"] for task in tasks):
        put(os.path.join(launch, "hostfile"), "".join(f"{hosts[task['node']]}\n" for task in tasks))


def put(path: str, text: str) -> None:
    """Write a file that is seen whole or not at all."""
    with open(f"{path}.draft", "w", encoding="utf-8") as file:
        file.write(text)
    os.replace(f"{path}.draft", path)


if __name__ == "__main__":
    sys.exit(main())
