"""The network of nodes that are namespaces of this machine, and what killed tests have left of it."""

import ipaddress
import json
import os
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path


def path_of_daemons() -> str:
    """Debian keeps daemons where a person's PATH may not lead."""
    return os.environ.get("PATH", "") + ":/usr/sbin:/sbin"


def ip(*words: str) -> None:
    done = subprocess.run(
        ["ip", *words], env={**os.environ, "PATH": path_of_daemons()}, capture_output=True, text=True
    )
    assert done.returncode == 0, f"ip {' '.join(words)}: {done.stderr}"


def links() -> Iterable[dict[str, str]]:
    argv = ["ip", "-json", "addr"]
    done = subprocess.run(
        argv, env={**os.environ, "PATH": path_of_daemons()}, capture_output=True, text=True, check=True
    )
    found: list[dict[str, str]] = json.loads(done.stdout or "[]")
    return found


def free_network() -> ipaddress.IPv4Network:
    """Addresses that no card of this machine is in."""
    taken = [
        ipaddress.ip_interface(f"{entry['local']}/{entry['prefixlen']}").network
        for link in links()
        for entry in link.get("addr_info", ())
        if entry.get("family") == "inet"
    ]
    for number in range(os.getpid() % 200, 256 + os.getpid() % 200):
        network = ipaddress.IPv4Network(f"10.213.{number % 256}.0/24")
        if not any(network.overlaps(other) for other in taken):
            return network
    raise AssertionError("no network of 10.213.0.0/16 is free on this machine")


def remove_what_the_dead_left() -> None:
    """What tests that were killed have left."""
    for link in links():
        name = link["ifname"]
        if name.startswith(("tys", "tyc", "tya")) and name[3:].isdigit() and not Path(f"/proc/{name[3:]}").exists():
            subprocess.run(["ip", "link", "delete", name], env={**os.environ, "PATH": path_of_daemons()}, check=False)
    for folder in Path("/tmp").glob("tyard-slurm-*-*"):
        if not Path(f"/proc/{folder.name.split('-')[2]}").exists():
            subprocess.run(["umount", folder / "small"], capture_output=True, check=False)
            shutil.rmtree(folder, ignore_errors=True)
