"""Where jobs run in images unasked, and where nodes keep images of their own."""

import json
from pathlib import Path
from typing import Any

import pytest

from tensoryard.job import Job
from tensoryard.slurm_target import SlurmOptions, SlurmTarget
from tensoryard.target_images import node_images, with_runtime
from tensoryard.workspace import Workspace

AZURE = {
    "name": "dev",
    "subscriptionId": "11111111-1111-1111-1111-111111111111",
    "tenantId": "22222222-2222-2222-2222-222222222222",
    "location": "eastus",
    "resourceGroup": "dev",
    "storageAccount": "dev",
    "blobEndpoint": "https://dev.blob.core.windows.net/",
    "containers": {"data": "data", "runs": "runs", "models": "models"},
    "registry": {"name": "dev", "loginServer": "dev.azurecr.io"},
    "vault": {"name": "dev", "uri": "https://dev.vault.azure.net/"},
    "head": {"name": "head", "privateAddress": "10.40.0.4"},
    "clusters": {
        "gpucluster": {
            "vmSize": "Standard_NC4as_T4_v3",
            "maxNodes": 4,
            "spot": True,
            "scaleSet": "gpucluster",
            "gpuCount": 1,
            "gpuModel": "NVIDIA T4",
            "vcpu": 4,
            "memoryGib": 28,
        }
    },
}


def workspace(folder: Path, **settings: Any) -> Workspace:
    (folder / "workspace.json").write_text(json.dumps(settings))
    return Workspace(folder)


def runtime(ws: Workspace, **fields: Any) -> str | None:
    return with_runtime(ws, Job(experiment="a", source_directory=".", entry_script="train.py", **fields)).runtime


def test_clusters_of_the_workspace_run_images_unless_the_job_asks(tmp_path: Path) -> None:
    ws = workspace(tmp_path, azure=AZURE)
    assert runtime(ws, compute_target="gpucluster") == "image"
    assert runtime(ws, compute_target="gpucluster", runtime="venv") == "venv"
    # What describes an image is one already; conda's packages go into no image.
    assert runtime(ws, compute_target="gpucluster", base_image="python:3.11") is None
    assert runtime(ws, compute_target="gpucluster", conda_packages=("ffmpeg",)) is None


def test_laptops_and_plain_clusters_run_virtual_environments(tmp_path: Path) -> None:
    ws = workspace(tmp_path, azure=AZURE)
    assert runtime(ws) is None
    assert runtime(ws, compute_target=SlurmTarget(SlurmOptions(partition="gpu"))) is None
    assert runtime(workspace(tmp_path), compute_target="gpucluster") is None


@pytest.mark.parametrize(
    ("settings", "target", "found"),
    [
        ({"azure": AZURE, "node_images": "/mnt/images"}, "gpucluster", "/mnt/images"),
        ({"image_registry": "r.example.org/team", "node_images": "/mnt/images"}, "slurm", "/mnt/images"),
        ({"azure": AZURE, "node_images": "/mnt/images"}, "local", ""),
        ({"azure": AZURE}, "gpucluster", ""),
        ({"node_images": "/mnt/images"}, "slurm", ""),
        ({"image_registry": "127.0.0.1:5000", "node_images": "/mnt/images"}, "slurm", ""),
    ],
)
def test_nodes_pull_from_a_registry_that_they_reach(
    tmp_path: Path, settings: dict[str, Any], target: str, found: str
) -> None:
    assert node_images(workspace(tmp_path, **settings), target) == found
