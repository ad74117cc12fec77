"""
What head and nodes boot with: checked by cloud-init and systemd themselves, and the script run against both services.

Needs tools/cloud-init and `systemd-analyze` (tools/system-packages installs it); without them the tests fail.
"""

import base64
import http.server
import json
import os
import shutil
import socketserver
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import jinja2
import pytest
import yaml

from infra import node_config
from infra.node_config import Kind

ROOT = Path(__file__).parents[2]
KINDS: tuple[Kind, ...] = ("head", "worker")
DAEMONS = {"head": "slurmctld", "worker": "slurmd"}


def files(kind: Kind) -> dict[str, dict[str, Any]]:
    return {file["path"]: file for file in yaml.safe_load(node_config.cloud_config(kind))["write_files"]}


@pytest.mark.parametrize("kind", KINDS)
def test_cloud_init_takes_it(kind: Kind, tmp_path: Path) -> None:
    path = tmp_path / f"{kind}.yaml"
    path.write_text(node_config.cloud_config(kind))
    said = subprocess.run(
        [ROOT / "tools" / "cloud-init", "schema", "-c", path],
        env={**os.environ, "PYTHON": sys.executable},
        capture_output=True,
        text=True,
    )

    assert said.returncode == 0, said.stdout + said.stderr


@pytest.mark.parametrize("kind", KINDS)
def test_systemd_takes_its_units(kind: Kind, tmp_path: Path) -> None:
    """In a root of their own, beside plain units under the names that the packages give theirs."""
    root, own = tmp_path / "root", Path("usr/lib/systemd/system")
    (root / own).mkdir(parents=True)
    for target in Path("/", own).glob("*.target"):
        shutil.copy(target, root / own, follow_symlinks=True)
    programs = {name: f"/usr/sbin/{run}" for name, run in (("munge", "munged"), (DAEMONS[kind], DAEMONS[kind]))}
    for name, run in {**programs, "tyard": "/opt/tensoryard/bin/tyard"}.items():
        (root / own / f"{name}.service").write_text(
            f"[Unit]\nConditionPathExists=/etc/slurm/slurm.conf\n[Service]\nExecStart={run} $SLURMD_OPTIONS\n"
        )
        (root / run[1:]).parent.mkdir(parents=True, exist_ok=True)
        (root / run[1:]).write_text("#!/bin/sh\n")
        (root / run[1:]).chmod(0o755)
    for path, file in files(kind).items():
        (root / path[1:]).parent.mkdir(parents=True, exist_ok=True)
        (root / path[1:]).write_text(file["content"])
        (root / path[1:]).chmod(int(file.get("permissions", "0644"), 8))
    # What Slurm's own units ask of a machine, a node has not: it gets its settings from the head.
    own_units = [path.rpartition("/")[2] for path in files(kind) if path.endswith((".service", ".timer"))]
    units = [*own_units, "munge.service", f"{DAEMONS[kind]}.service"]
    said = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", f"--root={root}", *units], capture_output=True, text=True
    )

    assert (said.returncode, said.stdout, said.stderr) == (0, "", "")


@pytest.mark.parametrize("kind", KINDS)
def test_slurm_waits_for_munge_and_munge_for_its_key(kind: Kind) -> None:
    """After a reboot too: systemd starts them in this order, or not at all."""
    found = files(kind)
    key = found["/etc/systemd/system/tyard-munge-key.service"]["content"]
    munge = found["/etc/systemd/system/munge.service.d/tensoryard.conf"]["content"]
    daemon = found[f"/etc/systemd/system/{DAEMONS[kind]}.service.d/tensoryard.conf"]["content"]

    assert "Before=munge.service" in key.splitlines()
    assert {"Requires=tyard-munge-key.service", "After=tyard-munge-key.service"} <= set(munge.splitlines())
    assert {"Requires=munge.service", "After=munge.service"} <= set(daemon.splitlines())
    enabled = [step for step in yaml.safe_load(node_config.cloud_config(kind))["runcmd"] if "enable" in step]
    assert {"tyard-munge-key.service", "munge.service", f"{DAEMONS[kind]}.service"} <= {
        unit for step in enabled for unit in step
    }


