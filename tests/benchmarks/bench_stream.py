"""
The client's peak memory while it shows a log of 1 GiB. Budget: 100 MiB.

    python tests/benchmarks/bench_stream.py [--mib 1024]

Once as lines of 100 bytes, once as a single line; beside it submitit, which hands over a finished job's log
as one string.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from uv import find_uv_bin

SCRIPT = """\
import os, sys
data = (b"x" * 99 + (b"\\n" if sys.argv[1] == "lines" else b"x")) * 10486
for _ in range(int(sys.argv[2])):
    os.write(1, data)
"""
SUBMITIT = """\
import submitit, subprocess, sys
executor = submitit.LocalExecutor(folder="submitit-logs")
job = executor.submit(subprocess.run, [sys.executable, "train.py", "lines", sys.argv[1]], check=True)
job.result()
print(job.stdout())
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mib", type=int, default=1024)
    mib = parser.parse_args().mib
    tyard = shutil.which("tyard", path=str(Path(sys.executable).parent)) or "tyard"
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work)
        (folder / ".tensoryard").mkdir()
        (folder / "train.py").write_text(SCRIPT)
        (folder / "job.yaml").write_text("experiment: bench\nentry_script: train.py\n")
        (folder / "rival.py").write_text(SUBMITIT)
        rivals = folder / "rivals"
        uv = find_uv_bin()
        subprocess.run([uv, "venv", "-q", "--python", sys.executable, rivals], check=True)
        subprocess.run(
            [uv, "pip", "install", "-q", "--compile-bytecode", "--python", rivals / "bin/python", "submitit==1.5.4"],
            check=True,
        )
        run = [tyard, "run", "job.yaml", "--set"]
        print(f"a log of {mib} MiB")
        for shape in ("lines", "one-line"):
            peak(f"tyard run, {shape}", [*run, f"script_params={{{shape}: null, '{mib}': null}}"], folder)
        peak("submitit, lines", [str(rivals / "bin/python"), "rival.py", str(mib)], folder)


def peak(name: str, argv: list[str], folder: Path) -> None:
    started = time.perf_counter()
    process = subprocess.Popen(argv, cwd=folder, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    took = time.perf_counter() - started
    print(f"  {name:22} peak {usage.ru_maxrss / 1024:7.0f} MiB   {took:6.1f} s   exit {status >> 8}", flush=True)


if __name__ == "__main__":
    main()
