"""
What Tensoryard adds to Slurm, on a real one of three simulated nodes on this machine; as root.

    python tests/benchmarks/bench_slurm.py [--repeats 9] [--runs 200] [--waiting 1000] [--files 100000] [--blob]

- from `tyard run` to a job that sbatch took, environment cached (budget 1 s)
- from the start of the batch script to train.py's first line, beside an sbatch script written by hand (budget 0.3 s)
- so many runs queued at once and seen to their end: squeue calls (budget: one a poll), the controller's peak memory
- the controller's memory with so many runs that wait (budget 150 MiB with 1,000)
- a run that leaves so many small outputs, and how long they take to list

With --blob the runs are kept on blob storage, as those of a workspace on Azure are: Azurite, behind a proxy that
counts the requests. The first two are of a folder all the same, where the command line needs no sign-in. 0 leaves one
out.
"""

import argparse
import json
import multiprocessing
import os
import re
import secrets
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT)]

from launching import Yard, wait_until  # noqa: E402
from services.slurm import SlurmCluster  # noqa: E402
from tensoryard.environment.spec import environment_spec  # noqa: E402
from tensoryard.environment.venv import VenvBuilder  # noqa: E402
from tensoryard.slurm_target import SlurmOptions, SlurmTarget  # noqa: E402
from tensoryard.store import Store  # noqa: E402
from tensoryard.targets import queue_name  # noqa: E402

# Seconds since the batch script began: by its process, the one whose parent is slurmstepd.
FIRST_LINE = """
import os, time
now, pid = time.clock_gettime(time.CLOCK_BOOTTIME), os.getpid()
def stat(pid):
    with open(f"/proc/{pid}/stat") as file:
        name, _, rest = file.read().partition("(")[2].rpartition(")")
    return name, rest.split()
while stat(stat(pid)[1][1])[0] != "slurmstepd":
    pid = int(stat(pid)[1][1])
print("SINCE", now - int(stat(pid)[1][19]) / os.sysconf("SC_CLK_TCK"), flush=True)
"""
ON_SLURM = SlurmTarget(SlurmOptions())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--waiting", type=int, default=1000)
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--blob", action="store_true")
    given = parser.parse_args()
    cluster = SlurmCluster()
    blob = Blob() if given.blob else None
    os.environ |= {"SLURM_CONF": str(cluster.conf), "PATH": cluster.environ["PATH"]}
    try:
        with tempfile.TemporaryDirectory() as work:
            # Slurm looks at a queue that was empty for long in its own time.
            cluster.run("srun", "true")
            if given.repeats:
                accepted_and_first_line(Path(work), cluster, given.repeats)
            if given.runs:
                many(a_yard(Path(work) / "many", blob), cluster, given.runs)
            if given.waiting:
                waiting(a_yard(Path(work) / "waiting", blob), cluster, given.waiting, blob)
            if given.files:
                many_files(a_yard(Path(work) / "files", blob), given.files)
    finally:
        cluster.close()
        if blob:
            blob.close()


class Blob:
    """An emulator, and a proxy before it that counts what is asked."""

    def __init__(self) -> None:
        from services.azurite import Azurite
        from services.faulty import Faulty

        self._emulator = Azurite()
        self.network = Faulty(self._emulator.endpoint)

    def store(self) -> Store:
        """An empty one."""
        from azure.core.credentials import AzureNamedKeyCredential
        from azure.storage.blob import BlobServiceClient

        from services.azurite import ACCOUNT, KEY
        from tensoryard.settings import AzureContainers
        from tensoryard.store.blob import BlobStore
        from tensoryard.store.blob_account import API_VERSION, BlobAccount

        word, credential = secrets.token_hex(4), AzureNamedKeyCredential(ACCOUNT, KEY)
        names = {kind: f"{kind}-{word}" for kind in ("data", "runs", "models")}
        with BlobServiceClient(self._emulator.endpoint, credential, api_version=API_VERSION) as service:
            for name in names.values():
                service.create_container(name)
        endpoint = self.network.endpoint
        return BlobStore(BlobAccount(endpoint=endpoint, containers=AzureContainers(**names), credential=credential))

    def close(self) -> None:
        self.network.close()
        self._emulator.close()


def a_yard(folder: Path, blob: Blob | None) -> Yard:
    folder.mkdir()
    return Yard(folder, blob.store() if blob else None)


def submit(yard: Yard, count: int, script: str, target: SlurmTarget) -> None:
    """
    Queue so many runs, by another process.

    The controller is forked from this one, and obstore cannot be used in what is forked from a process that used it.
    """

    def work() -> None:
        for _ in range(count):
            yard.submit(script, compute_target=target)

    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    process.join()
    assert process.exitcode == 0
    yard.target = queue_name(target)


