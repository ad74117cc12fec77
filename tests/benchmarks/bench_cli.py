"""
How long the command line takes to answer, as a whole process. Budget: 100 ms for help and completion.

    python tests/benchmarks/bench_cli.py

Run ids are completed in a workspace of 1,000 runs. Beside it: Python starting, and the help of rival clients
installed in an environment of their own.
"""

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from uv import find_uv_bin

REPEATS = 20
RUNS = 1_000
RIVALS = ["torchx==0.7.0", "setuptools<81", "mlflow-skinny==3.17.2"]


def main() -> None:
    tyard = shutil.which("tyard", path=str(Path(sys.executable).parent)) or "tyard"
    completion = {"_TYARD_COMPLETE": "bash_complete", "COMP_WORDS": "tyard ru", "COMP_CWORD": "1"}
    with tempfile.TemporaryDirectory() as work:
        workspace = Path(work) / "workspace"
        for number in range(1, RUNS + 1):
            (workspace / "runs" / f"mnist-{number:04d}").mkdir(parents=True)
        asked = {"COMP_WORDS": "tyard runs show mnist-", "COMP_CWORD": "3", "TYARD_WORKSPACE": str(workspace)}
        run_ids = {"_TYARD_COMPLETE": "bash_complete", **asked}
        offered = subprocess.run(
            [tyard], env={**os.environ, **run_ids}, stdout=subprocess.PIPE, text=True, check=True
        )
        assert offered.stdout.startswith(f"plain,mnist-{RUNS}\n"), offered.stdout
        rivals = Path(work) / "rivals"
        uv = find_uv_bin()
        subprocess.run([uv, "venv", "-q", "--python", sys.executable, rivals], check=True)
        subprocess.run(
            [uv, "pip", "install", "-q", "--compile-bytecode", "--python", rivals / "bin/python", *RIVALS], check=True
        )
        cases: dict[str, tuple[list[str], dict[str, str]]] = {
            "python -c pass": ([sys.executable, "-c", "pass"], {}),
            "tyard --help": ([tyard, "--help"], {}),
            "tyard, complete a command": ([tyard], completion),
            f"tyard, a run id of {RUNS:,}": ([tyard], run_ids),
            "torchx --help": ([str(rivals / "bin/torchx"), "--help"], {}),
            "mlflow --help": ([str(rivals / "bin/mlflow"), "--help"], {}),
        }
        print(f"{'whole process, of ' + str(REPEATS):28} {'min':>9} {'median':>9}")
        for name, (argv, extra) in cases.items():
            times = seconds(argv, extra)
            print(f"{name:28} {min(times) * 1000:6.0f} ms {statistics.median(times) * 1000:6.0f} ms")


def seconds(argv: list[str], extra: dict[str, str]) -> list[float]:
    times = []
    for turn in range(REPEATS + 2):
        started = time.perf_counter()
        subprocess.run(argv, env={**os.environ, **extra}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        if turn > 1:  # the first two fill the byte code and file caches
            times.append(time.perf_counter() - started)
    return times


if __name__ == "__main__":
    main()
