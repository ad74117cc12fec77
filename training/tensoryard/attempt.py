"""
Runs on a run's first node before its tasks: one attempt of a run that Slurm may start more than once.

    python attempt.py begin       in the launch script of a Slurm job; exit code 1: this job has nothing to do
    python attempt.py end CODE    when the script ends, with this exit code

A job that Slurm puts back into its queue, because a node was lost or was wanted by others, runs the same script
again. What the last attempt recorded is set aside, unless it decided the run for good. Of two jobs that were
submitted for one run, as happens when a controller dies at the wrong moment, the first to start has it.
Standard library only; it needs no controller.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def main(argv: list[str]) -> int:
    run_dir = os.environ["TYARD_RUN_DIR"]
    job = os.environ["SLURM_JOB_ID"]
    if argv[0] == "begin":
        return begin(run_dir, job)
    kill_what_is_left(run_dir, job)
    mark = own_mark(os.path.join(run_dir, "launch", "attempts"), job)
    if mark is not None:
        put(f"{mark}.ended", argv[1])
    return 0


def begin(run_dir: str, job: str) -> int:
    """The exit code of `begin`."""
    launch = os.path.join(run_dir, "launch")
    attempts = os.path.join(launch, "attempts")
    os.makedirs(attempts, exist_ok=True)
    owner = claim(os.path.join(launch, "job"), job)
    if owner != job:
        print(f"attempt.py: the run belongs to job {owner}; this one, {job}, ends", file=sys.stderr)
        return 1
    earlier = [name for name in os.listdir(attempts) if name.endswith(".began")]
    if earlier:
        if is_decided(run_dir):
            print("attempt.py: the run was decided in an earlier attempt", file=sys.stderr)
            return 1
        set_aside(run_dir, os.path.join(attempts, str(len(earlier))))
    elif os.path.exists(os.path.join(launch, "end.json")):
        return 1  # canceled before it began
    hosts = os.environ.get("TYARD_HOSTS", "").split(",")
    with open(os.path.join(launch, "layout.json"), encoding="utf-8") as file:
        layout = json.load(file)
    write_hostfile(launch, layout["tasks"], hosts)
    put(os.path.join(launch, "addresses.json"), json.dumps(addresses(hosts) if layout["tf_config"] else {}))
    # Not SLURM_RESTART_COUNT: slurmctld forgets what it had not saved when it died, and counts anew.
    restart = len(marks_of(attempts, job))
    facts = {"job": job, "restart": restart, **whose_script(), "hosts": hosts, "at": time.time()}
    put(os.path.join(attempts, f"{job}.{restart}.began"), json.dumps(facts))
    return 0


def marks_of(attempts: str, job: str) -> list[str]:
    """Paths of the marks of all attempts of a job, less their endings."""
    names = (name.removesuffix(".began") for name in os.listdir(attempts) if name.endswith(".began"))
    return [os.path.join(attempts, name) for name in names if name.startswith(f"{job}.")]


def whose_script() -> dict[str, Any]:
    """What tells one attempt's script from that of another, which may end after this one began."""
    return {"host": os.uname().nodename, "script": os.getppid()}


