"""
From sbatch to a script's first line on nodes that are not there yet: a real Slurm, simulated nodes; as root.

    python tests/benchmarks/bench_slurm_resume.py [--turns 5] [--nodes 2]

Three clusters of the same Slurm, one after the other:

- by hand: programs of a few lines, that start a node's slurmd and kill it, as little as Slurm lets one write
- ours: `tyard node resume` and `suspend`, which ask the stand-in for Azure, and boot scripts that wait for a name
- ours without `tyard-job-start`: Slurm looks every 30 s whether the nodes of a job are up

Budget: 15 s beyond what Slurm takes by hand. What a machine on Azure takes to boot is in none of them.
"""

import argparse
import contextlib
import os
import statistics
import sys
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT)]

from infra.slurm_config import SlurmConfig  # noqa: E402
from services.slurm import SlurmCluster  # noqa: E402
from services.slurm_cloud import CloudCluster  # noqa: E402

# The names go to whoever starts and kills the nodes' namespaces: a pipe that this process reads.
BY_HAND = """#!/bin/sh
for name in $(scontrol show hostnames "$1"); do echo "{what} $name"; done > {pipe}
"""


class ByHand(CloudCluster):
    """The cloud cluster's Slurm with programs that say which nodes are to start and to go, and nothing else."""

    def _lay_out(self) -> None:
        super()._lay_out()
        pipe = self.folder / "asked"
        os.mkfifo(pipe)
        for what in ("resume", "suspend"):
            text = BY_HAND.format(what=what, pipe=pipe)
            text = text.replace("\n", f"\nexport SLURM_CONF={self.conf}\n", 1)
            (self.folder / "programs" / what).write_text(text)
        self.node_runs = 'exec slurmd -D -b -N "$2" -f "$4"'
        threading.Thread(target=self._obey, args=(pipe,), daemon=True).start()

    def _obey(self, pipe: Path) -> None:
        os.open(pipe, os.O_RDWR)  # never without a writer, so that it never ends
        with pipe.open() as asked:
            for line in asked:
                what, name = line.split()
                self._work.put(lambda what=what, name=name: self._boot(name) if what == "resume" else self._end(name))

    def _config(self, head: str, addresses: list[str], gpu: Path) -> SlurmConfig:
        return replace(super()._config(head, addresses, gpu), job_start_program=None)


class WithoutJobStart(CloudCluster):
    """Ours, where Slurm looks by itself whether nodes are up."""

    def _config(self, head: str, addresses: list[str], gpu: Path) -> SlurmConfig:
        return replace(super()._config(head, addresses, gpu), job_start_program=None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--nodes", type=int, default=2)
    given = parser.parse_args()
    kinds: list[tuple[str, type[CloudCluster]]] = [
        ("by hand", ByHand),
        ("ours", CloudCluster),
        ("ours without tyard-job-start", WithoutJobStart),
    ]
    for words, kind in kinds:
        cluster = kind(given.nodes)
        try:
            with tempfile.TemporaryDirectory() as work:
                turns = [from_zero(cluster, Path(work), given.nodes) for _ in range(given.turns)]
        finally:
            cluster.close()
        ups, firsts = zip(*turns, strict=True)
        each = ", ".join(f"{up:.1f} and {first:.1f}" for up, first in turns)
        print(f"{words}: nodes up after {statistics.median(ups):.1f} s, first line after ", end="")
        print(f"{statistics.median(firsts):.1f} s (medians of {each})", flush=True)


def from_zero(cluster: SlurmCluster, work: Path, nodes: int) -> tuple[float, float]:
    """Seconds from sbatch until Slurm has heard of all nodes, and until the script's first line."""
    while any("POWERED_DOWN" not in line for line in nodes_of(cluster)):
        time.sleep(0.2)
    out = work / "out"
    began = time.time()
    cluster.run("sbatch", f"--nodes={nodes}", f"--output={out}", "--wrap=date +%s.%N")
    up = 0.0
    while True:
        if not up and all("POWER" not in line and "NOT_RESPONDING" not in line for line in nodes_of(cluster)):
            up = time.time()
        with contextlib.suppress(OSError, ValueError):
            first = float(out.read_text())
            break
        time.sleep(0.1)
    out.unlink()
    return (up or first) - began, first - began


def nodes_of(cluster: SlurmCluster) -> list[str]:
    return [line for line in cluster.run("scontrol", "--oneliner", "show", "nodes").splitlines() if line]


if __name__ == "__main__":
    main()
