"""What a new cluster is to be, and its way into the stack that the Pulumi program makes it from."""

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from tensoryard.errors import NotFoundError, UsageError

if TYPE_CHECKING:
    from tensoryard.workspace import Workspace

STACK = "TYARD_STACK"
Priority = Literal["dedicated", "lowpriority"]
# What Azure ML takes too, and where it is set here.
_ELSEWHERE = {
    "admin_username": "nobody logs in to nodes; `tensoryard:sshPublicKey` lets people in to the head",
    "admin_user_password": "nobody logs in to nodes; `tensoryard:sshPublicKey` lets people in to the head",
    "admin_user_ssh_key": "`pulumi config set tensoryard:sshPublicKey` lets people in to the head",
    "vnet_resourcegroup_name": "the program makes the network: `tensoryard:addressSpace`",
    "vnet_name": "the program makes the network: `tensoryard:addressSpace`",
    "subnet_name": "the program makes the network: `tensoryard:nodesSubnet`",
    "tags": "`tensoryard:tags` are on all that the program makes",
    "identity_type": "each cluster has an identity of its own",
    "identity_id": "each cluster has an identity of its own",
    "location": "a stack has one region: `azure-native:location`",
}
# Accepted as Azure ML's own defaults say it, and when it says what is so here.
_AS_IT_IS = {"remote_login_port_public_access": ("NotSpecified", "Disabled"), "enable_node_public_ip": (True, False)}
_IDLE_S = 300


class AmlComputeProvisioningConfiguration(msgspec.Struct, frozen=True, kw_only=True):
    """What a cluster is to be; made by AmlCompute.provisioning_configuration."""

    vm_size: str
    max_nodes: int
    vm_priority: Priority = "dedicated"


def configuration(
    vm_size: str, vm_priority: str, min_nodes: int, max_nodes: int | None, others: dict[str, Any]
) -> AmlComputeProvisioningConfiguration:
    """Raises UsageError for what cannot be so here, with where it is set."""
    called = "AmlCompute.provisioning_configuration"
    if not isinstance(vm_size, str) or not vm_size:
        raise UsageError(f"{called}: vm_size: got {vm_size!r}", "name a size, such as 'STANDARD_NC4AS_T4_V3'")
    if vm_priority not in ("dedicated", "lowpriority"):
        raise UsageError(
            f"{called}: vm_priority: got {vm_priority!r}", "'dedicated', or 'lowpriority' for Spot machines"
        )
    if not isinstance(max_nodes, int) or isinstance(max_nodes, bool) or max_nodes < 1:
        raise UsageError(f"{called}: max_nodes: got {max_nodes!r}", "the most nodes at once, from 1 to 1000")
    if min_nodes != 0:
        raise UsageError(
            f"{called}: min_nodes: got {min_nodes!r}, and nodes run only while runs wait for them", "leave it out"
        )
    for name, value in others.items():
        if value is None or name == "description" or value in _AS_IT_IS.get(name, ()):
            continue
        if name == "idle_seconds_before_scaledown":
            print(f"{called}: idle_seconds_before_scaledown: nodes that are idle go after {_IDLE_S} s, not {value} s")
            continue
        where = _ELSEWHERE.get(name)
        if where is None:
            raise UsageError(f"{called}: there is no argument `{name}`", "vm_size, vm_priority and max_nodes")
        raise UsageError(f"{called}: `{name}` means nothing here", where)
    return AmlComputeProvisioningConfiguration(
        vm_size=vm_size,
        max_nodes=max_nodes,
        vm_priority="lowpriority" if vm_priority == "lowpriority" else "dedicated",
    )


class Declared(msgspec.Struct, frozen=True):
    """Where a cluster was written. file: of the stack; changed: False when it stood there already."""

    stack: str
    file: Path
    vm_size: str
    changed: bool

    @property
    def commands(self) -> str:
        """What makes it, and lets this folder know of it."""
        return f"pulumi up --stack {self.stack} && tyard workspace connect --stack {self.stack}"


def declare(workspace: "Workspace", name: str, asked: AmlComputeProvisioningConfiguration) -> Declared:
    """
    Write a cluster into the stack of a workspace, $TYARD_STACK or the one of its name and region.

    Raises UsageError with the program's own words for what it refuses, NotFoundError outside of its checkout.
    """
    import subprocess

    root = _checkout(Path.cwd())
    stack = os.environ.get(STACK)
    azure = workspace.settings().azure
    if stack is None and azure is None:
        raise UsageError(
            f"ComputeTarget.create: the workspace {workspace.root} is a folder, so no stack is known to be its own",
            f"export {STACK}=dev",
        )
    cluster: dict[str, Any] = {"name": name, "vmSize": asked.vm_size, "maxNodes": asked.max_nodes}
    cluster |= {"spot": True} if asked.vm_priority == "lowpriority" else {}
    given: dict[str, Any] = {"cluster": cluster}
    given |= {"workspace": azure.name, "location": azure.location} if azure is not None else {}
    argv = [sys.executable, "-m", "infra.settings", "--add-cluster", json.dumps(given)]
    done = subprocess.run([*argv, *([stack] if stack else [])], cwd=root, capture_output=True, text=True, check=False)
    if done.returncode:
        # The program's errors say what to do as their last sentence.
        raise UsageError(f"ComputeTarget.create: {done.stderr.strip().splitlines()[-1]}")
    found = json.loads(done.stdout)
    file = root / "stacks" / f"Pulumi.{found['stack']}.yaml"
    return Declared(found["stack"], file, found["vmSize"], found["changed"])


def _checkout(start: Path) -> Path:
    """The nearest folder at or above that holds the workspace program."""
    for folder in (start, *start.parents):
        if (folder / "Pulumi.yaml").is_file() and (folder / "infra" / "settings" / "add_cluster.py").is_file():
            return folder
    raise NotFoundError(
        f"ComputeTarget.create: no workspace program at or above {start}, and a cluster is made by it",
        "start in a checkout of the Tensoryard repository",
    )
