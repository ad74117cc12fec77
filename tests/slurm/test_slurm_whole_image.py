"""
A job that says nothing of where it runs, on a cluster of the workspace: in an image, from its build to a model.

Real: the command line, the controller on the head, blob storage's protocol (Azurite), buildah, the registry over
HTTPS, Slurm, the programs that start and stop its nodes, what nodes pull. Stand-ins: Azure's compute service,
namespaces of this computer as machines; for Docker Hub's image of Python a base of Debian's packages in the registry;
an index whose TensorFlow is empty.
"""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli_runner import Tyard
from launching import wait_until
from services.base_image import push_image
from services.certificates import certificate_files
from services.oci_registry import OciRegistry
from services.package_index import PackageIndex
from services.slurm_cloud import CloudCluster
from tensoryard.environment.spec import environment_spec, recipe

TRAINS = """
import importlib.metadata, json, os, pathlib, sys
from tensoryard import Run
task, name = os.environ["TYARD_TASK"], sys.argv[-1]
workers = json.loads(os.environ["TF_CONFIG"])["cluster"]["worker"]
version = importlib.metadata.version(name)
print(task, "of", len(workers), "on", os.uname().nodename, sys.prefix, version, open("/etc/this-is").read().strip())
if task == "worker-0":
    Run.get_context().log("workers", len(workers))
    pathlib.Path("outputs/model").mkdir()
    pathlib.Path("outputs/model/weights").write_text("trained")
"""
CONTROLLER = """
import sys
from tensoryard.cli.main import main
from tensoryard.environment import image_inputs
base = sys.argv.pop()
image_inputs.default_base = lambda python: base
main()
"""


@pytest.fixture
def cloud() -> Iterator[CloudCluster]:
    cluster = CloudCluster(2, resume_timeout_s=300)
    yield cluster
    cluster.close()


@pytest.fixture
def registry(
    cloud: CloudCluster, cli: Tyard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[OciRegistry]:
    """The workspace's registry, on the network of the nodes."""
    address = str(cloud.network.network_address + 1)
    (tmp_path / "registry").mkdir()
    tls = certificate_files(tmp_path / "registry", address)
    trusted = tmp_path / "trusted.pem"
    trusted.write_bytes(tls[0].read_bytes() + Path(cli.environ["SSL_CERT_FILE"]).read_bytes())
    cli.environ["SSL_CERT_FILE"] = str(trusted)
    monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
    registry = OciRegistry(tmp_path / "registry", address=address, tls=tls)
    yield registry
    registry.close()


@pytest.fixture
def tensorflow(cli: Tyard) -> Iterator[str]:
    """The name of the one package of a plain environment, which is in an index of its own."""
    (wanted,) = recipe(environment_spec(way="single")).base
    name, _, version = wanted.partition("==")
    index = PackageIndex({name: version.replace("*", "0")})
    cli.environ["UV_DEFAULT_INDEX"] = index.url
    yield name
    index.close()


@pytest.mark.parametrize("cli", ["blob"], indirect=True)
def test_a_run_has_its_image_built_its_nodes_made_and_the_next_one_finds_the_image(
    cloud: CloudCluster,
    cli: Tyard,
    registry: OciRegistry,
    tensorflow: str,
    base_layers: list[bytes],
    tmp_path: Path,
) -> None:
    base = f"{registry.host}/base:12"
    push_image(base, base_layers)
    settings = cli.workspace / "workspace.json"
    said = json.loads(settings.read_text())
    of_the_cloud = json.loads((cloud.folder / "workspace" / "workspace.json").read_text())["azure"]
    said["azure"]["clusters"] = of_the_cloud["clusters"]
    said |= {"image_registry": registry.host, "node_images": str(cloud.folder / "tmp" / "images")}
    settings.write_text(json.dumps(said))
    job = {"compute_target": "node", "distributed_training": "multi_worker_mirrored", "node_count": 2}
    job |= {"framework_version": "2.21", "python_version": "3.11", "script_params": {"--package": tensorflow}}
    cli.job(TRAINS, **job)

    def controller(head: str) -> "subprocess.Popen[bytes]":
        environ = {**cli.environ, "SLURM_CONF": str(cloud.conf), "TYARD_CACHE": str(tmp_path / "cache" / head)}
        argv = [sys.executable, "-c", CONTROLLER, "controller", base]
        silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        return subprocess.Popen(argv, cwd=cli.folder, env=environ, **silent)

    head = controller("head")
    said_first = cli("run")
    head.terminate()
    assert head.wait() == 0
    run = cli.record("job-0001")
    assert re.search(r"building image \w{16} \(tensorflow-2.21\) on .*/base:12$", said_first, re.MULTILINE)
    assert re.search(r"pushing image \w{16} to .*/tensoryard/environments:\w{16}$", said_first, re.MULTILINE)
    assert f"resume node-[1-2] for job {run.slurm_job()}" in cloud.log
    # What nodes pull is counted, each of them once, and that is no time of Running.
    assert sorted(re.findall(r"launch \| (node-\d): unpacking \d of \d layers", said_first)) == cloud.names
    scaling = said_first[said_first.index("\nPreparing ") : said_first.index("\nScaling ")]
    assert re.search(r"Scaling: image: node-\d [\d.]+ \w?B of [\d.]+ MB", scaling)
    for task, node in zip(("worker-0", "worker-1"), cloud.names, strict=True):
        assert run.log_tail(task) == [f"{task} of 2 on {node} /opt/environment 2.21.0 the base"]
    image = run.image()
    assert image is not None
    assert image.image.startswith(f"{registry.host}/tensoryard/environments@sha256:")

    # Another head, which has nothing but what the workspace and its registry have.
    another = controller("another-head")
    said_again = cli("run")
    again = cli.record("job-0002")
    digest = image.image.rpartition(":")[2]
    assert f"preparing | image {digest[:12]} in {registry.host}: reused\n" in said_again
    assert "locking" not in said_again
    assert "building" not in said_again
    # Only nodes that were let go meanwhile, as idle, and made anew have it to pull.
    assert ("unpacking" in said_again) == bool(re.search(rf"for job {again.slurm_job()}\b", cloud.log))
    assert again.image() == image
    assert cli("models", "register", "weights", "--run", "2", "--path", "outputs/model") == "weights:1\n"
    assert [(one.state().stage, one.metrics()["workers"]) for one in (run, again)] == [("Completed", 2)] * 2
    wait_until(lambda: not cloud.azure.nodes and not cloud.up, "the nodes are gone")
    assert "error" not in cloud.log
    another.terminate()
    assert another.wait() == 0
