"""What Slurm is told of a workspace: its compute targets as partitions, their nodes as machines yet to be made."""

from __future__ import annotations

from infra import node_config
from infra.settings import Settings
from infra.sizes import find
from infra.slurm_config import Node, Partition, SlurmConfig

MEMORY_SHARE = 0.95
"""
Of a size's memory. What the host and the kernel keep is not documented, and a node that reports less than Slurm was
told is drained, as one was that had 2 % less: https://github.com/Azure/az-hop/issues/686
"""
SUSPEND_TIMEOUT_S = 330
"""Until a node's name may start again: the five minutes that a machine may take to go, were its watcher to fail."""


def slurm_config(settings: Settings, head_host: str, head_address: str) -> SlurmConfig:
    """
    The cluster of a stack, for the Slurm of Ubuntu 24.04, which is 23.11. head_host: the head's host name.

    Nodes are named for their compute target and numbered, from 1 to its maxNodes. They are lines of slurm.conf, not
    made when they register: a partition without nodes calls no ResumeProgram.
    """
    nodes, partitions = [], []
    per_cpu = []
    for index, cluster in enumerate(settings.clusters):
        size = find(cluster.vm_size)
        if size is None:  # the settings' own checks let no unknown size through
            raise ValueError(f"no size {cluster.vm_size}")
        memory = int(size.memory_gib * 1024 * MEMORY_SHARE)
        names = f"{cluster.name}-[1-{cluster.max_nodes}]"
        nodes.append(Node(names=names, cpus=size.vcpu, memory_mib=memory, gpus=size.gpu_count, state="CLOUD"))
        partitions.append(Partition(name=cluster.name, nodes=names, default=index == 0))
        per_cpu.append(memory // size.vcpu)
    return SlurmConfig(
        cluster=settings.workspace_name,
        head_host=head_host,
        head_address=head_address,
        nodes=tuple(nodes),
        partitions=tuple(partitions),
        memory_per_cpu_mib=min(per_cpu),
        resume_program=f"{node_config.PROGRAMS}-resume",
        suspend_program=f"{node_config.PROGRAMS}-suspend",
        resume_fail_program=f"{node_config.PROGRAMS}-fail",
        job_start_program=f"{node_config.PROGRAMS}-job-start",
        suspend_timeout_s=SUSPEND_TIMEOUT_S,
    )
