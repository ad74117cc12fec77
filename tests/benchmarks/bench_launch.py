"""
How long from the command to the script's first line, and from its last line to the prompt.

    python tests/benchmarks/bench_launch.py [--repeats 15]

One script in one environment, started directly, by `tyard run`, by torchx's local_cwd and by submitit's
LocalExecutor, all as whole processes, taking turns so that a busy moment meets them all.
Budget: `tyard run` at most 0.150 s over starting the script directly, and at most 0.3 s from its end to the prompt.
"""

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from uv import find_uv_bin

from tensoryard.environment.spec import environment_spec
from tensoryard.environment.venv import VenvBuilder

SCRIPT = (
    'import time\nprint("FIRST", time.time(), flush=True)\ntime.sleep(0.1)\nprint("LAST", time.time(), flush=True)\n'
)
SUBMITIT = """\
import submitit, subprocess
executor = submitit.LocalExecutor(folder="../submitit-logs")
job = executor.submit(subprocess.run, [{python!r}, "train.py"], capture_output=True, text=True)
print(job.result().stdout)
"""
RIVALS = ["torchx==0.7.0", "submitit==1.5.4", "setuptools<81"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=15)
    repeats = parser.parse_args().repeats
    python = VenvBuilder().ensure(environment_spec(way="single"), print).python
    with tempfile.TemporaryDirectory() as work:
        folder, rivals = Path(work) / "job", Path(work) / "rivals"
        folder.mkdir()
        (folder / "train.py").write_text(SCRIPT)
        (folder / "job.yaml").write_text("experiment: bench\nentry_script: train.py\n")
        (folder / ".tensoryard").mkdir()
        (folder / "rival.py").write_text(SUBMITIT.format(python=python))
        uv = find_uv_bin()
        subprocess.run([uv, "venv", "-q", "--python", sys.executable, rivals], check=True)
        subprocess.run(
            [uv, "pip", "install", "-q", "--compile-bytecode", "--python", rivals / "bin/python", *RIVALS], check=True
        )
        tyard = shutil.which("tyard", path=str(Path(sys.executable).parent)) or "tyard"
        torchx = [str(rivals / "bin/torchx"), "run", "-s", "local_cwd", "--wait", "--log", "utils.python"]
        commands: dict[str, list[str]] = {
            "directly": [python, "train.py"],
            "tyard run": [tyard, "run", "job.yaml"],
            "torchx local_cwd": [*torchx, "--script", "train.py"],
            "submitit LocalExecutor": [str(rivals / "bin/python"), "rival.py"],
        }
        show(measure(commands, folder, repeats), repeats)


def measure(commands: dict[str, list[str]], folder: Path, repeats: int) -> dict[str, tuple[list[float], list[float]]]:
    """Seconds to the first line and from the last line to the prompt, by command."""
    times: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in commands}
    for turn in range(repeats + 1):
        for name, argv in commands.items():
            started = time.time()
            done = subprocess.run(argv, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            ended = time.time()
            if done.returncode or "LAST" not in done.stdout:
                raise SystemExit(f"{name} failed:\n{done.stdout}")
            if turn:  # the first turn fills caches
                times[name][0].append(stamp(done.stdout, "FIRST") - started)
                times[name][1].append(ended - stamp(done.stdout, "LAST"))
    return times


def stamp(text: str, word: str) -> float:
    return float(text.partition(word)[2].split()[0])


def show(times: dict[str, tuple[list[float], list[float]]], repeats: int) -> None:
    direct = statistics.median(times["directly"][0])
    print(f"{'median of ' + str(repeats):24} {'first line':>12} {'over direct':>12} {'prompt back':>12}")
    for name, (first, last) in times.items():
        start = statistics.median(first)
        print(f"{name:24} {start:10.3f} s {start - direct:10.3f} s {statistics.median(last):10.3f} s")


if __name__ == "__main__":
    main()
