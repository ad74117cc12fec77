"""What head and nodes run at boot, as cloud-init writes it, against a metadata service that answers as documented."""

import getpass
import json
import os
import subprocess
from pathlib import Path

import pytest

from infra import node_config
from services.machine_metadata import Metadata, commands, script, start


def test_a_node_waits_for_its_name_and_starts_slurmd_by_it(metadata: Metadata, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    images = ("--images", str(tmp_path / "mnt" / "images"), "--user", getpass.getuser())
    options = ("--folder", str(folder), "--keep-hostname", "--share", "", *images)
    with start(metadata, script("worker", "tyard-node", tmp_path), *options) as node:
        assert metadata.looked.wait(300)
        assert not folder.exists()
        metadata.tags["slurm-node"] = "gpucluster-3"
        said = node.communicate(timeout=300)[1]

    assert node.returncode == 0
    assert (folder / "slurmd").read_text() == "SLURMD_OPTIONS=-b -N gpucluster-3 --conf-server 10.40.0.4:6817\n"
    assert (folder / "node").read_text() == "gpucluster-3\n"
    assert (tmp_path / "mnt" / "images").owner() == getpass.getuser()
    assert said.splitlines() == ["tyard-node: no name yet", "tyard-node: this machine is gpucluster-3"]
    # A slurmd that fails and starts again does not tell Slurm that the machine began anew: that would end its jobs.
    with start(metadata, tmp_path / "tyard-node", "--started", "--folder", str(folder)) as started:
        started.communicate(timeout=300)
    assert (folder / "slurmd").read_text() == "SLURMD_OPTIONS=-N gpucluster-3 --conf-server 10.40.0.4:6817\n"


@pytest.mark.parametrize("problem", [None, "no NVIDIA driver"])
def test_a_node_has_its_gpus_described_before_slurmd_starts(
    metadata: Metadata, tmp_path: Path, problem: str | None
) -> None:
    metadata.tags["slurm-node"] = "gpu-1"
    program = tmp_path / "bin" / "nvidia-ctk"
    program.parent.mkdir()
    ends = f"echo 'level=error\n{problem}' >&2; exit 1" if problem else 'echo "$*" > "${4#--output=}"'
    program.write_text(f"#!/bin/sh\n{ends}\n")
    program.chmod(0o755)
    folder = tmp_path / "run"
    options = ["--pause=0.01", "--folder", str(folder), "--keep-hostname", "--share=", "--user="]
    path = f"{program.parent}:{os.environ['PATH']}"
    with start(metadata, script("worker", "tyard-node", tmp_path), *options, PATH=path) as node:
        said = node.communicate()[1].splitlines()
    assert node.returncode == 0
    if problem:
        assert said == [f"tyard-node: no CDI file of GPUs: {problem}", "tyard-node: this machine is gpu-1"]
    else:
        asked = f"cdi generate --format=json --output={folder}/cdi/nvidia.json\n"
        assert (folder / "cdi" / "nvidia.json").read_text() == asked
    assert (folder / "slurmd").exists()


def test_a_metadata_service_that_is_late_is_waited_for(metadata: Metadata, tmp_path: Path) -> None:
    metadata.up = False
    metadata.tags["slurm-node"] = "gpucluster-1"
    options = ("--folder", str(tmp_path), "--keep-hostname", "--share", "", "--user", "")
    with start(metadata, script("worker", "tyard-node", tmp_path), *options) as node:
        assert metadata.looked.wait(300)
        metadata.up = True
        said = node.communicate(timeout=300)[1]

    assert said.splitlines() == [
        "tyard-node: not yet: HTTPError: HTTP Error 503: Service Unavailable",
        "tyard-node: this machine is gpucluster-1",
    ]


TOLD = {
    "workspace": "dev",
    "clientId": "the-client",
    "connect": {"name": "dev", "tenantId": "the-tenant", "clusters": {}},
    "nodesSubnet": "10.40.128.0/17",
    "share": None,
    "package": "tensoryard[azure]==0.1.0",
    "slurm": {"slurm.conf": "ClusterName=dev\n", "gres.conf": ""},
}


def head(metadata: Metadata, tmp_path: Path, what: str = "configure") -> list[str]:
    """Runs the head's script in a root of its own. Returns the commands that it gave."""
    # Told to, `scontrol reconfigure` fails once.
    refuse = f'[ "$1" != reconfigure ] || ! rm "{tmp_path}/refuse" 2>/dev/null'
    path = commands(tmp_path, systemctl="", scontrol=refuse, exportfs="", mount="")
    options = (what, "--root", str(tmp_path / "root"), "--users", "", "")
    with start(metadata, script("head", "tyard-head", tmp_path), *options, PATH=path) as configured:
        configured.communicate(timeout=300)
    assert configured.returncode == 0
    return (tmp_path / "ran").read_text().splitlines()


def test_a_head_becomes_what_its_workspace_says(metadata: Metadata, tmp_path: Path) -> None:
    metadata.told |= TOLD
    ran = head(metadata, tmp_path)
    root = tmp_path / "root"

    assert (root / "etc/slurm/slurm.conf").read_text() == "ClusterName=dev\n"
    assert (root / "etc/exports.d/tensoryard.exports").read_text() == (
        "/srv/tensoryard 10.40.128.0/17(rw,sync,no_subtree_check)\n"
    )
    settings = json.loads((root / "srv/tensoryard/.tensoryard/workspace.json").read_text())
    assert settings == {
        "name": "dev",
        "azure": TOLD["connect"],
        "node_images": node_config.NODE_IMAGES,
        "image_builder": "buildah",
    }
    assert "AZURE_CLIENT_ID=the-client" in (root / "etc/tensoryard/environment").read_text().splitlines()
    assert ran == [
        "systemctl start --no-block tyard-install.service",
        "systemctl try-restart tyard-controller.service",
        "exportfs -ra",
        "systemctl is-active --quiet slurmctld",
        "systemctl restart slurmctld",
        "scontrol ping",
        "scontrol reconfigure",
    ]


def installed(tmp_path: Path, package: str = "tensoryard[azure]==0.1.0") -> Path:
    """As if that package were there already."""
    marker = tmp_path / "root/opt/tensoryard/installed"
    marker.parent.mkdir(parents=True)
    marker.write_text(package)
    return marker


def test_a_head_that_runs_takes_up_what_pulumi_changed_and_nothing_else(metadata: Metadata, tmp_path: Path) -> None:
    metadata.told |= TOLD
    installed(tmp_path)
    head(metadata, tmp_path)
    assert head(metadata, tmp_path) == []
    metadata.told["slurm"] = {**TOLD["slurm"], "slurm.conf": "ClusterName=dev\nNodeName=gpucluster-[1-8]\n"}

    assert head(metadata, tmp_path) == [
        "systemctl is-active --quiet slurmctld",
        "systemctl restart slurmctld",
        "scontrol ping",
        "scontrol reconfigure",
    ]
    assert "gpucluster-[1-8]" in (tmp_path / "root/etc/slurm/slurm.conf").read_text()


def test_another_package_is_installed_without_a_reboot(metadata: Metadata, tmp_path: Path) -> None:
    metadata.told |= TOLD
    installed(tmp_path)
    head(metadata, tmp_path)
    metadata.told["package"] = "tensoryard[azure]==0.2.0"

    assert head(metadata, tmp_path) == ["systemctl start --no-block tyard-install.service"]


def test_a_share_takes_the_place_of_the_heads_own_disk(metadata: Metadata, tmp_path: Path) -> None:
    metadata.told |= {**TOLD, "share": "10.50.0.4:/export/runs"}
    ran = head(metadata, tmp_path)
    root = tmp_path / "root"

    # Before anything is written there.
    assert ran[0] == f"mount -t nfs -o hard,noatime,actimeo=1 10.50.0.4:/export/runs {root}/srv/tensoryard"
    assert (root / "etc/exports.d/tensoryard.exports").read_text() == ""
    assert "exportfs -ra" in ran


@pytest.mark.parametrize("share", [None, "10.50.0.4:/export/runs"])
def test_a_node_mounts_the_folder_of_runs_before_slurmd_starts(
    metadata: Metadata, tmp_path: Path, share: str | None
) -> None:
    """With names and sizes kept for a second: nodes look there whether a run was canceled, and write its logs."""
    metadata.tags["slurm-node"] = "gpucluster-1"
    metadata.told["share"] = share
    place, folder = tmp_path / "srv", tmp_path / "run"
    path = commands(tmp_path, mount=f"! ls {folder}/slurmd 2>/dev/null")
    options = ("--folder", str(folder), "--keep-hostname", "--share", str(place), "--user", "")
    with start(metadata, script("worker", "tyard-node", tmp_path), *options, PATH=path) as node:
        node.communicate(timeout=300)

    assert node.returncode == 0
    source = share or f"10.40.0.4:{place}"
    assert (tmp_path / "ran").read_text() == f"mount -t nfs -o hard,noatime,actimeo=1 {source} {place}\n"


def test_what_failed_is_done_again(metadata: Metadata, tmp_path: Path) -> None:
    """slurmctld may not answer yet when the nodes are to be told: they would never hear of it."""
    metadata.told |= TOLD
    head(metadata, tmp_path)
    metadata.told["slurm"] = {"slurm.conf": "ClusterName=dev\nNodeName=gpucluster-[1-8]\n"}
    (tmp_path / "refuse").touch()
    ran = head(metadata, tmp_path)

    assert ran.count("scontrol reconfigure") == 2
    assert ran.count("exportfs -ra") == 0


def test_tyard_is_installed_once(metadata: Metadata, tmp_path: Path) -> None:
    metadata.told |= TOLD
    marker = installed(tmp_path)
    head(metadata, tmp_path, "install")

    assert [*marker.parent.iterdir()] == [marker]


def test_tyard_is_installed_by_the_uv_that_was_locked(metadata: Metadata, tmp_path: Path) -> None:
    """As far as a machine without a way to Pythons gets: it tries again what comes next."""
    metadata.told |= TOLD
    tools = tmp_path / "root" / "opt" / "tensoryard" / "tools"
    options = ("install", "--root", str(tmp_path / "root"), "--users", "", "")
    environ = {"UV_PYTHON_INSTALL_MIRROR": (tmp_path / "nowhere").as_uri()}
    environ["http_proxy"] = os.environ.get("http_proxy", "")  # pip needs the one that is there
    with start(metadata, script("head", "tyard-head", tmp_path), *options, **environ) as installing:
        assert installing.stderr is not None
        said = [next(installing.stderr), next(installing.stderr)]
        installing.kill()

    assert said[0] == f"tyard-head: {tools}/uv.txt is new\n"
    assert f"not yet: OSError: {tools}/bin/uv venv" in said[1]
    known = subprocess.run([tools / "bin" / "uv", "--version"], capture_output=True, text=True, check=True).stdout
    locked = (Path(__file__).parents[2] / "requirements" / "uv.txt").read_text().split()[0]
    assert f"uv=={known.split()[1]}" == locked


def test_nothing_is_installed_where_no_package_is_named(metadata: Metadata, tmp_path: Path) -> None:
    metadata.told |= {**TOLD, "package": ""}

    assert "systemctl start --no-block tyard-install.service" not in head(metadata, tmp_path)


def test_slurms_programs_are_commands_of_tyard(tmp_path: Path) -> None:
    """Slurm starts them with the nodes' names and nothing else: no option, no environment."""
    from click.testing import CliRunner

    from tensoryard.cli.main import tyard

    for name in ("resume", "suspend", "fail"):
        text = script("head", f"tyard-{name}", tmp_path).read_text()
        words = [word.replace('"$1"', "gpu-1") for word in text.split("/bin/tyard ", 1)[1].split()]
        said = CliRunner().invoke(tyard, [*words, "--help"])
        assert said.exit_code == 0, said.output


def test_a_job_that_waits_for_its_nodes_asks_slurm_less_and_less_often(tmp_path: Path) -> None:
    """Its nodes are up after three minutes, by a clock that only `sleep` moves."""
    clock = tmp_path / "clock"
    programs = {
        "squeue": "echo CONFIGURING",
        "sinfo": f"""awk '{{ s += $1 }} END {{ exit s < 180 }}' {clock} && echo idle || echo idle#""",
        "sleep": f"echo $1 >>{clock}",
    }
    clock.touch()
    for name, line in programs.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{line}\n")
        (tmp_path / name).chmod(0o755)
    environ = {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "SLURM_JOB_ID": "7",
        "SLURM_JOB_NODELIST": "gpucluster-[1-2]",
    }
    subprocess.run(["sh", script("head", "tyard-job-start", tmp_path)], env=environ, check=True)
    pauses = [int(line) for line in clock.read_text().split()]
    assert pauses[:9] == [1] * 9
    assert pauses == sorted(pauses)
    assert len(pauses) < 60
