"""What a new cluster is to be, in Azure ML's words and in those of the stack that it is made from."""

from typing import Any, Literal

import msgspec

from tensoryard.azureml.core.compute_status import IDLE_S
from tensoryard.errors import UsageError

_MOST = "the most nodes at once, from 1 to 1000"
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
    if max_nodes is None:
        raise UsageError(f"{called}: max_nodes: got None", _MOST)
    check_scale(called, min_nodes, max_nodes, others.pop("idle_seconds_before_scaledown", None))
    for name, value in others.items():
        if value is None or name == "description" or value in _AS_IT_IS.get(name, ()):
            continue
        where = _ELSEWHERE.get(name)
        if where is None:
            raise UsageError(f"{called}: there is no argument `{name}`", "vm_size, vm_priority and max_nodes")
        raise UsageError(f"{called}: `{name}` is not supported", where)
    return AmlComputeProvisioningConfiguration(
        vm_size=vm_size,
        max_nodes=max_nodes,
        vm_priority="lowpriority" if vm_priority == "lowpriority" else "dedicated",
    )


def check_scale(called: str, min_nodes: object, max_nodes: object, idle_s: object) -> dict[str, Any]:
    """
    Numbers of nodes, None for those that are to stay, as the keys of a cluster in a stack's file.

    Raises UsageError for what cannot be so here.
    """
    if max_nodes is not None and (not isinstance(max_nodes, int) or isinstance(max_nodes, bool) or max_nodes < 1):
        raise UsageError(f"{called}: max_nodes: got {max_nodes!r}", _MOST)
    if min_nodes not in (None, 0):
        raise UsageError(
            f"{called}: min_nodes: got {min_nodes!r}, and nodes run only while runs wait for them", "leave it out"
        )
    if idle_s not in (None, IDLE_S):
        print(f"{called}: idle_seconds_before_scaledown: nodes that are idle go after {IDLE_S} s, not {idle_s} s")
    return {} if max_nodes is None else {"maxNodes": max_nodes}


def as_the_stack_says(name: str, asked: AmlComputeProvisioningConfiguration) -> dict[str, Any]:
    """The keys of a new cluster in a stack's file."""
    cluster: dict[str, Any] = {"name": name, "vmSize": asked.vm_size, "maxNodes": asked.max_nodes}
    return cluster | ({"spot": True} if asked.vm_priority == "lowpriority" else {})
