"""
What Tensoryard adds to Slurm, on a real one of three simulated nodes on this machine; as root.

    python tests/benchmarks/bench_slurm.py [--repeats 9] [--runs 200] [--waiting 1000] [--files 100000]

- from `tyard run` to a job that sbatch took, environment cached (budget 1 s)
- from the start of the batch script to train.py's first line, beside an sbatch script written by hand (budget 0.3 s)
- so many runs queued at once and seen to their end: squeue calls (budget: one a poll), the controller's peak memory
- the controller's memory with so many runs that wait (budget 150 MiB with 1,000)
- a run that leaves so many small outputs, and how long they take to list
"""

import argparse
import json
import os
import re
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
    given = parser.parse_args()
    cluster = SlurmCluster()
    os.environ |= {"SLURM_CONF": str(cluster.conf), "PATH": cluster.environ["PATH"]}
    try:
        with tempfile.TemporaryDirectory() as work:
            # Slurm looks at a queue that was empty for long in its own time.
            cluster.run("srun", "true")
            accepted_and_first_line(Path(work), cluster, given.repeats)
            many(Path(work), cluster, given.runs)
            waiting(Path(work), cluster, given.waiting)
            many_files(Path(work), given.files)
    finally:
        cluster.close()


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


def many(work: Path, cluster: SlurmCluster, count: int) -> None:
    (work / "many").mkdir()
    yard = Yard(work / "many")
    target = SlurmTarget(SlurmOptions(skip_directives=("exclusive", "mem")))
    began = time.monotonic()
    for _ in range(count):
        yard.submit("open('outputs/done', 'w').write('x')", compute_target=target)
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


def waiting(work: Path, cluster: SlurmCluster, count: int) -> None:
    (work / "waiting").mkdir()
    yard = Yard(work / "waiting")
    cluster.run("scontrol", "update", "partition=main", "state=down")
    for _ in range(count):
        yard.submit("pass", compute_target=ON_SLURM)
    process = yard.start_controller()
    began = time.monotonic()
    wait_until(lambda: len(cluster.jobs()) == count, "all jobs wait")
    took = time.monotonic() - began
    time.sleep(10)
    cluster.forget_asked()
    before = cpu_s(process.pid)
    time.sleep(30)
    used = (cpu_s(process.pid) - before) / 30
    memory = memory_kib(process.pid, "VmRSS") >> 10
    print(
        f"{count} runs that wait: submitted in {took:.1f} s; controller {memory} MiB, {used:.0%} of a core, ", end=""
    )
    print(f"{cluster.asked().get('REQUEST_JOB_INFO', 0)} squeue in 30 s", flush=True)
    process.kill()
    process.join()
    cluster.run("scancel", "--user=root")
    cluster.run("scontrol", "update", "partition=main", "state=up")
    cluster.wait_until_idle()


def many_files(work: Path, count: int) -> None:
    (work / "files").mkdir()
    yard = Yard(work / "files")
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
