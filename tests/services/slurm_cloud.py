"""
A Slurm cluster that starts with no node, on the stand-in for Azure's compute service.

Slurm calls the real programs, as the head's wrappers do; they ask the stand-in for machines by Azure's own client,
over HTTPS, signed in as a managed identity. A machine that is given a node's name boots: a namespace of this
computer, which runs what a node runs, boot script and watcher among it.
"""

import base64
import json
import os
import queue
import shlex
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import yaml

from infra import node_config
from infra.slurm_config import Partition, SlurmConfig
from services.azure_compute import GROUP, SET, SIZE, SUBSCRIPTION, Compute
from services.azure_sign_in import Identity
from services.certificates import certificate_files
from services.slurm import CORES, SlurmCluster

TENANT = "33333333-3333-3333-3333-333333333333"
_PROGRAM = """#!/bin/sh
{environ}
exec {python} -m tensoryard node {what} "$1"
"""
# The metadata service is on the bridge here, and slurmctld at a port of its own. Slurm's settings come from the head:
# /run has the socket by which slurmd asks for them, and is where it leaves them for others.
_BOOT = """
mount -t tmpfs tmpfs /run
mkdir /run/munge
mount --bind {munge} /run/munge
unset SLURM_CONF
hostname machine
folder={folder}/$2
python3 -I {scripts}/tyard-node --metadata {metadata} --pause 0.1 --folder $folder --share "" --user ""
python3 -I {scripts}/tyard-events --metadata {metadata} --pause 0.2 --folder $folder &
exec slurmd -D $(sed 's/SLURMD_OPTIONS=//; s/:6817/:{port}/' $folder/slurmd)
"""


