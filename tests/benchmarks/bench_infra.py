"""
Declaring the workspace program and reviewing it. Budgets: program 2 s, review 3 s, 300 MiB, linear in the clusters.

    python tests/benchmarks/bench_infra.py

Beside it, as a reference, plain imports of the parts of `pulumi_azure_native` that the program uses: no program that
declares the same could start faster.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
TIMES = 3
PARTS = {
    "authorization": "RoleAssignment",
    "compute": "VirtualMachineScaleSet",
    "containerregistry": "Registry",
    "keyvault": "Vault",
    "managedidentity": "UserAssignedIdentity",
    "monitor": "DiagnosticSetting",
    "network": "Subnet",
    "operationalinsights": "Workspace",
    "privatedns": "PrivateZone",
    "resources": "ResourceGroup",
    "storage": "StorageAccount",
}
# Naming a class is what loads its module: the package itself is lazy.
IMPORTS = f"from pulumi_azure_native import {', '.join(PARTS)}; " + "; ".join(f"{m}.{c}" for m, c in PARTS.items())
DECLARE = """
import gc, sys
gc.disable()
from pathlib import Path
from infra.review.declare import declare
clusters = [{"name": f"gpu{number}", "maxNodes": 1} for number in range(int(sys.argv[1]))]
print(len(declare(Path.cwd(), "dev", {"clusters": clusters})), file=sys.stderr)
"""


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder) / "base"
        _base_checkout(base)
        print(
            f"median and least of {TIMES}, each in its own process; least CPU of all processes, peak of the largest"
        )
        _row("import of azure-native's parts, nothing else", ["-c", IMPORTS])
        for clusters in (1, 10, 50):
            _row(f"program under mocks, {clusters} clusters", ["-c", DECLARE, str(clusters)])
        _row("review of stack dev", ["-m", "infra.review", "--stack=dev"])
        _row("review of all stacks", ["-m", "infra.review"])
        _row("review of stack dev against a base", ["-m", "infra.review", "--stack=dev", "--base=HEAD"], base)
        _row("review of all stacks against a base", ["-m", "infra.review", "--base=HEAD"], base)


def _row(what: str, words: list[str], cwd: Path = ROOT) -> None:
    """Runs once to warm up, which also writes bytecode, then prints medians and the peak."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    walls, cpus, peaks = [], [], []
    for _ in range(TIMES + 1):
        with tempfile.TemporaryFile() as said:
            started = time.perf_counter()
            process = subprocess.Popen(
                [sys.executable, *words],
                cwd=cwd,
                env={**environment, "PYTHONPATH": str(cwd)},
                stdout=subprocess.DEVNULL,
                stderr=said,
            )
            # Counts the base's process too: its time is added, and the larger of the two peaks is told.
            _, status, used = os.wait4(process.pid, 0)
            walls.append(time.perf_counter() - started)
            said.seek(0)
            assert status == 0, said.read().decode()
        process.returncode = 0
        cpus.append(used.ru_utime + used.ru_stime)
        peaks.append(used.ru_maxrss / 1024)
    wall, cpu = statistics.median(walls[1:]), min(cpus[1:])
    print(
        f"  {what:46} {wall:6.2f} s (least {min(walls[1:]):5.2f}, CPU {cpu:5.2f}) {max(peaks):6.0f} MiB", flush=True
    )


def _base_checkout(folder: Path) -> None:
    """A repository of its own with this program: the checkout here may hold none of it yet, or be no repository."""
    folder.mkdir()
    for part in ("infra", "stacks", "templates", "Pulumi.yaml"):
        subprocess.run(["cp", "-r", str(ROOT / part), str(folder)], check=True)
    git = ["git", "-C", str(folder), "-c", "user.name=bench", "-c", "user.email=bench@example.org"]
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, "add", "."], check=True)
    subprocess.run([*git, "commit", "-qm", "base"], check=True)


if __name__ == "__main__":
    main()
