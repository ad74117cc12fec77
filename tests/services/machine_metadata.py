"""The metadata service of one machine, answering as Azure documents, and the boot scripts that ask it."""

import base64
import http.server
import json
import os
import socketserver
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import yaml

from infra import node_config
from infra.node_config import Kind

ADDRESS = "10.40.128.4"


class _Handler(http.server.BaseHTTPRequestHandler):
    server: "Metadata"

    def do_GET(self) -> None:
        service, path = self.server, self.path.partition("?")[0]
        service.asked.append(path)
        assert self.headers["Metadata"] == "true"
        match path.removeprefix("/metadata/"):
            case "instance/compute/userData":
                data = base64.b64encode(json.dumps(service.told).encode())
            case "instance/compute/tagsList":
                data = json.dumps([{"name": key, "value": value} for key, value in service.tags.items()]).encode()
                service.looked.set()
            case "scheduledevents":
                data = json.dumps({"DocumentIncarnation": 1, "Events": service.events}).encode()
            case what:
                assert what == "instance"
                interface = {"ipv4": {"ipAddress": [{"privateIpAddress": ADDRESS}]}}
                about = {"compute": {"name": service.name}, "network": {"interface": [interface]}}
                data = json.dumps(about).encode()
        self._answer(data)

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        for request in asked["StartRequests"]:
            self.server.events[:] = [one for one in self.server.events if one["EventId"] != request["EventId"]]
            self.server.let_go.append(request["EventId"])
        self._answer(b"")
        self.server.has_let_go.set()

    def _answer(self, data: bytes) -> None:
        self.send_response(200 if self.server.up else 503)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        pass


class Metadata(socketserver.ThreadingMixIn, http.server.HTTPServer):
    """
    name, tags: the machine's; told: its user data; up: whether the service answers yet; events: that are announced;
    let_go: ids of those that Azure was told to go on with.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.name = "gpucluster_0a1b2c3d"
        self.tags = {"workspace": "dev"}
        self.told: dict[str, Any] = {"headAddress": "10.40.0.4", "share": None}
        self.up = True
        self.asked: list[str] = []
        self.looked = threading.Event()
        self.events: list[dict[str, Any]] = []
        self.let_go: list[str] = []
        self.has_let_go = threading.Event()

    def announce(self, kind: str, within_s: float | None, machine: str | None = None) -> str:
        """
        An event as https://learn.microsoft.com/azure/virtual-machines/linux/scheduled-events has it; its id.

        within_s: None for one that has begun; machine: another one's, whose events this one hears of too.
        """
        when = datetime.now(UTC) + timedelta(seconds=within_s or 0)
        event = {
            "EventId": f"C7061BAC-AFDC-4513-B24B-{len(self.events):012}",
            "EventType": kind,
            "ResourceType": "VirtualMachine",
            "Resources": [machine or self.name],
            "EventStatus": "Scheduled" if within_s is not None else "Started",
            "NotBefore": format_datetime(when, usegmt=True) if within_s is not None else "",
            "Description": "",
            "EventSource": "Platform",
            "DurationInSeconds": -1,
        }
        self.events.append(event)
        return str(event["EventId"])


def script(kind: Kind, name: str, folder: Path) -> Path:
    """A script as a machine of that kind gets it."""
    files = {file["path"]: file["content"] for file in yaml.safe_load(node_config.cloud_config(kind))["write_files"]}
    path = folder / name
    path.write_text(files[f"/usr/local/sbin/{name}"])
    return path


def start(metadata: Metadata, path: Path, *options: str, **environ: str) -> subprocess.Popen[str]:
    # A proxy of the network must not see what is meant for the metadata service.
    blocked = {"http_proxy": "http://127.0.0.1:9", "no_proxy": "127.0.0.1"}
    return subprocess.Popen(
        [sys.executable, "-I", str(path), *options, "--pause", "0.01", "--metadata", metadata.url],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **blocked, **environ},
    )


def commands(folder: Path, **scripts: str) -> str:
    """
    A PATH with commands in front that write down how they were called, a line in `ran`, and then run this script.
    """
    place = folder / "commands"
    place.mkdir(exist_ok=True)
    for name, text in scripts.items():
        (place / name).write_text(f'#!/bin/sh\necho "{name} $*" >>"{folder}/ran"\n{text}\n')
        (place / name).chmod(0o755)
    (folder / "ran").write_text("")
    return f"{place}:{os.environ['PATH']}"