class CloudCluster(SlurmCluster):
    """
    Nodes `node-1` to `node-N` of the compute target `node`, there when a job needs them.

    azure: the stand-in; log: what the programs said; boots: whether machines that are given a name come up.
    """

    starts_nodes = False
    links = "tyc"

    def __init__(self, count: int = 3, resume_timeout_s: int = 30) -> None:
        """resume_timeout_s: within which a node has to come up, on a busy machine too."""
        self.boots = True
        self._resume_timeout_s = resume_timeout_s
        self._work: queue.Queue[Callable[[], None] | None] = queue.Queue()
        # Nodes end with the thread that started them: one that lives as long as the cluster.
        self._worker = threading.Thread(target=self._work_off, daemon=True)
        self._worker.start()
        super().__init__(count)

    def close(self) -> None:
        self._work.put(None)
        self._worker.join()
        super().close()
        for service in (self.azure, self._identity, self._metadata):
            service.close()

    @property
    def log(self) -> str:
        path = self.folder / "log" / "nodes.log"
        return path.read_text() if path.exists() else ""

    def announce(self, node: str, kind: str, within_s: float) -> None:
        """Azure announces an event for a node's machine, as its metadata service tells it."""
        self._metadata.announce(node, kind, within_s)

    def let_go(self, node: str) -> bool:
        """Whether the machine has told Azure to go on."""
        return node in self._metadata.let_go

    def tyard(self, *words: str) -> str:
        """What `tyard` said on the head, both streams together."""
        command = " ".join(["exec", sys.executable, "-m", "tensoryard", *map(shlex.quote, words), "2>&1"])
        return self.run("sh", "-c", f"{self._program_environ}\n{command}", check=False)

    def _lay_out(self) -> None:
        files = certificate_files(self._folder("cloud"))
        self.azure = Compute(files)
        self.azure.looks_to_go = 0
        self.azure.on_named = lambda machine, node: self._work.put(lambda: self._boot(node))
        self.azure.on_deleted = lambda machine, node: self._work.put(lambda: self._end(node))
        self._identity = Identity(TENANT)
        environ = {
            **self._identity.environ,
            "AZURE_TOKEN_CREDENTIALS": "ManagedIdentityCredential",
            "REQUESTS_CA_BUNDLE": str(files[0]),
            "TYARD_RESOURCE_MANAGER": self.azure.url,
            "TYARD_WORKSPACE": str(self._folder("workspace")),
            "TYARD_NODES": str(self._folder("nodes")),
            "TYARD_NODES_LOG": str(self.folder / "log" / "nodes.log"),
            "SLURM_CONF": str(self.conf),
            "PATH": self.environ["PATH"],
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        }
        self._program_environ = "\n".join(f"export {name}={shlex.quote(value)}" for name, value in environ.items())
        (self.folder / "workspace" / "workspace.json").write_text(json.dumps({"azure": _WORKSPACE}))
        for what in ("resume", "suspend", "fail"):
            program = self._folder("programs") / what
            program.write_text(_PROGRAM.format(environ=self._program_environ, python=sys.executable, what=what))
            program.chmod(0o755)
        for name in ("tyard-node", "tyard-events"):
            (self._folder("scripts") / name).write_text(_script("worker", name))
        starts_jobs = self.folder / "programs" / "job-start"
        starts_jobs.write_text(_script("head", "tyard-job-start").replace("\n", f"\n{self._program_environ}\n", 1))
        starts_jobs.chmod(0o755)
        super()._lay_out()
        # The bridge has its address by now.
        head = str(self.network.network_address + 1)
        self._metadata = Metadata(head, self)
        self.node_runs = _BOOT.format(
            munge=self.folder / "munge",
            folder=self._folder("booted"),
            scripts=self.folder / "scripts",
            metadata=self._metadata.url,
            port=self.port,
        )

    def _hosts_of(self, name: str) -> dict[str, str]:
        """As in a network of Azure's: a node knows the names of the head and of itself, and of no other node."""
        return {
            known: where for known, where in super()._hosts_of(name).items() if known not in {*self.names} - {name}
        }

    def _folder(self, name: str) -> Path:
        path = self.folder / name
        path.mkdir(exist_ok=True)
        return path

    def _config(self, head: str, addresses: list[str], gpu: Path) -> SlurmConfig:
        made = super()._config(head, addresses, gpu)
        programs = self.folder / "programs"
        return replace(
            made,
            nodes=tuple(
                replace(node, state="CLOUD", gpus=1, gpu_files=str(gpu), addresses="") for node in made.nodes
            ),
            partitions=(Partition(name="node", nodes=",".join(self.names), default=True),),
            slurmctld_parameters=(
                *SlurmConfig.slurmctld_parameters,
                "cloud_reg_addrs",  # as from 23.11 on, where it goes without saying
                "power_save_interval=1",
                "power_save_min_interval=0",
            ),
            resume_program=str(programs / "resume"),
            suspend_program=str(programs / "suspend"),
            resume_fail_program=str(programs / "fail"),
            job_start_program=str(programs / "job-start"),
            resume_timeout_s=self._resume_timeout_s,
            suspend_time_s=6,
            suspend_timeout_s=4,
        )

    def _work_off(self) -> None:
        while (work := self._work.get()) is not None:
            work()

    def _boot(self, node: str) -> None:
        if self.boots:
            (self.folder / "booted" / node / "slurmd").unlink(missing_ok=True)
            self.start_node(node)

    def _end(self, node: str | None) -> None:
        if node in self.up:
            self.kill_node(node)

    def machine_of(self, address: str) -> tuple[str, dict[str, str]]:
        """The name and tags of the machine that has an address."""
        number = int(address.rpartition(".")[2]) - 1
        node = self.names[number - 1]
        for name, machine in self.azure.machines.items():
            if machine["tags"].get("slurm-node") == node and self.azure.nodes.get(name):
                return name, machine["tags"]
        return node, {}