def own_mark(attempts: str, job: str) -> str | None:
    """The mark of the attempt that this script began, less its ending."""
    for mark in marks_of(attempts, job):
        with contextlib.suppress(OSError, ValueError), open(f"{mark}.began", "rb") as file:
            if whose_script().items() <= json.load(file).items():
                return mark
    return None


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
    Whether the run's outcome stands, so that Slurm's starting it again means nothing.

    It does so after a restart of its own that lost what it knew last, too.
    """
    end = recorded_end(run_dir)
    if end.get("outcome") in ("completed", "canceled") or (end.get("outcome") == "failed" and "task" not in end):
        return True
    attempts = os.path.join(run_dir, "launch", "attempts")
    marks = [os.path.join(attempts, name) for name in os.listdir(attempts) if name.endswith(".began")]
    last = max(marks, key=os.path.getmtime).removesuffix(".began")
    return os.path.exists(f"{last}.ended") and is_settled(run_dir)


def is_settled(run_dir: str) -> bool:
    """
    Whether what the tasks recorded says all: one began, none vanished, and none was stopped from outside.

    Else it may be that a node was lost, or that Slurm has put the job back into its queue.
    """
    names = {name for name in os.listdir(os.path.join(run_dir, "tasks")) if name.endswith(".json")}
    started = {name for name in names if name.endswith(".started.json")}
    vanished = [name for name in started if name.replace(".started", "") not in names]
    end = recorded_end(run_dir)
    return bool(names or end) and not vanished and end.get("outcome") != "stopped"


def recorded_end(run_dir: str) -> dict[str, Any]:
    """launch/end.json; empty when there is none."""
    launch = os.path.join(run_dir, "launch")
    with contextlib.suppress(OSError, ValueError):
        os.listdir(launch)  # else NFS may go on for a minute to say that it is not there
        with open(os.path.join(launch, "end.json"), "rb") as file:
            return dict(json.load(file))
    return {}


def set_aside(run_dir: str, folder: str) -> None:
    """Move what tasks have recorded of an attempt into a folder of its own."""
    os.makedirs(folder, exist_ok=True)
    tasks = os.path.join(run_dir, "tasks")
    for path in (
        *(os.path.join(tasks, name) for name in os.listdir(tasks)),
        os.path.join(run_dir, "launch", "end.json"),
    ):
        with contextlib.suppress(FileNotFoundError):
            os.replace(path, os.path.join(folder, os.path.basename(path)))


def write_hostfile(launch: str, tasks: list[dict[str, Any]], hosts: list[str]) -> None:
    """launch/hostfile: for srun the host of every task, in the order of the layout."""
    if hosts and len(hosts) > max(task["node"] for task in tasks):
        put(os.path.join(launch, "hostfile"), "".join(f"{hosts[task['node']]}\n" for task in tasks))


def addresses(hosts: list[str]) -> dict[str, str]:
    """
    Under which address Slurm itself reaches each host, where not all of their names lead anywhere; else nothing.

    Machines that are made for jobs are in no DNS under the names of their nodes. Each may know its own all the same.
    """
    import socket  # not above, nor what follows: a script that needs none of it starts sooner
    import subprocess

    try:
        for host in hosts:
            socket.getaddrinfo(host, None)
        return {}
    except OSError:
        pass
    try:
        argv = ["scontrol", "--oneliner", "show", "node", ",".join(hosts)]
        said = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=True).stdout
    except (OSError, subprocess.SubprocessError) as error:
        print(f"attempt.py: addresses of {', '.join(hosts)}: {error}", file=sys.stderr)
        return {}
    nodes = (dict(word.partition("=")[::2] for word in line.split()) for line in said.splitlines())
    return {node["NodeName"]: node["NodeAddr"] for node in nodes if "NodeAddr" in node}


def kill_what_is_left(run_dir: str, job: str) -> None:
    """
    End what the attempt started on this node and is still there, such as the srun that mpirun had for a lost node.

    Slurm does so by control groups, but not every cluster has them.
    """
    marks = {f"TYARD_RUN_DIR={run_dir}".encode(), f"SLURM_JOB_ID={job}".encode()}
    ours = ancestors()
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError), open(f"/proc/{name}/environ", "rb") as file:
            if int(name) not in ours and marks <= set(file.read().split(b"\0")):
                os.kill(int(name), signal.SIGKILL)


def ancestors() -> set[int]:
    """This process and all that it descends from."""
    found, pid = set(), os.getpid()
    while pid > 0:
        found.add(pid)
        try:
            with open(f"/proc/{pid}/stat", "rb") as file:
                pid = int(file.read().rpartition(b")")[2].split()[1])
        except OSError:
            break
    return found


def put(path: str, text: str) -> None:
    """Write a file that is seen whole or not at all."""
    with open(f"{path}.draft", "w", encoding="utf-8") as file:
        file.write(text)
    os.replace(f"{path}.draft", path)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
