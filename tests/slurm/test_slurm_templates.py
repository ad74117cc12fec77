"""The job folders of `tyard init` on several nodes of a real Slurm: TensorFlow's and Horovod's real processes."""

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from launching import wait_until
from services.slurm import SlurmCluster


def tyard(*arguments: str, cwd: Path) -> str:
    argv = [sys.executable, "-m", "tensoryard", *arguments]
    done = subprocess.run(argv, cwd=cwd, capture_output=True, text=True, timeout=900, env=dict(os.environ))
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize(("kind", "nodes"), [("horovod", 2), ("parameter_server", 3)])
def test_a_template_trains_over_several_nodes(slurm: SlurmCluster, tmp_path: Path, kind: str, nodes: int) -> None:
    (tmp_path / ".tensoryard").mkdir()
    tyard("data", "fetch", "digits", cwd=tmp_path)
    tyard("init", "job", "--kind", kind, "--data", "digits", cwd=tmp_path)
    fields = ("script_params.--epochs=2", f"node_count={nodes}", "process_count_per_node=null")
    changes = [word for field in (*fields, "compute_target.slurm.partition=main") for word in ("--set", field)]
    tyard("run", "job", *changes, cwd=tmp_path)
    shown = json.loads(tyard("runs", "show", "latest", "--json", cwd=tmp_path))
    assert shown["stage"] == "Completed"
    assert len(shown["metrics"]["accuracy"]) == 2
    hosts = {
        json.loads(path.read_text())["host"]
        for path in tmp_path.glob(".tensoryard/runs/*/tasks/*.json")
        if ".started" not in path.name
    }
    assert hosts == set(slurm.names[:nodes])
    wait_until(lambda: at_work_in(tmp_path) == [], "the controller has ended, as Slurm is done with the job")


def at_work_in(folder: Path) -> list[str]:
    """The processes whose folder it is."""
    found = []
    for place in Path("/proc").glob("[0-9]*/cwd"):
        with contextlib.suppress(OSError):  # of a process that is gone
            if place.readlink().is_relative_to(folder):
                found.append(place.parent.name)
    return found
