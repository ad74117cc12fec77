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
IMPORTS = (
    "from pulumi_azure_native import authorization, compute, containerregistry, keyvault, managedidentity, monitor, "
    "network, operationalinsights, privatedns, resources, storage; "
    "compute.VirtualMachineScaleSet, containerregistry.Registry, keyvault.Vault, managedidentity.UserAssignedIdentity, "
    "monitor.DiagnosticSetting, network.Subnet, operationalinsights.Workspace, resources.ResourceGroup, "
    "storage.StorageAccount, authorization.RoleAssignment"
)
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
        print(f"median of {TIMES}, each in a process of its own; peak memory is of the largest process")
        _row("import of azure-native's parts, nothing else", ["-c", IMPORTS])
        for clusters in (1, 10, 50):
            _row(f"program under mocks, {clusters} clusters", ["-c", DECLARE, str(clusters)])
        _row("review of stack dev", ["-m", "infra.review", "--stack=dev"])
        _row("review of all stacks", ["-m", "infra.review"])
        _row("review of stack dev against a base", ["-m", "infra.review", "--stack=dev", "--base=HEAD"], base)
        _row("review of all stacks against a base", ["-m", "infra.review", "--base=HEAD"], base)


def _row(what: str, words: list[str], cwd: Path = ROOT) -> None:
    """Runs once to warm up, which also writes bytecode, then prints the median and the peak."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    walls, peaks = [], []
    for _ in range(TIMES + 1):
        started = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, *words],
            cwd=cwd,
            env={**environment, "PYTHONPATH": str(cwd)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        _, said = process.communicate()
        walls.append(time.perf_counter() - started)
        assert process.returncode == 0, said.decode()
        peaks.append(_peak(words, cwd, environment) if not peaks else peaks[0])
    print(f"  {what:46} {statistics.median(walls[1:]):6.2f} s {peaks[0]:6.0f} MiB")


def _peak(words: list[str], cwd: Path, environment: dict[str, str]) -> float:
    """The most memory that one process of this command holds, in MiB: asked of the system by a process between."""
    code = (
        "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True, capture_output=True); "
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    argv = [sys.executable, "-c", code, sys.executable, *words]
    done = subprocess.run(
        argv, cwd=cwd, env={**environment, "PYTHONPATH": str(cwd)}, capture_output=True, text=True, check=True
    )
    return int(done.stdout) / 1024


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