def accepted_and_first_line(work: Path, cluster: SlurmCluster, repeats: int) -> None:
    job = work / "job"
    (job / ".tensoryard").mkdir(parents=True)
    (job / "train.py").write_text(FIRST_LINE)
    (job / "job.yaml").write_text("experiment: bench\nentry_script: train.py\ncompute_target: {slurm: {}}\n")
    python = VenvBuilder().ensure(environment_spec(way="single"), print).python
    by_hand = job / "by-hand.sh"
    by_hand.write_text(f"#!/bin/bash\n#SBATCH --exclusive --wait --output={work}/by-hand.out\n{python} train.py\n")
    tyard = [sys.executable, "-m", "tensoryard", "run"]
    accepted, ours, theirs = [], [], []
    for turn in range(repeats + 1):
        began = time.time()
        said = subprocess.run(tyard, cwd=job, capture_output=True, text=True, check=True).stdout
        run = job / ".tensoryard" / "runs" / said.split()[1]
        at = json.loads((run / "launch" / "slurm.json").read_text())["submitted_at"]
        subprocess.run(["sbatch", str(by_hand)], cwd=job, capture_output=True, check=True)
        if turn:  # the first fills caches
            accepted.append(at - began)
            ours.append(number(said, "SINCE"))
            theirs.append(number((work / "by-hand.out").read_text(), "SINCE"))
    print(f"`tyard run` to accepted by sbatch, median of {repeats}: {statistics.median(accepted):.2f} s")
    print(f"batch script to first line: tyard {statistics.median(ours):.3f} s, ", end="")
    print(f"by hand {statistics.median(theirs):.3f} s", flush=True)


def many(yard: Yard, cluster: SlurmCluster, count: int) -> None:
    target = SlurmTarget(SlurmOptions(skip_directives=("exclusive", "mem")))
    began = time.monotonic()
    submit(yard, count, "open('outputs/done', 'w').write('x')", target)
    queued = time.monotonic() - began
    cluster.forget_asked()
    began = time.monotonic()
    process = yard.start_controller()
    peak = 0
    while process.is_alive():
        peak = max(peak, memory_kib(process.pid, "VmHWM"))
        time.sleep(0.1)
    took = time.monotonic() - began
    asked = cluster.asked()
    print(f"{count} runs: queued in {queued:.1f} s, all ended in {took:.1f} s; sbatch", end=" ")
    print(
        f"{asked['REQUEST_SUBMIT_BATCH_JOB']}, squeue {asked['REQUEST_JOB_INFO']} times, {peak >> 10} MiB", flush=True
    )


def waiting(yard: Yard, cluster: SlurmCluster, count: int, blob: Blob | None) -> None:
    cluster.run("scontrol", "update", "partition=main", "state=down")
    submit(yard, count, "pass", ON_SLURM)
    process = yard.start_controller()
    began = time.monotonic()
    wait_until(lambda: len(cluster.jobs()) == count, "all jobs wait")
    took = time.monotonic() - began
    time.sleep(10)
    cluster.forget_asked()
    if blob:
        blob.network.again(lambda asked: None)
    before = cpu_s(process.pid)
    time.sleep(30)
    used = (cpu_s(process.pid) - before) / 30
    memory = memory_kib(process.pid, "VmRSS") >> 10
    print(
        f"{count} runs that wait: submitted in {took:.1f} s; controller {memory} MiB, {used:.0%} of a core, ", end=""
    )
    requests = f", {len(blob.network.seen)} requests to the store" if blob else ""
    print(f"{cluster.asked().get('REQUEST_JOB_INFO', 0)} squeue{requests} in 30 s", flush=True)
    process.kill()
    process.join()
    cluster.run("scancel", "--user=root")
    cluster.run("scontrol", "update", "partition=main", "state=up")
    cluster.wait_until_idle()


def many_files(yard: Yard, count: int) -> None:
    run = yard.run(f"for n in range({count}): open(f'outputs/{{n}}', 'x').close()", compute_target=ON_SLURM)
    seconds = {span.stage: span.seconds for span in run.state().stages}
    listed = run.outputs()
    assert listed is not None
    assert len(listed.files) == count
    written, listed_in = (seconds.get(stage, 0.0) for stage in ("Running", "Post-processing"))
    print(f"{count} outputs: written in {written:.1f} s, listed in {listed_in:.1f} s", flush=True)


def number(text: str, word: str) -> float:
    found = re.search(rf"{word} ([\d.]+)", text)
    assert found, text
    return float(found[1])


def memory_kib(pid: int | None, name: str) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith(name)), 0)


def cpu_s(pid: int | None) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