@pytest.mark.parametrize("kind", KINDS)
def test_users_without_root_may_make_and_enter_images(kind: Kind) -> None:
    config = yaml.safe_load(node_config.cloud_config(kind))

    # The dash: no error where the kernel has no such setting.
    assert "-kernel.apparmor_restrict_unprivileged_userns=0" in (
        files(kind)["/etc/sysctl.d/60-tensoryard.conf"]["content"].splitlines()
    )
    assert ["systemctl", "restart", "systemd-sysctl.service"] in config["runcmd"]
    assert ({"buildah", "uidmap"} <= set(config["packages"])) == (kind == "head")


def test_nodes_build_images_only_where_jobs_are_to() -> None:
    plain, builds = (yaml.safe_load(node_config.cloud_config("worker", builds)) for builds in (False, True))
    head = yaml.safe_load(node_config.cloud_config("head"))
    added = [package for package in builds["packages"] if package not in plain["packages"]]
    steps = [step for step in builds["runcmd"] if step not in plain["runcmd"]]

    assert added == ["buildah", "uidmap", "fuse-overlayfs"]
    assert {key: value for key, value in builds.items() if key not in ("packages", "runcmd")} == {
        key: value for key, value in plain.items() if key not in ("packages", "runcmd")
    }
    assert [step[2].partition(" || ")[2] for step in steps] == ["usermod -v 100000-165535 -w 100000-165535 tyard"]
    assert [step for step in head["runcmd"] if step in steps] == steps
    assert node_config.custom_data("worker", True) != node_config.custom_data("worker")


def test_only_the_head_makes_the_key() -> None:
    unit = "/etc/systemd/system/tyard-munge-key.service"

    assert "ExecStart=/usr/local/sbin/tyard-munge-key --make" in files("head")[unit]["content"].splitlines()
    assert "ExecStart=/usr/local/sbin/tyard-munge-key --wait" in files("worker")[unit]["content"].splitlines()


def test_a_misspelled_name_in_a_template_is_an_error() -> None:
    with pytest.raises(jinja2.UndefinedError):
        node_config.templates().from_string("{{ pakages }}").render()


def test_too_much_user_data_is_refused_before_azure_does() -> None:
    node_config.user_data({"a": "b" * 65000})
    with pytest.raises(ValueError, match="65536"):
        node_config.user_data({"a": "b" * 65536})


