"""The job folders of `tyard init` on several nodes of a real Slurm: TensorFlow's and Horovod's real processes."""

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from launching import wait_until
from services.slurm import SlurmCluster


def tyard(*arguments: str, cwd: Path) -> str:
    argv = [sys.executable, "-m", "tensoryard", *arguments]
    done = subprocess.run(argv, cwd=cwd, capture_output=True, text=True, timeout=900, env=dict(os.environ))
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def trains(folder: Path, kind: str, nodes: int, *fields: str) -> dict[str, Any]:
    """The record of a run of a template, which has trained for two epochs on the digits; its nodes under `hosts`."""
    (folder / ".tensoryard").mkdir(exist_ok=True)
    tyard("data", "fetch", "digits", cwd=folder)
    tyard("init", kind, "--kind", kind, "--data", "digits", cwd=folder)
    fields = ("script_params.--epochs=2", f"node_count={nodes}", "process_count_per_node=null", *fields)
    changes = [word for field in (*fields, "compute_target.slurm.partition=main") for word in ("--set", field)]
    print(tyard("run", kind, *changes, cwd=folder))
    shown: dict[str, Any] = json.loads(tyard("runs", "show", "latest", "--json", cwd=folder))
    assert shown["stage"] == "Completed"
    assert len(shown["metrics"]["accuracy"]) == 2
    tasks = folder.glob(f".tensoryard/runs/{shown['id']}/tasks/*.json")
    hosts = {json.loads(path.read_text())["host"] for path in tasks if ".started" not in path.name}
    return {**shown, "hosts": hosts}


@pytest.fixture(autouse=True)
def _no_controller_is_left(tmp_path: Path) -> Any:
    yield
    wait_until(lambda: at_work_in(tmp_path) == [], "the controller has ended, as Slurm is done with the job")


def test_a_template_trains_over_two_nodes(slurm: SlurmCluster, tmp_path: Path) -> None:
    """That of Horovod: TensorFlow takes 20 s of processor time for parameter servers, which are tried below."""
    assert trains(tmp_path, "horovod", 2)["hosts"] == set(slurm.names[:2])


def test_horovod_and_parameter_servers_train_in_one_image(
    slurm: SlurmCluster, kept_registry: str, tmp_path: Path
) -> None:
    """Of the lock and the Horovod that other tests have; built by the first run of them, found by later ones."""
    (tmp_path / ".tensoryard").mkdir()
    (tmp_path / ".tensoryard" / "workspace.json").write_text(json.dumps({"image_registry": kept_registry}))
    of_horovod = trains(tmp_path, "horovod", 2, f"base_image={kept_registry}/base:openmpi")
    assert of_horovod["hosts"] == set(slurm.names[:2])
    assert of_horovod["environment"]["base"].startswith(f"{kept_registry}/base@sha256:")
    image = of_horovod["environment"]["image"]
    of_servers = trains(tmp_path, "parameter_server", 3, f"image={image}", "pip_requirements_file=null")
    assert (of_servers["hosts"], of_servers["environment"]["image"]) == (set(slurm.names), image)


def at_work_in(folder: Path) -> list[str]:
    """The processes whose folder it is."""
    found = []
    for place in Path("/proc").glob("[0-9]*/cwd"):
        with contextlib.suppress(OSError):  # of a process that is gone
            if place.readlink().is_relative_to(folder):
                found.append(place.parent.name)
    return found