def _script(kind: node_config.Kind, name: str) -> str:
    """A script of a machine, as its cloud-config writes it."""
    files = yaml.safe_load(node_config.cloud_config(kind))["write_files"]
    (text,) = (file["content"] for file in files if file["path"] == f"/usr/local/sbin/{name}")
    return str(text)


class Metadata:
    """The metadata service of every machine, told apart by address: each of Azure's machines has its own."""

    def __init__(self, address: str, cluster: CloudCluster) -> None:
        self.let_go: set[str] = set()
        self._events: dict[str, dict[str, Any]] = {}
        service = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                name, tags = cluster.machine_of(self.client_address[0])
                path = self.path.partition("?")[0].removeprefix("/metadata/")
                if self.headers["Metadata"] != "true":
                    self._answer(400, {})
                elif path == "scheduledevents":
                    self._answer(200, {"DocumentIncarnation": 1, "Events": service.events(name, tags)})
                elif path == "instance/compute/tagsList":
                    self._answer(200, [{"name": key, "value": value} for key, value in tags.items()])
                elif path == "instance/compute/userData":
                    known = json.dumps({"headAddress": service._server.server_address[0]})
                    self._answer(200, None, base64.b64encode(known.encode()))
                else:
                    ip = {"ipv4": {"ipAddress": [{"privateIpAddress": self.client_address[0]}]}}
                    self._answer(200, {"compute": {"name": name}, "network": {"interface": [ip]}})

            def do_POST(self) -> None:
                asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                for request in asked["StartRequests"]:
                    node = next(
                        node for node, event in service._events.items() if event["EventId"] == request["EventId"]
                    )
                    del service._events[node]
                    service.let_go.add(node)
                self._answer(200, None, b"")

            def _answer(self, status: int, body: Any, data: bytes | None = None) -> None:
                data = json.dumps(body).encode() if data is None else data
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                with suppress(BrokenPipeError):
                    self.wfile.write(data)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer((address, 0), Handler)
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        self.url = f"http://{address}:{self._server.server_address[1]}"

    def announce(self, node: str, kind: str, within_s: float) -> None:
        from datetime import UTC, datetime, timedelta
        from email.utils import format_datetime

        self.let_go.discard(node)
        # As https://learn.microsoft.com/azure/virtual-machines/linux/scheduled-events has it.
        self._events[node] = {
            "EventId": f"C7061BAC-AFDC-4513-B24B-{os.urandom(6).hex().upper()}",
            "EventType": kind,
            "ResourceType": "VirtualMachine",
            "EventStatus": "Scheduled",
            "NotBefore": format_datetime(datetime.now(UTC) + timedelta(seconds=within_s), usegmt=True),
            "Description": "",
            "EventSource": "Platform",
            "DurationInSeconds": -1,
        }

    def events(self, machine: str, tags: dict[str, str]) -> list[dict[str, Any]]:
        """Of every machine of the set: all of them hear of all."""
        return [
            {**event, "Resources": [machine if node == tags.get("slurm-node") else f"other-{node}"]}
            for node, event in self._events.items()
        ]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


_WORKSPACE = {
    "name": "dev",
    "subscriptionId": SUBSCRIPTION,
    "tenantId": TENANT,
    "location": "eastus",
    "resourceGroup": GROUP,
    "storageAccount": "none",
    "blobEndpoint": "https://none.blob.core.windows.net/",
    "containers": {"data": "data", "runs": "runs", "models": "models"},
    "registry": {"name": "none", "loginServer": "none.azurecr.io"},
    "vault": {"name": "none", "uri": "https://none.vault.azure.net/"},
    "head": {"name": "head", "privateAddress": "10.40.0.4"},
    "clusters": {
        "node": {
            "vmSize": SIZE,
            "maxNodes": 3,
            "spot": True,
            "scaleSet": SET,
            "gpuCount": 1,
            "gpuModel": "NVIDIA T4",
            "vcpu": CORES,  # as this computer's nodes are
            "memoryGib": 28,
        }
    },
}