class Services(http.server.BaseHTTPRequestHandler):
    """The metadata service and a vault on one port, with the answers that Azure documents."""

    server: "Cloud"

    def answer(self, status: int, body: Any) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        query = {key: values[0] for key, values in parse_qs(url.query).items()}
        self.server.asked.append(f"GET {url.path}")
        if url.path.startswith("/metadata/"):
            if self.headers["Metadata"] != "true":
                self.answer(400, {"error": "Required metadata header not specified"})
            elif url.path.endswith("/userData"):
                self.answer(200, base64.b64encode(json.dumps(self.server.facts).encode()))
            elif query["resource"] != "https://vault.azure.net" or query["client_id"] != "the-client":
                self.answer(400, {"error": "invalid_request"})
            else:
                self.answer(200, {"access_token": "a-token"})
        elif self.headers["Authorization"] != "Bearer a-token" or not self.server.role_arrived:
            self.answer(403, {"error": {"code": "Forbidden"}})
        elif self.server.secret is None:
            self.answer(404, {"error": {"code": "SecretNotFound"}})
        else:
            self.answer(200, {"value": self.server.secret})

    def do_PUT(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append(f"PUT {urlsplit(self.path).path}")
        self.server.secret = body["value"]
        self.answer(200, body)

    def log_message(self, *_: Any) -> None:
        pass


class Cloud(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Services)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.facts = {"clientId": "the-client", "vaultUri": f"{self.url}/", "mungeSecret": "munge-key"}
        self.secret: str | None = None
        self.role_arrived = True
        self.asked: list[str] = []


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    with Cloud() as cloud:
        thread = threading.Thread(target=cloud.serve_forever, args=(0.01,))
        thread.start()
        yield cloud
        cloud.shutdown()
        thread.join()


def start(cloud: Cloud, folder: Path, option: str) -> subprocess.Popen[str]:
    """Starts the script as its unit does, on this machine."""
    folder.mkdir(exist_ok=True)
    script = folder / "tyard-munge-key"
    script.write_text(files("head")["/usr/local/sbin/tyard-munge-key"]["content"])
    command = [sys.executable, "-I", str(script), option, "--pause", "0.01", "--owner", ""]
    # A proxy of the network must not see what is meant for the metadata service.
    return subprocess.Popen(
        [*command, "--metadata", cloud.url, "--key", str(folder / "munge.key")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "http_proxy": "http://127.0.0.1:9", "no_proxy": "127.0.0.1"},
    )


def fetch(cloud: Cloud, folder: Path, option: str) -> tuple[str, str]:
    """Runs it to its end. Returns what it said."""
    with start(cloud, folder, option) as script:
        said = script.communicate(timeout=300)
    assert script.returncode == 0
    return said


def test_the_head_makes_the_key_once_and_nodes_get_the_same(cloud: Cloud, tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("head", "again", "node")]
    for folder, option in zip(folders, ("--make", "--make", "--wait"), strict=True):
        assert fetch(cloud, folder, option) == ("", "")
    keys = {(folder / "munge.key").read_bytes() for folder in folders}

    assert [len(key) for key in keys] == [128]
    assert [call for call in cloud.asked if call.startswith("PUT")] == ["PUT /secrets/munge-key"]
    assert stat.S_IMODE((folders[0] / "munge.key").stat().st_mode) == 0o400


def test_a_key_from_the_package_is_replaced(cloud: Cloud, tmp_path: Path) -> None:
    cloud.secret = base64.b64encode(b"k" * 128).decode()
    (tmp_path / "munge.key").write_bytes(b"made when munge was installed")
    (tmp_path / "munge.key.new").write_bytes(b"left by a boot that was cut off")
    fetch(cloud, tmp_path, "--wait")

    assert (tmp_path / "munge.key").read_bytes() == b"k" * 128
    assert not (tmp_path / "munge.key.new").exists()


def test_a_node_faster_than_the_head_waits_for_it(cloud: Cloud, tmp_path: Path) -> None:
    """Were it to end without the key, systemd would start neither munge nor slurmd when it is tried again."""
    with start(cloud, tmp_path / "node", "--wait") as node:
        assert node.stderr is not None
        assert node.stderr.readline() == "tyard-munge-key: not yet: HTTPError: HTTP Error 404: Not Found\n"
        assert not (tmp_path / "node" / "munge.key").exists()
        fetch(cloud, tmp_path / "head", "--make")
        assert (node.communicate(timeout=300), node.returncode) == (("", ""), 0)

    assert (tmp_path / "node" / "munge.key").read_bytes() == (tmp_path / "head" / "munge.key").read_bytes()


def test_a_head_whose_role_is_on_its_way_makes_no_key_before(cloud: Cloud, tmp_path: Path) -> None:
    cloud.role_arrived = False
    with start(cloud, tmp_path, "--make") as head:
        assert head.stderr is not None
        assert head.stderr.readline() == "tyard-munge-key: not yet: HTTPError: HTTP Error 403: Forbidden\n"
        assert cloud.secret is None
        cloud.role_arrived = True
        assert (head.communicate(timeout=300), head.returncode) == (("", ""), 0)

    assert cloud.secret is not None


def test_the_key_is_told_to_nobody(cloud: Cloud, tmp_path: Path) -> None:
    """What a unit prints is in the journal, and what is on a command line is in the list of processes."""
    said = fetch(cloud, tmp_path, "--make")

    assert cloud.secret is not None
    assert cloud.secret not in "".join(said)
